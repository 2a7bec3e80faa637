"""Ridge regression to whatever a generator takes: the linear baseline of reconstruction.

    features_g = ridge(X) -> g,   for every input g of the generator
    picture    = generator(features)

With the generator ``linear_pixel`` the picture itself is decoded, pixel by pixel, small and
blurred, and nothing is invented. With ``nearest_image`` the answer is the training picture whose
vector is nearest to the decoded one: it can be sharp and is never right on new pictures. Both bound
from below what a generative model has to beat before its sharpness means anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phosphene import _registry
from phosphene._registry import register
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.methods._reconstructor import Reconstructor
from phosphene.stimuli.bank import FeatureBank


@register("reconstructor", "linear")
@dataclass(eq=False, repr=False, kw_only=True)
class LinearReconstructor(Reconstructor):
    """Ridge regression to every input of a generator.

    Parameters
    ----------
    using : str or Generator
        A registered generator, such as ``linear_pixel``, ``nearest_image`` (needs the bank of
        training pictures in ``fit``) or ``img2img``; or one that is made already, which
        ``from_pretrained`` must then be given again.
    settings : mapping, optional
        Its parameters, for one that is named.
    rois, n_voxels, alphas, rescale, average_repetitions, standardise, batch, device, random_state
        As in every reconstructor.

    Examples
    --------
    >>> from phosphene.testing import tiny_images, tiny_problem
    >>> problem, pictures = tiny_problem(), tiny_images()
    >>> model = LinearReconstructor(settings={"size": 8}).fit(problem.train, pictures)
    >>> model.reconstruct(problem.test).images.shape
    (20, 1, 8, 8, 3)
    """

    using: Any = "linear_pixel"
    settings: Mapping[str, Any] | None = None

    def _open(self, stimuli: StimulusSet, bank: FeatureBank | None) -> None:
        if self.using != "nearest_image":
            return
        if bank is None:
            raise DataError(
                "nearest_image compares vectors of pictures",
                found="no bank",
                expected="fit(train, stimuli, bank)",
            )
        nearest = _registry.get("generator", "nearest_image")
        self._generator = nearest(bank.select(stimuli.ids), stimuli, **dict(self.settings or {}))

    def _make_generator(self) -> Any:
        if not isinstance(self.using, str):
            return self.using
        if self.using == "nearest_image":
            raise DataError(
                "the training pictures are not saved with a model",
                fix="from_pretrained(folder, using=NearestImage(bank, stimuli)), with the training "
                "pictures",
            )
        return _registry.get("generator", self.using)(**dict(self.settings or {}))

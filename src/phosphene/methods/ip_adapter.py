"""ip_adapter: brain to image embedding, a diffusion prior, then an image-prompt generator.

The route of ATM: Li et al., "Visual Decoding and Reconstruction via EEG Embeddings with Guided
Diffusion", NeurIPS 2024, arXiv:2403.07721; the adapter is that of Ye et al., arXiv:2308.06721.

    b  = ridge(X)                   decoded image embedding, a regression to the mean
    v ~ prior(v | b)                perceptron U-Net 1024-512-256-128-64, 50 steps, guidance 5
    picture = generator(v)          diffusion under the image embedding, empty prompt

The prior is trained with the condition dropped in one case of ten, see
`phosphene.reconstruction.prior`.

Where we differ from paper and released code
--------------------------------------------
- b comes from ridge regression, for every modality; the paper has its contrastive EEG encoder.
- The prior learns from decoded vectors of trials that the regression had not seen: five folds of
  whole concepts, each decoded by the fit to the others [ours]. Predictions for the regression's own
  training trials are far too good, and a prior that trusts them trusts too much at the test.
- Vectors are standardised before noise is added; the network predicts the velocity, not the noise,
  and samples stay in the range of training [ours]: see `phosphene.reconstruction.prior` for why.
- The paper's blurred image and caption branches are left out.
- SDXL-turbo with 4 steps in the paper; here what the source is, with ``steps`` and ``guidance``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupKFold

from phosphene._registry import register
from phosphene.errors import DataError
from phosphene.methods._feature_decoder import FeatureDecoder, Floats
from phosphene.methods._reconstruction_files import Finished, pixels
from phosphene.methods._reconstructor import Features, Reconstructor
from phosphene.methods._reconstructor_checks import FOLDS, fold_groups
from phosphene.reconstruction.ip_adapter import IPAdapter
from phosphene.reconstruction.prior import WIDTHS, DiffusionPrior


@register("reconstructor", "ip_adapter")
@dataclass(eq=False, repr=False, kw_only=True)
class IPAdapterReconstructor(Reconstructor):
    """Decoded image embedding through a diffusion prior into an image-prompt generator (ATM).

    Parameters
    ----------
    source, adapter, encoder, scale
        Of `phosphene.reconstruction.ip_adapter.IPAdapter`: the diffusion model (``demo``, a folder
        or a hub id), and for Stable Diffusion the adapter with the encoder of its vectors.
    steps, guidance : int, float
        Denoising steps of the generator and the weight of the image embedding.
    precision : str
        Number format of the diffusion network.
    prior : bool
        Draw image embeddings from the diffusion prior; False hands on the decoded mean.
    prior_widths, prior_epochs, prior_steps, prior_guidance, condition_drop
        Of the prior.
    rois, n_voxels, alphas, rescale, average_repetitions, standardise, batch, device, random_state
        As in every reconstructor; ``rescale`` matters without the prior only.

    Attributes
    ----------
    prior_ : DiffusionPrior
        The fitted prior.

    Examples
    --------
    >>> model = IPAdapterReconstructor(prior_epochs=50)
    >>> model.fit(train, pictures).reconstruct(test, n=4)  # doctest: +SKIP
    """

    source: Any = "demo"
    adapter: Any = None
    encoder: Any = None
    scale: float = 1.0
    steps: int = 50
    guidance: float = 5.0
    precision: str = "auto"
    prior: bool = True
    prior_widths: Sequence[int] = WIDTHS
    prior_epochs: int = 150
    prior_steps: int = 50
    prior_guidance: float = 5.0
    condition_drop: float = 0.1

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "with the prior": {},
        "without the prior": {"prior": False},
    }

    def _make_generator(self) -> Any:
        return IPAdapter(
            self.source,
            self.adapter,
            encoder=self.encoder,
            scale=self.scale,
            steps=self.steps,
            guidance=self.guidance,
            batch=self.batch,
            device=self.device,
            precision=self.precision,
        )

    def _groups(self) -> tuple[str, ...]:
        return ("image",)

    def _new_prior(self) -> DiffusionPrior:
        return DiffusionPrior(
            self.prior_widths,
            epochs=self.prior_epochs,
            condition_drop=self.condition_drop,
            steps=self.prior_steps,
            guidance=self.prior_guidance,
            random_state=self.random_state,
            device=self.device,
        )

    def _after_fit(
        self, X: Floats, targets: Features, trials: pd.DataFrame, *, progress: bool
    ) -> None:
        if not self.prior:
            return
        vectors, groups = targets["image"], fold_groups(trials)
        if len(set(groups)) < FOLDS:
            raise DataError(
                "the prior learns from held-out trials, in folds of whole stimuli",
                found=f"{len(set(groups))} stimuli",
                expected=f"{FOLDS} or more",
                fix="prior=False",
            )
        conditions = np.empty_like(vectors)
        for train, test in GroupKFold(FOLDS).split(X, groups=groups):
            fold = FeatureDecoder.fit(
                X[train],
                vectors[train],
                self.decoders_["image"].columns,
                alphas=self.alphas,
                n_voxels=self.n_voxels,
                groups=groups[train],
                device=self.device,
                progress=progress,
            )
            conditions[test] = fold.predict(X[test])
        self.prior_ = self._new_prior().fit(conditions, vectors, progress=progress)

    def _make(self, features: Features, names: list[str], n: int, seed: int) -> list[Finished]:
        vectors, ids = features["image"], names
        if self.prior:
            drawn = self.prior_.sample(vectors, n, seed, ids=names)
            vectors = drawn.reshape(-1, drawn.shape[2])
            # Each sample is a vector of its own, and has noise of its own.
            ids = [f"{name}/{k}" for name in names for k in range(n)]
        made = self.generator_.generate(
            image_embeds=vectors, n=1 if self.prior else n, seed=seed, ids=ids, progress=False
        )
        pictures = made.reshape(len(names), n, *made.shape[2:])
        return [Finished({"images": pixels(own)}) for own in pictures]

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        if not self.prior:
            return {}
        return {f"prior.{name}": array for name, array in self.prior_.arrays().items()}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        if self.prior:
            own = {name.removeprefix("prior."): array for name, array in arrays.items()}
            self.prior_ = self._new_prior().restore(own)

    def _notes(self) -> tuple[str, ...]:
        said = "drawn from a diffusion prior" if self.prior else "the decoded mean"
        return (*super()._notes(), f"image embeddings: {said}")

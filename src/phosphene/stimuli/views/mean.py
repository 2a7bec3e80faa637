"""Views composed in the space of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from phosphene import _registry
from phosphene.errors import DataError
from phosphene.stimuli.views._base import Vectors, View, ViewInput
from phosphene.stimuli.views._names import SHORTHANDS, expand_views, split_arguments
from phosphene.stimuli.views.gaussian import Gaussian
from phosphene.stimuli.views.lowres import LowRes
from phosphene.stimuli.views.mosaic import Mosaic
from phosphene.stimuli.views.noise import Noise


def augmentations() -> list[View]:
    """The four augmentations of NeuroBridge, which SSR names too.

    Examples
    --------
    >>> [view.name for view in augmentations()]
    ['gaussian(k=15)', 'noise(std=25)', 'lowres(scale=0.1)', 'mosaic(size=5)']
    """
    return [Gaussian(15), Noise(), LowRes(), Mosaic()]


SHORTHANDS["augmentations"] = augmentations


@_registry.register("view", "mean_of")
@dataclass(frozen=True)
class MeanOf(View):
    """The mean of the vectors of several views: composed after the encoder, not in the picture.

    Parameters
    ----------
    of : sequence of View or str
        At least two views; by default the four :func:`augmentations`, whose mean vector is the
        target of NeuroBridge and SSR.

    Examples
    --------
    >>> MeanOf(["original", "gaussian(15)"]).name
    'mean_of(original,gaussian(k=15))'
    >>> len(MeanOf().parts)
    4
    """

    of: tuple[View, ...] = ()
    kind: ClassVar[str] = "mean_of"

    def __init__(self, of: Iterable[str | View] | str | View = "augmentations") -> None:
        views = expand_views(of)
        if any(view.parts != (view,) for view in views):
            raise DataError(
                "mean_of takes views of a picture", found=", ".join(view.name for view in views)
            )
        if len(views) < 2:
            raise DataError("mean_of takes at least two views", found=views[0].name)
        object.__setattr__(self, "of", tuple(views))

    @property
    def params(self) -> dict[str, Any]:
        """Names of the parts."""
        return {"of": [view.name for view in self.of]}

    @property
    def name(self) -> str:
        """Canonical name with those of its parts."""
        return f"{self.kind}({','.join(view.name for view in self.of)})"

    @property
    def parts(self) -> tuple[View, ...]:
        """The views that it is the mean of."""
        return self.of

    def combine(self, vectors: Sequence[Vectors]) -> Vectors:
        """Mean over the parts, float32, shape (n, d)."""
        total = np.zeros(vectors[0].shape, dtype=np.float64)
        for part in vectors:
            total += part
        return (total / len(vectors)).astype(np.float32)

    def render(self, source: ViewInput) -> torch.Tensor:
        """Refuse: there is no picture of a mean of vectors."""
        raise DataError(
            f"{self.name} is a mean of vectors; there is no picture of it",
            fix="render its parts",
        )

    @classmethod
    def read(cls, arguments: Sequence[str], where: str) -> Self:
        """The view of the names of its parts, also in square brackets."""
        inner = ",".join(arguments).strip()
        if inner.startswith("[") and inner.endswith("]"):
            arguments = split_arguments(inner[1:-1], where)
        return cls(arguments) if arguments else cls()

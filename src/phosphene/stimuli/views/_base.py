"""What every view is, and rendering many of them at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.views._linear import gaussian_blur

Vectors = NDArray[np.float32]
VIEWS_VERSION = 1
"""Raised whenever a view of the same name and picture would come out differently."""


class ViewInput:
    """One batch of images with the blurred copies that several views share.

    Parameters
    ----------
    images : torch.Tensor, shape (B, 3, H, W)
        Float images in [0, 1].
    keys : sequence of str, optional
        What views that draw are seeded with, one per image: the content hash of the stimulus. The
        digest of the image's own values when not given.
    """

    def __init__(self, images: torch.Tensor, keys: Sequence[str] | None = None) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise DataError(
                "views take a batch of float images",
                found=f"{images.dtype} of shape {tuple(images.shape)}",
                expected="float of shape (batch, 3, height, width) in [0, 1]",
            )
        if keys is not None and len(keys) != len(images):
            raise DataError(
                "views take one key per image", found=len(keys), expected=f"{len(images)} keys"
            )
        self.images = images
        self._keys = keys
        self._blurred: dict[int, torch.Tensor] = {}

    @property
    def keys(self) -> Sequence[str]:
        """What views that draw are seeded with, one per image."""
        if self._keys is None:
            self._keys = [_digest(image) for image in self.images]
        return self._keys

    def blurred(self, k: int) -> torch.Tensor:
        """The images under a Gaussian of kernel ``k``, computed on first use."""
        if k not in self._blurred:
            self._blurred[k] = gaussian_blur(self.images, k)
        return self._blurred[k]


def _digest(image: torch.Tensor) -> str:
    values = image.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()


@dataclass(frozen=True)
class View:
    """Base of all views: parameters are the dataclass fields, ``kind`` is the registered name."""

    kind: ClassVar[str]

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def name(self) -> str:
        """Canonical name with every parameter, e.g. ``fovea(k=51,g=3,peak=0.5)``."""
        if not self.params:
            return self.kind
        return f"{self.kind}({','.join(f'{k}={_number(v)}' for k, v in self.params.items())})"

    @property
    def parts(self) -> tuple[View, ...]:
        """Views that go through the encoder; more than itself for views composed of vectors."""
        return (self,)

    def combine(self, vectors: Sequence[Vectors]) -> Vectors:
        """Vectors (n, d) of this view from those of its :attr:`parts`, in their order."""
        return vectors[0]

    def render(self, source: ViewInput) -> torch.Tensor:
        """Apply the view to a batch whose blurred copies may be shared with other views."""
        raise TypeError(f"{type(self).__name__} does not define render")

    def __call__(self, images: torch.Tensor, keys: Sequence[str] | None = None) -> torch.Tensor:
        """Apply the view.

        Parameters
        ----------
        images : torch.Tensor, shape (B, 3, H, W)
            Float images in [0, 1]; left as they are.
        keys : sequence of str, optional
            Content hash of each image, for views that draw; see :class:`ViewInput`.

        Returns
        -------
        torch.Tensor
            Same shape, type and device.
        """
        return self.render(ViewInput(images, keys))

    @classmethod
    def read(cls, arguments: Sequence[str], where: str) -> Self:
        """The view of arguments as written in a name: ``k=45``, or values in the fields' order."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        named = False
        for place, part in enumerate(arguments):
            key, equals, value = (text.strip() for text in part.partition("="))
            if not equals:
                if named or place >= len(fields):
                    raise DataError(
                        f"cannot read {part!r} in view {where!r}", expected="parameter=value"
                    )
                key, value = list(fields)[place], key
            else:
                named = True
            if key not in fields:
                raise UnknownNameError(
                    f"view {cls.kind!r} has no parameter {key!r}",
                    expected="one of " + ", ".join(fields) if fields else "no parameters",
                    fix=_registry.did_you_mean(key, fields),
                )
            if key in values:
                raise DataError(f"view {where!r} sets {key!r} twice")
            values[key] = _read_number(value, fields[key].type in (int, "int"), where)
        return cls(**values)


def apply_views(
    images: torch.Tensor, views: Sequence[View], keys: Sequence[str] | None = None
) -> dict[str, torch.Tensor]:
    """Every view of a batch by canonical name; a kernel is blurred once for all of them.

    Parameters
    ----------
    images : torch.Tensor, shape (B, 3, H, W)
        Float images in [0, 1].
    views : sequence of View
        What to render.
    keys : sequence of str, optional
        Content hash of each image, for views that draw.

    Returns
    -------
    dict of str to torch.Tensor
        Same shape as ``images`` each.
    """
    source = ViewInput(images, keys)
    return {view.name: view.render(source) for view in views}


def parts_of(views: Iterable[View]) -> list[View]:
    """The views that must go through the encoder for ``views``, each once."""
    return list({part.name: part for view in views for part in view.parts}.values())


def combine_views(views: Iterable[View], vectors: Mapping[str, Vectors]) -> dict[str, Vectors]:
    """Vectors (n, d) of ``views`` from those of their parts, both by canonical name."""
    return {view.name: view.combine([vectors[part.name] for part in view.parts]) for view in views}


def check_kernel(k: object, kind: str) -> None:
    """Raise unless ``k`` is the width of a kernel."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1 or k % 2 == 0:
        raise DataError(
            f"{kind}: k is the width of the kernel in pixels", found=k, expected="odd integer"
        )


def _number(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _read_number(text: str, whole: bool, where: str) -> int | float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "an integer" if whole else "a number"
        raise DataError(f"cannot read {text!r} in view {where!r}", expected=kind) from None

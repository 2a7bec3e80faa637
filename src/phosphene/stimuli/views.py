"""Views: what a priors-of-vision transform leaves of a picture before the image encoder sees it.

A view is a small frozen dataclass with parameters, a canonical name and no state. Distances are
taken from the image centre; blur follows OpenCV's rule for a kernel of ``k`` pixels, border
included, and is computed as two products with banded matrices.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError, listing

_CALL = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)


class ViewInput:
    """One batch of images with the blurred copies that several views share.

    Parameters
    ----------
    images : torch.Tensor, shape (B, 3, H, W)
        Float images in [0, 1].
    generator : torch.Generator, optional
        Source of randomness for views that draw.
    """

    def __init__(self, images: torch.Tensor, generator: torch.Generator | None = None) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise DataError(
                "views take a batch of float images",
                found=f"{images.dtype} of shape {tuple(images.shape)}",
                expected="float of shape (batch, 3, height, width) in [0, 1]",
            )
        self.images = images
        self.generator = generator
        self._blurred: dict[int, torch.Tensor] = {}

    def blurred(self, k: int) -> torch.Tensor:
        """The images under a Gaussian of kernel ``k``, computed on first use."""
        if k not in self._blurred:
            self._blurred[k] = gaussian_blur(self.images, k)
        return self._blurred[k]


@dataclass(frozen=True)
class View:
    """Base of all views: parameters are the dataclass fields, ``kind`` is the registered name."""

    kind: ClassVar[str]

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by name."""
        return dataclasses.asdict(self)

    @property
    def name(self) -> str:
        """Canonical name with every parameter, e.g. ``fovea(k=51,g=3,peak=0.5)``."""
        if not self.params:
            return self.kind
        return f"{self.kind}({','.join(f'{k}={_number(v)}' for k, v in self.params.items())})"

    def render(self, source: ViewInput) -> torch.Tensor:
        """Apply the view to a batch whose blurred copies may be shared with other views."""
        raise TypeError(f"{type(self).__name__} does not define render")

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Apply the view.

        Parameters
        ----------
        images : torch.Tensor, shape (B, 3, H, W)
            Float images in [0, 1]; left as they are.
        generator : torch.Generator, optional
            Source of randomness for views that draw.

        Returns
        -------
        torch.Tensor
            Same shape, type and device.
        """
        return self.render(ViewInput(images, generator))


@_registry.register("view", "original")
@dataclass(frozen=True)
class Original(View):
    """The picture as it is.

    Examples
    --------
    >>> Original().name
    'original'
    """

    kind: ClassVar[str] = "original"

    def render(self, source: ViewInput) -> torch.Tensor:
        """Return the images themselves."""
        return source.images


@_registry.register("view", "gaussian")
@dataclass(frozen=True)
class Gaussian(View):
    """Gaussian blur of kernel ``k`` pixels, with OpenCV's sigma for that kernel.

    Parameters
    ----------
    k : int
        Width of the kernel in pixels, odd.

    Examples
    --------
    >>> Gaussian(45).name
    'gaussian(k=45)'
    """

    k: int = 51
    kind: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        _check_kernel(self.k, self.kind)

    def render(self, source: ViewInput) -> torch.Tensor:
        """Blur the images."""
        return source.blurred(self.k)


@_registry.register("view", "fovea")
@dataclass(frozen=True)
class Fovea(View):
    """Sharp at the centre, blurred towards the corners: ``W x + (1 - W) gaussian_k(x)``.

    ``W = peak * exp(-g r / R)``, where ``r`` is the distance of a pixel to the image centre and
    ``R`` that of the far corner. With the default peak even the centre is half blurred.

    Parameters
    ----------
    k : int
        Width of the blur kernel in pixels, odd.
    g : float
        How fast acuity falls off, not negative.
    peak : float
        Share of the sharp picture at the centre, in [0, 1].

    References
    ----------
    UBP (CVPR 2025), as its released code computes it.

    Examples
    --------
    >>> Fovea(k=45).name
    'fovea(k=45,g=3,peak=0.5)'
    """

    k: int = 51
    g: float = 3.0
    peak: float = 0.5
    kind: ClassVar[str] = "fovea"

    def __post_init__(self) -> None:
        _check_kernel(self.k, self.kind)
        if not self.g >= 0 or math.isinf(self.g):
            raise DataError("fovea: g is a finite fall-off, not negative", found=self.g)
        if not 0 <= self.peak <= 1:
            raise DataError("fovea: peak is a share", found=self.peak, expected="0 to 1")

    def render(self, source: ViewInput) -> torch.Tensor:
        """Blend the images with their blurred copy."""
        images = source.images
        height, width = images.shape[-2:]
        weight = acuity(height, width, float(self.g), float(self.peak)).to(images)
        return torch.lerp(source.blurred(self.k), images, weight)


def fovea_levels(k: int = 51, c: int = 6) -> list[View]:
    """The three blur levels of UBP, from weak to strong.

    Examples
    --------
    >>> [view.k for view in fovea_levels()]
    [45, 51, 57]
    """
    return [Fovea(k - c), Fovea(k), Fovea(k + c)]


def get_view(spec: str | View) -> View:
    """The view that a text names, e.g. ``"fovea(k=45)"``.

    Parameters
    ----------
    spec : str or View
        Registered name with any of its parameters in brackets; a view is returned as it is.

    Raises
    ------
    UnknownNameError
        If no view or parameter has the name; the nearest are listed.
    DataError
        If the text cannot be read or a value is out of range.

    Examples
    --------
    >>> get_view("fovea(k=45)")
    Fovea(k=45, g=3.0, peak=0.5)
    """
    if isinstance(spec, View):
        return spec
    match = _CALL.fullmatch(str(spec))
    if match is None:
        raise DataError(
            f"{spec!r} does not name a view", expected="a form like 'original' or 'fovea(k=45)'"
        )
    kind = match.group(1)
    cls = _registry.get("view", kind)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for part in filter(None, (text.strip() for text in (match.group(2) or "").split(","))):
        key, equals, value = (text.strip() for text in part.partition("="))
        if not equals:
            raise DataError(f"cannot read {part!r} in view {spec!r}", expected="parameter=value")
        if key not in fields:
            raise UnknownNameError(
                f"view {kind!r} has no parameter {key!r}",
                expected="one of " + ", ".join(fields) if fields else "no parameters",
                fix=_registry.did_you_mean(key, fields),
            )
        if key in values:
            raise DataError(f"view {spec!r} sets {key!r} twice")
        values[key] = _read_number(value, whole=fields[key].type in (int, "int"), where=str(spec))
    view = cls(**values)
    assert isinstance(view, View)
    return view


def expand_views(specs: Iterable[str | View] | str | View) -> list[View]:
    """Views from names; the bare word ``fovea`` stands for UBP's three levels.

    Duplicates are dropped, the first place is kept.

    Examples
    --------
    >>> [view.name for view in expand_views(["original", "fovea(k=45)"])]
    ['original', 'fovea(k=45,g=3,peak=0.5)']
    >>> len(expand_views(["original", "fovea"]))
    4
    """
    if isinstance(specs, (str, View)):
        specs = [specs]
    views: dict[str, View] = {}
    for spec in specs:
        bare = isinstance(spec, str) and spec.strip() == "fovea"
        for view in fovea_levels() if bare else [get_view(spec)]:
            views.setdefault(view.name, view)
    if not views:
        raise DataError("no view was asked for", fix="give at least 'original'")
    return list(views.values())


def apply_views(
    images: torch.Tensor, views: Sequence[View], generator: torch.Generator | None = None
) -> dict[str, torch.Tensor]:
    """Every view of a batch by canonical name; a kernel is blurred once for all of them.

    Parameters
    ----------
    images : torch.Tensor, shape (B, 3, H, W)
        Float images in [0, 1].
    views : sequence of View
        What to render.
    generator : torch.Generator, optional
        Source of randomness for views that draw.

    Returns
    -------
    dict of str to torch.Tensor
        Same shape as ``images`` each.
    """
    source = ViewInput(images, generator)
    return {view.name: view.render(source) for view in views}


def gaussian_sigma(k: int) -> float:
    """OpenCV's standard deviation for a kernel of ``k`` pixels: ``0.3 ((k-1)/2 - 1) + 0.8``.

    Examples
    --------
    >>> round(gaussian_sigma(51), 3)
    8.0
    """
    return 0.3 * ((k - 1) * 0.5 - 1) + 0.8


def gaussian_blur(images: torch.Tensor, k: int) -> torch.Tensor:
    """Gaussian blur with kernel ``k`` and the border mirrored at its pixel (reflect-101).

    Equal to OpenCV's ``GaussianBlur(image, (k, k), 0)`` within rounding for ``k > 9``; for the
    smallest kernels OpenCV replaces the rule by tables, here the rule holds for every ``k``.

    Parameters
    ----------
    images : torch.Tensor, shape (..., H, W)
        Float images.
    k : int
        Width of the kernel in pixels, odd.
    """
    height, width = images.shape[-2:]
    rows = blur_matrix(height, k).to(images)
    columns = blur_matrix(width, k).to(images)
    return torch.matmul(rows, torch.matmul(images, columns.T))


@functools.lru_cache(maxsize=64)
def blur_matrix(n: int, k: int) -> torch.Tensor:
    """The ``n`` x ``n`` matrix that blurs along one axis, mirrored border included."""
    half = k // 2
    taps = np.exp(-((np.arange(k) - half) ** 2) / (2 * gaussian_sigma(k) ** 2))
    taps /= taps.sum()
    period = max(2 * (n - 1), 1)
    source = np.abs(np.arange(n)[:, None] + np.arange(-half, half + 1)[None, :]) % period
    source = np.where(source >= n, period - source, source)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], source), taps[None, :])
    return torch.from_numpy(matrix).float()


@functools.lru_cache(maxsize=64)
def acuity(height: int, width: int, g: float, peak: float) -> torch.Tensor:
    """Weight of the sharp picture per pixel, ``peak * exp(-g r / R)``, shape (height, width)."""
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width)[None, :] - (width - 1) / 2
    r = np.hypot(y, x)
    return torch.from_numpy(peak * np.exp(-g * r / max(float(r.max()), 1e-12))).float()


def _check_kernel(k: object, kind: str) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1 or k % 2 == 0:
        raise DataError(
            f"{kind}: k is the width of the kernel in pixels", found=k, expected="odd integer"
        )


def _number(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _read_number(text: str, *, whole: bool, where: str) -> int | float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "an integer" if whole else "a number"
        raise DataError(
            f"cannot read {listing([text])!r} in view {where!r}", expected=kind
        ) from None

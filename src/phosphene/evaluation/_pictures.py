"""Pictures as metrics see them: checked, in the 256 levels of a screen, resized, grey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from phosphene.errors import DataError, listing

Pictures = npt.NDArray[np.float32]
# ITU-R BT.709 luminance as scikit-image's rgb2gray has it.
LUMINANCE = (0.2125, 0.7154, 0.0721)


def as_pictures(values: npt.ArrayLike, what: str, *, samples: bool = False) -> npt.NDArray[Any]:
    """RGB pictures, checked but not copied.

    Parameters
    ----------
    values : array, shape (n, H, W, 3), or with ``samples`` also (n, samples, H, W, 3)
        uint8, or floating in [0, 1].
    what : str
        What errors call them.
    samples : bool
        Whether there may be an axis of samples; the result then has one.

    Returns
    -------
    ndarray of uint8 or floating

    Raises
    ------
    DataError
        For another shape or kind of number, values outside [0, 1], NaN or infinity.
    """
    array = np.asarray(values)
    if samples and array.ndim == 4:
        array = array[:, None]
    wanted = 5 if samples else 4
    if array.ndim != wanted or array.shape[-1] != 3 or 0 in array.shape:
        raise DataError(
            f"{what} are not RGB pictures of one size",
            found=f"shape {np.shape(values)}",
            expected="(pictures, height, width, 3)"
            + " or (pictures, samples, height, width, 3)" * samples,
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise DataError(f"{what} are neither uint8 nor floating", found=array.dtype)
    low, high = array.min(axis=tuple(range(1, wanted))), array.max(axis=tuple(range(1, wanted)))
    if bad := np.flatnonzero(~np.isfinite(low + high)).tolist():
        raise DataError(f"{what} hold NaN or infinity", found=f"pictures {listing(bad)}")
    if bad := np.flatnonzero((low < -1e-4) | (high > 1 + 1e-4)).tolist():
        raise DataError(
            f"{what} hold values outside [0, 1]",
            found=f"{low.min():.4g} to {high.max():.4g}, pictures {listing(bad)}",
            fix="give uint8, or clip what is to be shown",
        )
    return array


def shown(pictures: npt.NDArray[Any]) -> Pictures:
    """What a screen or a PNG file shows: floats in [0, 1], rounded to 256 levels."""
    if pictures.dtype == np.uint8:
        return pictures.astype(np.float32) / np.float32(255)
    levels = np.rint(np.clip(pictures, 0, 1).astype(np.float32) * np.float32(255))
    return np.asarray(levels / np.float32(255))


def resized(pictures: Pictures, size: int | None) -> Pictures:
    """Pictures (n, H, W, 3) as squares of ``size`` pixels, bilinear with antialiasing.

    Nothing is cut off: the proportions of a picture that is no square change. None leaves them.
    """
    if size is None or pictures.shape[1:3] == (size, size):
        return pictures
    planes = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    fitted = torch.nn.functional.interpolate(
        planes, (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return fitted.permute(0, 2, 3, 1).numpy()


def grey(pictures: Pictures) -> npt.NDArray[np.float64]:
    """Luminance (n, H, W) of RGB pictures, float64."""
    return np.asarray(pictures.astype(np.float64) @ np.array(LUMINANCE))


def in_batches(pictures: npt.NDArray[Any], batch: int, size: int | None) -> Iterator[Pictures]:
    """Batches of pictures as they are shown, resized."""
    for start in range(0, len(pictures), batch):
        yield resized(shown(pictures[start : start + batch]), size)


def query_ids(ids: Sequence[str] | None, n: int) -> list[str]:
    """The ids of queries as text, their numbers if there are none."""
    names = [str(i) for i in (range(n) if ids is None else ids)]
    if len(names) != n:
        raise DataError("ids and pictures differ in number", found=len(names), expected=n)
    return names

"""From a decoded picture to what an image encoder takes: resize, crop, scale to [0, 1].

Views apply to the result, and each encoder standardises after them with its own mean and
deviation. Both steps are part of the address of a feature, through :func:`preprocessing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phosphene.errors import DataError

PREPROCESSING_VERSION = 1
"""Raised whenever the same picture would come out of :func:`prepare` differently."""

Mode = Literal["crop", "squash"]
Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest"]


def fit(
    image: NDArray[np.uint8],
    size: int = 224,
    resize: int | None = None,
    mode: Mode = "crop",
    interpolation: Interpolation = "bicubic",
) -> NDArray[np.uint8]:
    """Bring a picture to a square of ``size`` pixels.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB picture.
    size : int
        Side of the result in pixels.
    resize : int, optional
        Length that the short side is resized to before the crop; default ``size``.
    mode : {"crop", "squash"}
        ``crop`` keeps the proportions and cuts the centre; ``squash`` changes them and keeps
        everything (``resize`` has no meaning then).
    interpolation : {"bicubic", "bilinear", "lanczos", "nearest"}
        Pillow's filter of this name.

    Returns
    -------
    ndarray of uint8, shape (size, size, 3)

    Notes
    -----
    Pillow's antialiasing on 8-bit values, the long side rounded down, the crop's corner rounded
    down. On square pictures this is what CLIP's processor computes, to the bit; on others the
    processors of different libraries and versions differ by how they round, and this is the rule.

    Examples
    --------
    >>> fit(np.zeros((40, 30, 3), np.uint8), size=8, resize=10).shape
    (8, 8, 3)
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            "a picture is an RGB array",
            found=f"{image.dtype} of shape {image.shape}",
            expected="uint8 of shape (height, width, 3)",
        )
    height, width = image.shape[:2]
    if mode == "squash":
        target = (size, size)
    elif mode == "crop":
        short = size if resize is None else resize
        if short < size:
            raise DataError("the crop is larger than the resized picture", found=(short, size))
        if width <= height:
            target = (short, max(int(short * height / width), short))
        else:
            target = (max(int(short * width / height), short), short)
    else:
        raise DataError("unknown way to fit a picture", found=mode, expected="crop or squash")
    if interpolation not in get_args(Interpolation):
        raise DataError("unknown interpolation", found=interpolation,
                        expected="one of " + ", ".join(get_args(Interpolation)))  # fmt: skip
    picture = Image.fromarray(image)
    if target != (width, height):
        picture = picture.resize(target, Image.Resampling[interpolation.upper()])
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def prepare(
    image: NDArray[np.uint8],
    size: int = 224,
    resize: int | None = 256,
    mode: Mode = "crop",
    interpolation: Interpolation = "bicubic",
) -> NDArray[np.float32]:
    """Bring a picture to the encoder's size and to floats in [0, 1].

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        RGB picture.
    size, resize, mode, interpolation
        As in :func:`fit`.

    Returns
    -------
    ndarray of float32, shape (3, size, size)

    Examples
    --------
    >>> prepared = prepare(np.full((300, 300, 3), 255, np.uint8))
    >>> prepared.shape, float(prepared.max())
    ((3, 224, 224), 1.0)
    """
    fitted = fit(image, size, resize, mode, interpolation)
    return np.ascontiguousarray(fitted.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def prepare_by(rule: Mapping[str, Any], image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Prepare a picture by an encoder's own description of its preprocessing.

    Parameters
    ----------
    rule : mapping
        What :func:`preprocessing` returns, or as much of it as an encoder states.
    image : ndarray of uint8, shape (H, W, 3)
        RGB picture.
    size : int
        Side of the encoder's pictures in pixels.

    Returns
    -------
    ndarray of float32, shape (3, size, size)
    """
    kind = str(rule.get("interpolation", "pillow-bicubic")).removeprefix("pillow-")
    return prepare(image, size, rule.get("resize"), rule.get("mode", "crop"), kind)  # type: ignore[arg-type]


def preprocessing(
    size: int,
    resize: int | None,
    mode: Mode = "crop",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    interpolation: Interpolation = "bicubic",
) -> dict[str, Any]:
    """Describe an encoder's preprocessing for the address of its features.

    Examples
    --------
    >>> preprocessing(224, 256)["size"]
    224
    """
    return {
        "version": PREPROCESSING_VERSION,
        "size": size,
        "resize": resize,
        "mode": mode,
        "interpolation": f"pillow-{interpolation}",
        "mean": list(mean),
        "std": list(std),
    }

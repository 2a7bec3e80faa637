"""Image files to RGB pixels, the same way everywhere."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import DataError

# 600 kB of PNG can decode to 800 MB.
MAX_PIXELS = 50_000_000
DECODING_VERSION = 1
"""Raised whenever the same file would come out of :func:`decode_image` differently."""
Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


def decode_image(image: str | Path | NDArray[Any], background: Colour = WHITE) -> NDArray[np.uint8]:
    """Decode an image to RGB.

    The orientation stored by cameras is applied, grey becomes RGB, transparency is laid on the
    background, 16-bit values are scaled to 8 bits, and of an animation the first frame is taken.

    Parameters
    ----------
    image : path or ndarray of uint8
        A file, or pixels of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
    background : tuple of int
        Red, green and blue, 0 to 255, of what lies under transparent pixels; white by default.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)

    Raises
    ------
    DataError
        Naming the file, if it is missing, no image, truncated or larger than 50 million pixels.

    Examples
    --------
    >>> import numpy as np
    >>> decode_image(np.zeros((2, 3), dtype=np.uint8)).shape
    (2, 3, 3)
    """
    good = len(background) == 3 and all(0 <= value <= 255 for value in background)
    if not good:
        raise DataError(
            "a background is a colour", found=background, expected="three values, 0 to 255"
        )
    if isinstance(image, np.ndarray):
        return _from_array(image, background)
    return _from_file(Path(image), background)


def _from_array(pixels: NDArray[Any], background: Colour) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8:
        raise DataError(
            "an image array has another type",
            found=f"{pixels.dtype}, shape {pixels.shape}",
            expected="uint8, 0 to 255",
        )
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise DataError(
            "an image array has another shape",
            found=pixels.shape,
            expected="(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
        )
    _refuse_large("an image array", pixels.shape[1], pixels.shape[0])
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint32)
        laid = pixels[:, :, :3] * alpha + np.asarray(background, np.uint32) * (255 - alpha)
        return ((laid + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _from_file(path: Path, background: Colour) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Our own, lower cap follows; Pillow's warning would only come before it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened as picture:
            _refuse_large(str(path), *picture.size)
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):
                deep = np.asarray(upright, dtype=np.int64)
                return _from_array(
                    np.clip((deep + 128) // 257, 0, 255).astype(np.uint8), background
                )
            if upright.mode == "F":
                raise DataError(f"{path} holds floating-point pixels", expected="8 or 16 bits")
            if upright.has_transparency_data:
                return _from_array(np.asarray(upright.convert("RGBA")), background)
            return np.array(upright.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"the image {path} does not exist") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large", found=error) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as an image", found=error) from error


def _refuse_large(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} is too large",
            found=f"{width} x {height} pixels",
            expected=f"at most {MAX_PIXELS:,} pixels",
            fix="scale it down first",
        )

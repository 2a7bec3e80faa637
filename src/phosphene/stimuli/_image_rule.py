"""A model's own preprocessing as a rule that our own code follows, compared with the original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from phosphene.errors import DataError
from phosphene.stimuli.images import prepare_by, preprocessing

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
# How far transformers' picture may be from ours: a grey level on squares, where both round the
# same way; a few on average on others, where libraries differ by a row or column.
_SQUARE_GAP, _OTHER_GAP = 1.01 / 255, 4 / 255


def rule_of(said: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The rule that an image processor's settings come to.

    Parameters
    ----------
    said : mapping
        Settings as transformers writes them.
    source : str
        The model, for messages.

    Raises
    ------
    DataError
        If they ask for something else than resize, crop and standardise.
    """

    def refuse(what: str) -> DataError:
        return DataError(
            f"the preprocessing of {source} is not one that we do",
            found=what,
            expected="resize, centre crop to a square, scale to [0, 1], mean and deviation",
            fix="wrap the model with its own preprocessing: CallableEncoder(fn, id=...)",
        )

    if not said.get("do_resize", True):
        raise refuse("do_resize is false")
    if (
        not said.get("do_rescale", True)
        or abs(said.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6
    ):
        raise refuse(f"rescale_factor {said.get('rescale_factor')}")
    size = dict(said.get("size") or {})
    crop = dict(said.get("crop_size") or {}) if said.get("do_center_crop") else {}
    sides = {int(v) for k, v in (crop or size).items() if k in ("height", "width") and v}
    short = size.get("shortest_edge")
    if short and said.get("crop_pct"):  # ConvNeXt: the crop is the size, what is resized is more
        target = int(short)
        resize = int(target / said["crop_pct"]) if target < 384 else None
    elif short:
        if len(sides) != 1 or not crop:
            raise refuse(f"size {size}, crop {crop or 'none'}: pictures would not be square")
        target, resize = sides.pop(), int(short)
    elif size.get("height") and (not crop or crop == size) and len(sides) == 1:
        target, resize = sides.pop(), None
    else:
        raise refuse(f"size {size}, crop {crop or 'none'}")
    resample = int(said.get("resample", 3))
    if resample not in _RESAMPLE:
        raise refuse(f"resample {resample}")
    mean, std = said.get("image_mean"), said.get("image_std")
    if not said.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    if not (mean and std and len(mean) == len(std) == 3):
        raise refuse(f"image_mean {mean}, image_std {std}")
    return preprocessing(
        target,
        resize,
        "crop" if resize else "squash",
        tuple(float(v) for v in mean),
        tuple(float(v) for v in std),
        interpolation=_RESAMPLE[resample],  # type: ignore[arg-type]
    )


def check_rule(rule: Mapping[str, Any], processor: Any, source: str) -> None:
    """Compare what a processor makes of two test pictures with what the rule makes of them.

    Raises
    ------
    DataError
        If they differ by more than rounding.
    """
    side = int(1.5 * (rule["resize"] or rule["size"])) + 1
    mean, std = (np.reshape(rule[key], (3, 1, 1)) for key in ("mean", "std"))
    for shape, tolerance in (((side, side), _SQUARE_GAP), ((side, 2 * side), _OTHER_GAP)):
        image = _test_picture(*shape)
        made = processor(image, return_tensors="np", input_data_format="channels_last")
        theirs = np.asarray(made["pixel_values"][0]) * std + mean
        ours = prepare_by(rule, image, rule["size"])
        gap = np.abs(theirs - ours) if theirs.shape == ours.shape else np.full(1, np.inf)
        if float(gap.max() if shape[0] == shape[1] else gap.mean()) > tolerance:
            raise DataError(
                f"the preprocessing of {source} does more than its settings say",
                found=f"{type(processor).__name__} gives {theirs.shape}, "
                f"{gap.max() * 255:.3g} grey levels from resize and crop",
                fix="wrap the model with its own preprocessing: CallableEncoder(fn, id=...)",
            )


def _test_picture(height: int, width: int) -> np.ndarray[Any, Any]:
    """A smooth picture without symmetry, uint8 (height, width, 3)."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(5 * x + 2 * y), np.cos(3 * x * x - y), np.sin(7 * y + x)]
    return np.asarray(np.rint((np.stack(waves, -1) + 1) * 127), dtype=np.uint8)

"""Views: the fovea against OpenCV's blur and blend, nine views against three.

    python benchmarks/bench_views.py [--quick]

Milliseconds and ratios within one run, at 224 pixels, in turns because the speed of one minute
says little about the next. UBP's form is what its data set does for each picture: OpenCV's Gaussian
blur and an alpha blend in numpy. "Another sigma per image" gives every picture its own kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from _table import Table, best_seconds, parse_arguments

from phosphene.stimuli.views import (
    Fovea,
    acuity,
    apply_views,
    bvsa_views,
    fovea_levels,
    gaussian_blur,
)

SIZE, KERNEL, BATCH = 224, 51, 8


def pictures(n: int) -> tuple[torch.Tensor, np.ndarray]:
    """The same pictures as floats (n, 3, H, W) in [0, 1] and as OpenCV's uint8 (n, H, W, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n, 28, 28, 3), dtype=np.uint8)
    pixels = np.stack([cv2.resize(image, (SIZE, SIZE)) for image in coarse])
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    return images, pixels


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest run of each."""
    seconds = {name: float("inf") for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name] = min(seconds[name], best_seconds(call, 8))
    return seconds


def bench_fovea(table: Table, rounds: int) -> None:
    images, pixels = pictures(BATCH)
    weight = acuity(SIZE, SIZE, 3.0, 0.5).numpy()[:, :, None]
    view = Fovea(KERNEL)
    kernels = [KERNEL + 2 * (i % 4 - 2) for i in range(BATCH)]
    blend = torch.from_numpy(weight[:, :, 0])

    def ubp() -> list[np.ndarray]:
        blurred = (cv2.GaussianBlur(image, (KERNEL, KERNEL), 0) for image in pixels)
        return [
            (weight * image + (1 - weight) * blur).astype(np.uint8)
            for image, blur in zip(pixels, blurred, strict=True)
        ]

    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: view(images),
        "ubp": ubp,
        "blur": lambda: [cv2.GaussianBlur(image, (KERNEL, KERNEL), 0) for image in pixels],
        "own sigma": lambda: torch.lerp(gaussian_blur(images, kernels), images, blend),
    }
    for threads in (1, 2):
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        seconds = in_turns(calls, rounds)
        each = {f"{name.replace(' ', '_')}_ms": 1e3 * s / BATCH for name, s in seconds.items()}
        what = f"{threads} thread{'s' * (threads > 1)}"
        table.add(f"fovea view, fp32, {what}, against UBP's form", seconds["ubp"] / seconds["ours"],
                  2.0, **each)  # fmt: skip
        table.add(f"fovea with another sigma per image, {what}, against UBP's form",
                  seconds["ubp"] / seconds["own sigma"], 2.0)  # fmt: skip
        table.add(f"fovea view, {what}, against OpenCV's blur alone",
                  seconds["blur"] / seconds["ours"])  # fmt: skip
    seen = grey_levels(view(images))
    floats = [image.permute(1, 2, 0).numpy() for image in images]
    blurs = [cv2.GaussianBlur(image, (KERNEL, KERNEL), 0) for image in floats]
    exact = [255 * (weight * a + (1 - weight) * b) for a, b in zip(floats, blurs, strict=True)]
    table.add("largest difference to UBP's form in floats, grey levels",
              float(np.abs(seen - np.stack(exact)).max()), 0.1, better="lower")  # fmt: skip
    # OpenCV blurs bytes in fixed point and rounds; the blend is then cut to whole grey levels.
    table.add("largest difference to UBP's form in bytes, grey levels",
              float(np.abs(seen - np.stack(ubp())).max()), better="lower")  # fmt: skip
    own = [cv2.GaussianBlur(a, (k, k), 0) * 255 for a, k in zip(floats, kernels, strict=True)]
    ours = grey_levels(gaussian_blur(images, kernels))
    table.add("largest difference to OpenCV's blur, own sigmas, in floats, grey levels",
              float(np.abs(ours - np.stack(own)).max()), 0.1, better="lower")  # fmt: skip


def grey_levels(images: torch.Tensor) -> np.ndarray:
    """(n, 3, H, W) in [0, 1] as (n, H, W, 3) in grey levels of 255."""
    return (images * 255).permute(0, 2, 3, 1).numpy()


def bench_nine(table: Table, rounds: int) -> None:
    images, _ = pictures(BATCH)
    three, nine = fovea_levels(), bvsa_views()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds = in_turns(
            {
                "three": lambda: apply_views(images, three),
                "nine": lambda: apply_views(images, nine),
            },
            rounds,
        )
        table.add(f"the nine views of BVSA over UBP's three, {threads} thread{'s' * (threads > 1)}",
                  seconds["nine"] / seconds["three"], 2.0, better="lower",
                  nine_ms=1e3 * seconds["nine"] / BATCH,
                  three_ms=1e3 * seconds["three"] / BATCH)  # fmt: skip


def main() -> None:
    options = parse_arguments((__doc__ or "").splitlines()[0], "views.json")
    table = Table("views")
    rounds = 2 if options.quick else 6
    bench_fovea(table, rounds)
    bench_nine(table, rounds)
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()

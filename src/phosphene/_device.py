"""Choice of device and precision, by probing the machine rather than by assuming it."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]
# Measured gains are either near 1 (emulated) or well above 2 (native), so that 1.5 separates them.
BF16_MIN_GAIN = 1.5


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is the first CUDA device when there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> Precision:
    """``auto`` is bf16 where the device computes matrix products in it clearly faster."""
    if name in ("fp32", "bf16"):
        return name  # type: ignore[return-value]
    if name != "auto":
        raise ValueError(f"precision is 'auto', 'fp32' or 'bf16', not {name!r}")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if bf16_gain() >= BF16_MIN_GAIN else "fp32"


@functools.cache
def bf16_gain(size: int = 768) -> float:
    """How many times faster a bf16 matrix product is than an fp32 one on this CPU."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return 0.0

    def measure() -> float:
        seconds = []
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.ones(size, size, dtype=dtype)
            seconds.append(shortest(functools.partial(torch.mm, a, a)))
        return seconds[0] / seconds[1]

    return remembered("bf16", measure)


def shortest(call: Callable[[], object], repeats: int = 6) -> float:
    """Seconds of the fastest of some calls, which other work on the machine disturbs least."""
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        runs.append(time.perf_counter() - start)
    return min(runs)


def remembered(probe: str, measure: Callable[[], float]) -> float:
    """What a probe measured, kept per processor and torch version.

    A probe is a timing, and one that came out differently tomorrow would change results that are
    promised to be the same.
    """
    note = cache_folder() / f"{probe}-probe-{_cpu_name()}-torch{torch.__version__}.json"
    try:
        return float(json.loads(note.read_text())["gain"])
    except (OSError, ValueError, KeyError):
        pass
    gain = measure()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        partial = note.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps({"gain": gain}))
        partial.replace(note)
    except OSError:  # a read-only home costs a fresh probe per process, nothing else
        pass
    return gain


def cache_folder() -> Path:
    """Where things are kept that can be computed again; ``PHOSPHENE_CACHE`` moves it."""
    if chosen := os.environ.get("PHOSPHENE_CACHE"):
        return Path(chosen)
    import pooch

    return Path(pooch.os_cache("phosphene"))


def _cpu_name() -> str:
    name = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2]
                break
    except OSError:
        import platform

        name = platform.processor() or platform.machine()
    return "".join(c if c.isalnum() else "-" for c in name.strip()) or "cpu"

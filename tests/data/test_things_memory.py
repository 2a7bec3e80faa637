"""Peak memory while THINGS-EEG2 and THINGS-MEG are read, against what is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from phosphene.testing.layouts import write_things_eeg2, write_things_meg

MEASURE = """
import gc, sys
from pathlib import Path
from phosphene import _registry

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

reader, root, warm, *options = sys.argv[1:]
read = _registry.get("reader", reader)
options = dict(option.split("=") for option in options)
read(warm, 1, strict=False, **options)  # imports what is needed
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = status("VmRSS")
recording = read(root, 1, strict=False, **options)
print(status("VmHWM") - before, recording.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's counters")
@pytest.mark.parametrize(
    ("layout", "options", "limit"),
    [
        ("nice", {}, 1.3),
        ("nice", {"dtype": "float16"}, 1.3),
        ("nice", {"cache": "cache"}, 1.3),
        ("ubp", {}, 1.3),
        ("ubp", {"dtype": "float32"}, 1.3),
        ("neurobridge", {}, 0.3),
        ("raw", {}, 1.3),
        ("meg", {}, 1.3),
    ],
)
def test_peak_memory(tmp_path: Path, layout: str, options: dict[str, str], limit: float) -> None:
    big, warm = tmp_path / "big", tmp_path / "warm"
    if layout == "meg":
        write_things_meg(big, concepts=8, images=40, test_concepts=1, channels=271)
        write_things_meg(warm)
    else:
        images, repetitions = (12, (16, 4)) if layout != "raw" else (60, (4, 8))
        write_things_eeg2(big, layout, concepts=8, images=images, repetitions=repetitions)
        write_things_eeg2(warm, layout, samples=20)
    settings: dict[str, Any] = dict(options)
    if "cache" in settings:
        settings["cache"] = tmp_path / "cache"
    reader = "things_meg" if layout == "meg" else "things_eeg2"
    peak, kept = measured(reader, big, warm, settings)
    assert kept > 40e6
    assert peak < limit * kept, f"{peak / kept:.2f}"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's counters")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_peak_memory_of_few_channels_is_a_fixed_cost(tmp_path: Path, dtype: str) -> None:
    """17 channels of 63: a block of all channels is in memory beside what is kept.

    In a miniature the block is most of it. As it does not grow, a subject of the data set, of which
    281 MB are kept, needs 1.07 times that.
    """
    write_things_eeg2(tmp_path / "warm", "nice", samples=20)
    found = []
    for images in (6, 18):
        big = tmp_path / f"big{images}"
        write_things_eeg2(big, "nice", concepts=8, images=images, repetitions=(16, 4))
        settings = {"channels": "occipito-parietal-17", "dtype": dtype}
        found.append(measured("things_eeg2", big, tmp_path / "warm", settings))
    (few, few_kept), (many, many_kept) = found
    assert many - many_kept < 25e6
    assert many_kept > 2.5 * few_kept
    assert many - few < 1.1 * (many_kept - few_kept)


def measured(reader: str, big: Path, warm: Path, settings: dict[str, Any]) -> tuple[int, int]:
    """Peak of further memory and what is kept, in bytes, in a process of its own."""
    arguments = [reader, str(big), str(warm), *(f"{k}={v}" for k, v in settings.items())]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    peak, kept = map(int, done.stdout.split())
    return peak, kept

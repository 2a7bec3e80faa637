"""Damaged files of a BIDS folder: refused, or read right, or not verifiable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz, same_recording

from phosphene.data.readers._source import verifiable
from phosphene.data.readers.bids import read_bids
from phosphene.data.recording import Recording
from phosphene.errors import DataError, PhospheneError
from phosphene.testing._layouts_bids import write_bids

pytest.importorskip("mne_bids", reason="the extra bids is not installed")

WINDOW: dict[str, Any] = {"tmin": -0.1, "tmax": 0.4}
# The BIDS datatype of the folder and the end of the damaged file's name.
FUZZED = {
    "header": ("eeg", "_eeg.vhdr"),
    "signals": ("eeg", "_eeg.eeg"),
    "sidecar": ("eeg", "_eeg.json"),
    "channels": ("ieeg", "_channels.tsv"),
    "events": ("ieeg", "_events.tsv"),
    "places": ("eeg", "_electrodes.tsv"),
    "fif": ("meg", "_meg.fif"),
}


def first_of(found: Recording, good: Recording) -> bool:
    """Whether trials are missing at the end only, where a table of events may end anywhere.

    The name of the last one may be cut off: a missing line break is all that tells.
    """
    n = min(found.n_trials, good.n_trials)
    names, true_names = found.stimuli, good.stimuli
    return names[: n - 1] == true_names[: n - 1] and np.array_equal(
        found.signals[:n], good.signals[:n]
    )


def try_damage(folder: Path, what: str, n: int, seed: int) -> None:
    datatype, ending = FUZZED[what]
    root = write_bids(folder, datatype=datatype, subjects=("01",), runs=("1",))  # type: ignore[arg-type]
    path = next(root.rglob(f"*{ending}"))
    good = read_bids(root, "images", **WINDOW)
    assert not verifiable(good)

    def read() -> Recording:
        try:
            return read_bids(root, "images", **WINDOW)
        except PhospheneError as error:
            # The file itself, or the recording that it belongs to.
            if "sub-01" not in str(error):
                raise AssertionError(f"no file is named in: {error}") from error
            raise

    outcomes = fuzz(
        path,
        read,
        lambda f: same_recording(f, good) or (what == "events" and first_of(f, good)),
        n=n,
        seed=seed,
        unverifiable=lambda f: not verifiable(f),
        names_file=False,
    )
    assert sum(outcomes.values()) > 0.9 * n
    assert outcomes["refused"] > n / 3
    assert same_recording(read(), good)


@pytest.mark.parametrize("what", FUZZED)
def test_damaged_files_are_refused_or_read_right(tmp_path: Path, what: str) -> None:
    try_damage(tmp_path / "study", what, n=18, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("what", FUZZED)
def test_many_damaged_files_are_refused_or_read_right(tmp_path: Path, what: str) -> None:
    try_damage(tmp_path / "study", what, n=240, seed=1)


def test_tables_that_were_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_bids(tmp_path / "study", datatype="ieeg", subjects=("01",), runs=("1",))
    channels, events = (next(root.rglob(f"*_{name}.tsv")) for name in ("channels", "events"))
    whole = channels.read_text()
    lines = whole.splitlines(keepends=True)
    channels.write_text("".join(lines[:-2]))
    with pytest.raises(
        DataError, match=r"(?s)channels\.tsv does not list all channels.*missing LB2, LB3"
    ):
        read_bids(root, "images", **WINDOW)
    channels.write_text(whole[:-12])
    with pytest.raises(DataError, match=r"(?s)channels\.tsv was cut off.*fewer than 4 columns: 7"):
        read_bids(root, "images", **WINDOW)
    channels.write_text(whole)
    table = events.read_text()
    events.write_text(table[: table.index("cup/") - 2])
    with pytest.raises(DataError, match=r"(?s)events\.tsv was cut off.*fewer than 4 columns: 4"):
        read_bids(root, "images", **WINDOW)
    assert "line break" not in caplog.text
    events.write_text(table[: table.index("cup_1") + 3])
    assert read_bids(root, "images", **WINDOW).n_trials == 3
    assert "events.tsv does not end with a line break" in caplog.text


def test_errors_within_a_run_name_it(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "study", subjects=("01",), runs=("1",))
    events = next(root.rglob("*_events.tsv"))
    events.write_text(events.read_text().replace("2.0", "1.0"))
    with pytest.raises(DataError, match=r"run-1_eeg\.vhdr: 1 events begin at the same sample"):
        read_bids(root, "images", **WINDOW)
    events.write_text(events.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"(?s)no event.*run-1_eeg\.vhdr"):
        read_bids(root, "images", **WINDOW)

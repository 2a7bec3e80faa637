"""`phosphene data` as a user types it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene import _registry
from phosphene.cli import app
from phosphene.data import download
from phosphene.data.recording import Recording
from phosphene.testing._layouts_bids import write_bids

runner = CliRunner()


def invoke(*words: object, **more: Any) -> Any:
    return runner.invoke(app, [str(word) for word in ("data", *words)], **more)


def refused(*words: object) -> str:
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    return str(result.stderr)


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    pytest.importorskip("mne_bids", reason="the extra bids is not installed")
    return write_bids(tmp_path / "study", stim_column="stimulus_id")


def test_check_a_saved_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    trials = {"stimulus": [f"c{i % 4}/c{i % 4}_1.png" for i in range(8)],
              "session": ["1", "2"] * 4, "label": ["a", "b"] * 4}  # fmt: skip
    x = rng.standard_normal((8, 3, 10))
    saved = Recording.from_arrays(x, trials, sfreq=100).save(tmp_path / "saved")
    result = invoke("check", saved)
    assert result.exit_code == 0, result.output
    for words in (
        ("trials", "8"),
        ("concepts", "4"),
        ("rate", "100 Hz"),
        ("repetitions", "2 to 2"),
    ):
        assert any(all(w in line for w in words) for line in result.stdout.splitlines())
    assert "to do: average repetitions" in result.stdout
    assert "0 error(s)" in result.stdout
    wrong = invoke("check", saved, "--label", "label", "--json")
    assert wrong.exit_code == 1
    report = json.loads(wrong.stdout)
    assert not report["passed"]
    assert report["facts"]["trials"] == 8
    assert report["findings"][0]["what"] == "label: labels coincide with sessions"
    assert set(report["findings"][0]) == {"level", "what", "evidence", "fix"}
    shown = invoke("check", saved, "--label", "label")
    assert shown.exit_code == 1
    assert "ERROR: label: labels coincide with sessions" in shown.stdout


def test_check_prints_the_overlaps(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 3, 10))
    trials = {"stimulus": [f"c{i % 4}/1.png" for i in range(8)], "run": ["1"] * 4 + ["2"] * 4,
              "split": ["train"] * 4 + ["test"] * 4}  # fmt: skip
    saved = Recording.from_arrays(x, trials, sfreq=100).save(tmp_path / "saved")
    result = invoke("check", saved)
    assert result.exit_code == 1
    assert "ERROR: test images are trained on" in result.stdout
    (line,) = [one for one in result.stdout.splitlines() if one.startswith("train/test  stimulus")]
    assert line.split() == ["train/test", "stimulus", "4", "c0/1.png,", "c1/1.png,", "c2/1.png,",
                            "c3/1.png"]  # fmt: skip


def test_check_and_prepare_a_bids_folder(bids: Path, tmp_path: Path) -> None:
    missing = invoke("check", bids)
    assert missing.exit_code == 1
    assert "has no column 'stim_file'" in missing.stdout
    assert "stim_column='stimulus_id'" in missing.stdout
    words = ("--set", "stim_column=stimulus_id", "tmin=-0.1", "tmax=0.4")
    good = invoke("check", bids, *words, "--subjects", "02")
    assert good.exit_code == 0, good.output
    assert "1: 02" in good.stdout
    out = tmp_path / "ready"
    prepared = invoke("prepare", "bids", "--root", bids, "--out", out, *words)
    assert prepared.exit_code == 0, prepared.output
    assert "quality.html" in prepared.stdout
    again = invoke("prepare", "bids", "--root", bids, "--out", out, *words)
    rows = [line for line in again.stdout.splitlines() if "already there" in line]
    assert [row.split()[0] for row in rows] == ["01", "02"]
    assert invoke("check", out).exit_code == 0
    assert "another way" in refused("prepare", "bids", "--root", bids, "--out", out, *words[:2])


def test_wrong_words_are_answered(tmp_path: Path) -> None:
    assert "there is nothing at" in refused("check", tmp_path / "nowhere")
    assert "key=value" in refused("check", tmp_path, "--set", "alone")
    assert "things_eeg2" in refused("prepare", "things_eeg", "--root", tmp_path, "--out", tmp_path)
    assert "did you mean 'things_meg'" in refused("download", "thing_meg", "--yes")


def test_gated_sets_give_the_steps(tmp_path: Path) -> None:
    text = refused("download", "nsd", "--root", tmp_path)
    assert "access form" in text
    assert "--url-list" in text


def test_download_shows_the_terms_and_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(
        "phosphene.runs.data_download.download", lambda p, **k: begun.append(p) or []
    )
    monkeypatch.setattr(download._transfer, "remote_size", lambda _: 3 * 10**9)
    monkeypatch.setattr(download, "_free", lambda _: 10**12)
    words = ("download", "things_meg", "--root", tmp_path / "meg", "--subjects", "01", "2")
    no = invoke(*words, input="n\n")
    assert no.exit_code == 1
    assert "nothing was downloaded" in no.stdout
    assert invoke(*words).exit_code == 1  # nobody answers
    assert "recordings CC0" in no.stdout
    assert "30.00 GB" in no.stdout  # ten files of two people
    assert not begun
    assert not (tmp_path / "meg").exists()
    yes = invoke(*words, input="y\n")
    assert yes.exit_code == 0, yes.output
    assert len(begun) == 1
    assert invoke(*words, "--yes").exit_code == 0
    assert len(begun) == 2
    monkeypatch.setattr(download, "_free", lambda _: 10**9)
    assert "no room for things_meg" in refused(*words, "--yes")
    assert len(begun) == 2


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.npy").write_bytes(b"abc")
    (tmp_path / "list.csv").write_text("path,url,size\na.npy,http://127.0.0.1:9/a.npy,3\n")
    result = invoke("download", "things_eeg2", "--root", tmp_path / "set",
                    "--url-list", tmp_path / "list.csv")  # fmt: skip
    assert result.exit_code == 0, result.output  # all is there: nothing to ask, nothing to fetch
    (row,) = [line for line in result.stdout.splitlines() if line.startswith("a.npy")]
    assert row.split() == ["a.npy", "already", "there", "size"]


@pytest.mark.parametrize("kind", ["readers", "preparers"])
def test_readers_and_preparers_are_listed(kind: str) -> None:
    result = runner.invoke(app, ["list", kind])
    assert result.exit_code == 0, result.output
    assert "bids" in result.stdout


DOCS = Path(__file__).parents[2] / "docs" / "datasets"
SHELL = re.compile(r"^\.\. code-block:: shell\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Words of the commands `phosphene data` of a page."""
    lines = [
        line.strip() for block in SHELL.findall(page.read_text()) for line in block.split("\n")
    ]
    return [shlex.split(line, comments=True)[2:] for line in lines
            if line.startswith("phosphene data ")]  # fmt: skip


def test_the_commands_of_the_pages_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mne_bids", reason="the extra bids is not installed")
    monkeypatch.chdir(tmp_path)
    write_bids("study")
    write_bids("implants", datatype="ieeg", sfreq=500.0)
    rng = np.random.default_rng(0)
    names = [f"thing{i:02d}/thing{i:02d}_1.png" for i in range(6)]
    for name in names:
        place = Path("own/pictures") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place)
    np.savez("own/session.npz", signals=rng.standard_normal((12, 4, 10)), sfreq=100.0,
             stimulus=names * 2)  # fmt: skip
    found = [
        words for page in ("own_data_check", "bids") for words in commands(DOCS / f"{page}.rst")
    ]
    assert len(found) == 5
    for words in found:
        result = invoke(*words)
        assert result.exit_code == 0, (words, result.output)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.rst")), ids=lambda page: page.stem)
def test_the_commands_of_all_pages_name_what_exists(page: Path) -> None:
    for command, first, *_ in commands(page):
        if command == "download":
            assert first in _registry.names("dataset")
        elif command == "prepare":
            assert first in _registry.names("preparer")
        else:
            assert command == "check"

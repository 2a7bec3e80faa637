"""The Python in the pages about data sets runs, on miniatures that lie where the pages say.

A page finds the miniatures that its entry in `MINIATURES` writes; meanwhile the data set's expected
counts are those of the miniature, so that the commands are the ones for the real files.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from phosphene import _registry
from phosphene.data.datasets import get_dataset
from phosphene.testing.layouts import (
    write_god,
    write_nsd,
    write_things_eeg2,
    write_things_fmri,
    write_things_meg,
)

PAGES = sorted(
    page
    for page in (Path(__file__).parents[2] / "docs" / "datasets").glob("*.rst")
    if "code-block:: python" in page.read_text()
)
BLOCK = re.compile(r"^\.\. code-block:: python\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)


def things_eeg2(folder: Path) -> dict[str, int]:
    write_things_eeg2(folder / "things-eeg2", "nice", concepts=8, test_concepts=6, images=3)
    write_things_eeg2(folder / "things-eeg2-raw", "raw", concepts=2, images=2)
    return {
        "train_images": 24,
        "train_repetitions": 4,
        "test_images": 6,
        "test_repetitions": 8,
    }


def things_meg(folder: Path) -> dict[str, int]:
    made = write_things_meg(folder / "things-meg", concepts=8, test_concepts=3)
    return {
        "trials": len(made.events),
        "images": len(made.ids),
        "channels": 8,
        "test_images": 3,
        "test_repetitions": 4,
        "train_images": 15,
    }


def god(folder: Path) -> dict[str, int]:
    write_god(folder / "god")
    return {
        "train_trials": 32,
        "train_stimuli": 32,
        "train_concepts": 8,
        "test_trials": 30,
        "test_stimuli": 5,
        "test_concepts": 5,
        "imagery_trials": 10,
        "imagery_concepts": 5,
        "test_images": 5,
    }


def nsd(folder: Path) -> dict[str, int]:
    write_nsd(folder / "nsd")
    return {
        "trials_per_session": 12,
        "shared_images": 5,
        "sessions_subj01": 5,
        "voxels_subj01": 36,
        "test_1000_trials_subj01": 15,
        "test_images": 5,
    }


def things_fmri(folder: Path) -> dict[str, int]:
    write_things_fmri(folder / "things-fmri")
    return {
        "trials": 48,
        "train_trials": 36,
        "train_stimuli": 36,
        "test_trials": 12,
        "test_stimuli": 4,
        "test_images": 4,
    }


MINIATURES: dict[str, Callable[[Path], dict[str, int]]] = {
    "things_eeg2": things_eeg2,
    "things_meg": things_meg,
    "god": god,
    "nsd": nsd,
    "things_fmri": things_fmri,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.stem in MINIATURES:
        info = get_dataset(page.stem)
        expected = {**info.expected, **MINIATURES[page.stem](tmp_path)}
        known = _registry._entries["dataset"]
        small = dataclasses.replace(info, expected=expected)
        monkeypatch.setitem(known, page.stem, dataclasses.replace(known[page.stem], obj=small))
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up by name
    code = [textwrap.dedent(block) for block in BLOCK.findall(page.read_text())]
    assert code
    for number, block in enumerate(code):
        exec(compile(block, f"{page.name}, block {number + 1}", "exec"), module.__dict__)
    if page.stem in MINIATURES:
        assert len(module.result.table) == expected["test_images"]
        assert module.result.protocol.zero_shot
        assert module.result.protocol.test_openings == 1


def test_pages_were_found() -> None:
    assert {"things_eeg2", "things_meg"} <= {page.stem for page in PAGES}

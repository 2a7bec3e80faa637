"""The audit on real recordings: leave-one-run-out passes, random volumes and sessions do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from phosphene import runs
from phosphene.config import load_recipe
from phosphene.data.preprocess.averaging import BlockAverage
from phosphene.data.preprocess.voxels import DetrendZScore
from phosphene.data.readers.miyawaki2008 import read_miyawaki2008
from phosphene.data.readers.nifti import read_nifti
from phosphene.data.recording import Recording
from phosphene.evaluation.audit import audit_data, audit_pipeline
from phosphene.runs.auditing import audit_run

RECIPE = Path(__file__).parents[1] / "recipes" / "haxby2001" / "classification.yaml"
FILES = {"bold": "bold.nii.gz", "mask": "mask.nii.gz", "labels": "attributes_literal.txt"}


@pytest.fixture(scope="module")
def haxby(shared_data: Path) -> Path:
    pytest.importorskip("nibabel", reason="the extra fmri is not installed")
    found = shared_data / "haxby2001_slice"
    if not found.is_dir():
        pytest.skip(f"the recording is not at {found}")
    return found


@pytest.fixture(scope="module")
def volumes(haxby: Path) -> Recording:
    read = read_nifti(**{part: haxby / name for part, name in FILES.items()})
    return DetrendZScore().transform(read)


@pytest.fixture(scope="module")
def miyawaki(shared_data: Path) -> Recording:
    path = shared_data / "miyawaki2008" / "miyawaki_structured_28x28.mat"
    if not path.is_file():
        pytest.skip(f"the recording is not at {path}")
    return read_miyawaki2008(path)


def ridge(x: Any, y: Any, train: Any, test: Any) -> Any:
    model = make_pipeline(StandardScaler(), RidgeClassifier(100.0)).fit(x[train], y[train])
    return model.decision_function(x[test])


@pytest.mark.slow
def test_the_protocol_by_runs_passes_through_the_command(haxby: Path, tmp_path: Path) -> None:
    paths = [f"data.{part}={haxby / file}" for part, file in FILES.items()]
    run = runs.fit(load_recipe(RECIPE, paths), tmp_path / "run", progress=False)
    runs.evaluate(run, progress=False)
    found = audit_run(tmp_path / "run", progress=False)
    assert found.passed
    assert not [verdict for verdict in found if verdict.verdict == "warn"]
    assert found["runs on both sides"].numbers["shared"] == 0
    assert found["shuffled responses"].numbers["two_way"] == pytest.approx(0.5, abs=0.2)


def test_a_random_split_of_volumes_is_flagged_and_inflates(volumes: Recording) -> None:
    some = volumes.select((volumes.trials["stimulus"] != "rest").to_numpy())
    y, run = some.trials["stimulus"].to_numpy(), some.trials["run"].to_numpy()
    random = list(StratifiedKFold(12, shuffle=True, random_state=0).split(some.signals, y))
    found = audit_pipeline(ridge, some.signals, y, random, groups=run)["blocks on both sides"]
    assert found.verdict == "fail"
    assert found.numbers["as_split"] > found.numbers["by_block"] + 0.1
    by_run = list(LeaveOneGroupOut().split(some.signals, y, run))
    assert audit_pipeline(ridge, some.signals, y, by_run, groups=run).passed
    apart = audit_data(*(some.select(rows) for rows in by_run[0]), zero_shot=False)
    assert apart.passed
    assert not [verdict for verdict in apart if verdict.verdict == "warn"]
    train, test = random[0]
    data = audit_data(some.select(train), some.select(test), zero_shot=False)
    assert {verdict.check for verdict in data.failed} == {"runs on both sides"}


def test_blocks_show_no_such_gap(volumes: Recording) -> None:
    blocks = BlockAverage(shift_trs=2).transform(volumes)
    y, run = blocks.trials["stimulus"].to_numpy(), blocks.trials["run"].to_numpy()
    random = list(StratifiedKFold(12, shuffle=True, random_state=0).split(blocks.signals, y))
    found = audit_pipeline(ridge, blocks.signals, y, random, groups=run)["blocks on both sides"]
    assert found.verdict == "warn"
    assert abs(found.numbers["as_split"] - found.numbers["by_block"]) < 0.12


def test_labels_of_miyawaki_are_exposed_as_sessions(miyawaki: Recording) -> None:
    trials = miyawaki.trials
    train = np.flatnonzero(trials["file_split"] == "train")
    test = np.flatnonzero(trials["file_split"] == "test")
    data = audit_data(miyawaki.select(train), miyawaki.select(test), zero_shot=False, label="label")
    assert {verdict.check for verdict in data.failed} == {"class and block"}
    assert "12 classes, 12 sessions" in data["class and block"].evidence
    found = audit_pipeline(
        ridge, miyawaki.signals, trials["label"].to_numpy(), [(train, test)],
        groups=trials["session"].to_numpy(),
    )["blocks on both sides"]  # fmt: skip
    assert found.verdict == "fail"
    assert found.numbers["as_split"] > 0.9
    # Figures vary within sessions: nothing of the kind is said of them.
    figures = audit_data(miyawaki.select(train), miyawaki.select(test), zero_shot=False)
    assert figures["class and block"].verdict == "pass"

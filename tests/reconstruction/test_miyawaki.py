"""Figures from fMRI blocks: sessions, unseen figures and what a leak does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from phosphene.data.readers.miyawaki2008 import read_miyawaki2008, read_miyawaki2008_stimuli
from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.runs.figures import CENTRED, SEEN, UNSEEN, FigureStudy, reconstruct_figures

SIDE = 6


def figures(n: int = 12) -> StimulusSet:
    rng = np.random.default_rng(0)
    pictures = 255 * (rng.random((n, SIDE, SIDE, 1)) > 0.5).astype(np.uint8).repeat(3, axis=3)
    return StimulusSet.from_arrays([f"f{i}" for i in range(n)], pictures)


def blocks(stimuli: StimulusSet, signal: float, drift: float = 0.0, seed: int = 0) -> Recording:
    """Three sets of four figures, each shown in two sessions, twice in each."""
    rng = np.random.default_rng(seed)
    names = [f"f{4 * (s // 2) + i}" for s in range(6) for i in range(4) for _ in range(2)]
    table = pd.DataFrame({"stimulus": names, "session": np.repeat([f"s{s}" for s in range(6)], 8)})
    pixels = np.stack([stimuli.image(name)[..., 0].ravel() / 255 for name in names])
    voxels = pixels @ rng.normal(size=(SIDE**2, 120))
    shift = drift * rng.normal(size=(6, 120))[np.repeat(np.arange(6), 8)]
    noisy = signal * voxels + shift + rng.normal(size=voxels.shape)
    return Recording.from_arrays(noisy.astype(np.float32), table, modality="fmri", name="made up")


def rows(study: FigureStudy) -> pd.DataFrame:
    return study.table.set_index("analysis")


def test_pixels_are_found_where_there_is_signal() -> None:
    stimuli = figures()
    study = reconstruct_figures(blocks(stimuli, 1.0), stimuli, size=SIDE, progress=False)
    table = rows(study)
    assert (table.loc[[SEEN, CENTRED], "top1"] == 1).all()
    assert table.loc[UNSEEN, "top1"] > 0.6
    assert (table["candidates"] == 4).all()
    assert table["transductive"].tolist() == [False, False, True]
    assert study.pictures[SEEN].shape == (48, SIDE, SIDE, 3)
    assert (table["top1_low"] <= table["top1"]).all()
    # the scores are those of the pictures that are shown, by a loop
    part = study.blocks[study.blocks["analysis"] == UNSEEN].reset_index(drop=True)
    for i in (0, 13, 30, 47):
        own = part.loc[i, "stimulus"]
        others = sorted({*part.loc[part["session"] == part.loc[i, "session"], "stimulus"]} - {own})
        r = {name: np.corrcoef(study.pictures[UNSEEN][i].ravel(), stimuli.image(name).ravel())[0, 1]
             for name in [own, *others]}  # fmt: skip
        assert part.loc[i, "two_way"] == pytest.approx(np.mean([r[o] < r[own] for o in others]))
        assert part.loc[i, "top1"] == float(r[own] > max(r[o] for o in others))
        assert part.loc[i, "pixcorr"] == pytest.approx(r[own], abs=1e-5)


def test_no_signal_is_chance() -> None:
    stimuli = figures()
    found = [
        rows(reconstruct_figures(blocks(stimuli, 0.0, seed=seed), stimuli, size=SIDE,
                                 progress=False))[["top1", "two_way"]]
        for seed in range(8)
    ]  # fmt: skip
    mean = sum(found) / len(found)
    np.testing.assert_allclose(mean["top1"], 0.25, atol=0.08)
    np.testing.assert_allclose(mean["two_way"], 0.5, atol=0.08)


def test_removing_the_mean_of_a_test_session_is_said_to_be_transductive() -> None:
    stimuli = figures()
    gains = []
    for seed in range(4):
        study = reconstruct_figures(blocks(stimuli, 0.3, drift=4.0, seed=seed), stimuli, size=SIDE,
                                    analyses=[SEEN, UNSEEN, CENTRED], progress=False)  # fmt: skip
        table = rows(study)
        gains.append(table.loc[CENTRED, "two_way"] - table.loc[SEEN, "two_way"])
    assert np.mean(gains) > 0.02
    assert any("transductive" in mark for mark in study.protocols[CENTRED].watermarks())
    assert not any("transductive" in mark for mark in study.protocols[SEEN].watermarks())
    assert study.protocols[UNSEEN].zero_shot
    assert not study.protocols[SEEN].zero_shot


def test_a_test_session_does_not_touch_its_own_scaling_or_penalty() -> None:
    """Other blocks of the test session change a block's picture in the transductive row only."""
    stimuli = figures()
    whole = blocks(stimuli, 1.0, seed=3)
    spoilt = np.array(whole.signals)
    spoilt[1:8] *= 50  # session s0, all but its first block
    other = Recording.from_arrays(spoilt, whole.trials, modality="fmri", name="spoilt")
    one, two = (reconstruct_figures(r, stimuli, size=SIDE, progress=False) for r in (whole, other))
    for analysis in (SEEN, UNSEEN):
        np.testing.assert_array_equal(one.pictures[analysis][0], two.pictures[analysis][0])
    assert not np.allclose(one.pictures[CENTRED][0], two.pictures[CENTRED][0])


def test_designs_that_do_not_allow_it_are_refused() -> None:
    stimuli = figures()
    whole = blocks(stimuli, 1.0)
    with pytest.raises(DataError, match="three or more"):
        reconstruct_figures(whole.select(np.arange(48) < 16), stimuli, size=SIDE, progress=False)
    two_sets = whole.select(np.arange(48) < 32)
    with pytest.raises(DataError, match="cannot be left out"):
        reconstruct_figures(two_sets, stimuli, size=SIDE, progress=False)
    part = reconstruct_figures(two_sets, stimuli, size=SIDE, analyses=[SEEN], progress=False)
    assert part.table["analysis"].tolist() == [SEEN]
    with pytest.raises(DataError, match="no such analysis"):
        reconstruct_figures(whole, stimuli, size=SIDE, analyses=["seen"], progress=False)
    single = np.isin(whole.trials["stimulus"], ["f0", "f4", "f8"])
    with pytest.raises(DataError, match="single figure"):
        reconstruct_figures(whole.select(single), stimuli, size=SIDE, progress=False)


def test_figures_of_a_real_recording(shared_data: Path) -> None:
    path = shared_data / "miyawaki2008" / "miyawaki_structured_28x28.mat"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    recording, stimuli = read_miyawaki2008(path), read_miyawaki2008_stimuli(path)
    table = rows(reconstruct_figures(recording, stimuli, progress=False))
    assert (table["candidates"] == 5).all()
    assert (table["n_blocks"] == 119).all()
    # the honest range, by the penalty; the transductive one apart
    assert 0.84 <= table.loc[SEEN, "top1"] <= 0.95
    assert 0.86 <= table.loc[CENTRED, "top1"] <= 0.97
    # figures that were never seen: above chance, and clearly below those that were
    assert 0.35 < table.loc[UNSEEN, "top1"] < table.loc[SEEN, "top1"] - 0.1
    assert 0.6 < table.loc[UNSEEN, "two_way"] < table.loc[SEEN, "two_way"] - 0.05
    assert table.loc[UNSEEN, "top1_low"] > 0.2
    # blocks that belong to other figures of their session: nothing is left
    rng = np.random.default_rng(0)
    mixed = recording.trials.copy()
    for _, rows_ in mixed.groupby("session").indices.items():
        mixed.iloc[rows_, mixed.columns.get_loc("stimulus")] = rng.permutation(
            mixed["stimulus"].to_numpy()[rows_]
        )
    signals = np.asarray(recording.signals)
    shuffled = Recording.from_arrays(signals, mixed[["stimulus", "session"]], modality="fmri",
                                     name="shuffled")  # fmt: skip
    null = rows(
        reconstruct_figures(
            shuffled, stimuli, alphas=(30.0, 300.0), analyses=[SEEN], progress=False
        )
    )
    assert null.loc[SEEN, "top1"] < 0.45

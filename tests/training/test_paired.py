"""PairedData: joined by id, gathered without loss, streamed or resident to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from phosphene.data.recording import Recording
from phosphene.encoders.tsconv import TSConv
from phosphene.errors import DataError
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.paired import PairedData
from phosphene.training.scaling import ChannelScaler

Make = Callable[..., Recording]


def test_targets_are_joined_by_id_not_by_order(bank: FeatureBank, make_recording: Make) -> None:
    ids = bank.ids[::-1][2:9]
    recording = make_recording(ids, repetitions=2)
    data = PairedData.build(recording, bank, views=("sharp", "original"))
    assert data.stimuli == ids
    assert data.targets["image"].shape == (2, 7, 5)
    for batch in data.batches(4, seed=0, epoch=0):
        for row, trial in enumerate(batch.index.tolist()):
            name = recording.trials["stimulus"][trial]
            np.testing.assert_array_equal(
                batch.targets["image"][row], bank.vectors("sharp", ids=[name])[0]
            )
            np.testing.assert_array_equal(batch.brain[row], recording.signals[trial])


def test_levels_are_picked_per_trial(bank: FeatureBank, make_recording: Make) -> None:
    data = PairedData.build(make_recording(bank.ids), bank, views=("original", "sharp"))
    stimulus = torch.tensor([3, 0, 7])
    table = data.targets["image"]
    mixed = data.select_targets(stimulus, {"image": torch.tensor([1, 0, 1])})["image"]
    torch.testing.assert_close(mixed, torch.stack([table[1, 3], table[0, 0], table[1, 7]]))
    fixed = data.select_targets(stimulus, {"image": 1})["image"]
    torch.testing.assert_close(fixed, table[1][stimulus])
    every = data.select_targets(stimulus, {"image": None})["image"]
    torch.testing.assert_close(every, table[:, stimulus])
    torch.testing.assert_close(data.select_targets(stimulus, {})["image"], table[0][stimulus])
    # Levels of the first trials: these alone get vectors.
    first = data.select_targets(stimulus, {"image": torch.tensor([1, 0])})["image"]
    assert torch.equal(first, mixed[:2])


def test_an_epoch_is_every_trial_once_in_an_order_of_its_own(
    bank: FeatureBank, make_recording: Make
) -> None:
    data = PairedData.build(make_recording(bank.ids), bank)

    def order(seed: int, epoch: int) -> list[int]:
        return [i for b in data.batches(5, seed, epoch) for i in b.index.tolist()]

    assert sorted(order(0, 0)) == list(range(12))
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(*pair)) for pair in ((0, 0), (0, 1), (1, 0))}) == 3


def test_rows_restrict_an_epoch_and_a_single_trial_is_left_out(
    bank: FeatureBank, make_recording: Make
) -> None:
    data = PairedData.build(make_recording(bank.ids), bank)
    rows = torch.tensor([1, 4, 5, 8, 11])
    batches = list(data.batches(2, 0, 0, rows=rows))
    assert [len(b.index) for b in batches] == [2, 2]
    assert {i for b in batches for i in b.index.tolist()} < set(rows.tolist())


def test_repeated_stimuli_are_named_for_the_objective(
    bank: FeatureBank, make_recording: Make
) -> None:
    once = next(PairedData.build(make_recording(bank.ids), bank).batches(12, 0, 0))
    twice = next(PairedData.build(make_recording(bank.ids, 2), bank).batches(24, 0, 0))
    assert "stimulus" not in once.targets
    torch.testing.assert_close(twice.targets["stimulus"], twice.stimulus)


@pytest.mark.parametrize("prepared", [False, True])
def test_streamed_equals_resident_to_the_bit(
    bank: FeatureBank, make_recording: Make, tmp_path: Path, prepared: bool
) -> None:
    recording = make_recording(bank.ids, 2, chans=3, times=80)
    mapped = Recording.load(recording.save(tmp_path / "rec"))
    scaler = ChannelScaler.fit(recording)
    prepare = TSConv(3, 80, 4).prepare if prepared else None
    build = {"scaler": scaler, "prepare": prepare}
    resident = PairedData.build(recording, bank, **build)
    streamed = PairedData.build(mapped, bank, **build, max_resident_bytes=10)
    assert streamed.source.streamed
    assert not resident.source.streamed
    for a, b in zip(resident.batches(7, 0, 3), streamed.batches(7, 0, 3), strict=True):
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.brain, b.brain)
    assert "signals" not in mapped.__dict__  # never loaded as a whole
    with pytest.raises(DataError, match="streamed"):
        _ = streamed.brain


@pytest.mark.parametrize("limit", [None, 10])
def test_signals_may_be_kept_in_bf16(
    bank: FeatureBank, make_recording: Make, limit: int | None
) -> None:
    recording = make_recording(bank.ids, 2, chans=3, times=80)
    build = {"scaler": ChannelScaler.fit(recording), "max_resident_bytes": limit}
    full = PairedData.build(recording, bank, **build)
    half = PairedData.build(recording, bank, **build, dtype=torch.bfloat16, owned=True)
    for a, b in zip(full.batches(7, 0, 3), half.batches(7, 0, 3), strict=True):
        assert torch.equal(a.brain.bfloat16(), b.brain)


def test_an_error_while_streaming_reaches_the_training(
    bank: FeatureBank, make_recording: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = PairedData.build(make_recording(bank.ids), bank, max_resident_bytes=1)

    def broken(rows: object) -> None:
        raise OSError("disk gone")

    object.__setattr__(data.source.signals, "take", broken)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="disk gone"):
        list(data.batches(4, 0, 0))


@pytest.mark.parametrize("prepared", [False, True])
def test_an_owned_array_is_reused_and_gives_the_same_numbers(
    bank: FeatureBank, make_recording: Make, prepared: bool
) -> None:
    prepare = TSConv(3, 80, 4).prepare if prepared else None
    recording = make_recording(bank.ids, chans=3, times=80)
    before = recording.signals.copy()
    scaler = ChannelScaler.fit(recording)
    copied = PairedData.build(recording, bank, scaler=scaler, prepare=prepare)
    np.testing.assert_array_equal(recording.signals, before)
    owned = PairedData.build(recording, bank, scaler=scaler, prepare=prepare, owned=True)
    assert torch.equal(copied.brain, owned.brain)
    assert owned.brain.data_ptr() == recording.signals.ctypes.data


def test_missing_stimuli_and_wrong_targets_are_named(
    bank: FeatureBank, make_recording: Make
) -> None:
    with pytest.raises(DataError, match="c9/c9_0"):
        PairedData.build(make_recording(["c0/c0_0.png", "c9/c9_0.png"]), bank)
    with pytest.raises(DataError, match=r"'text'[\s\S]*\(levels, 12, dimensions\)"):
        PairedData.build(make_recording(bank.ids), bank, targets={"text": np.zeros((1, 3, 2))})
    values = np.zeros((1, 12, 2))
    values[0, 2, 1] = np.nan
    with pytest.raises(DataError, match=r"not finite for stimuli 2$"):
        PairedData.build(make_recording(bank.ids), bank, targets={"image": values})

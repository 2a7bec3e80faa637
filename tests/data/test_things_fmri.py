"""THINGS-fMRI: tables against what pandas would say, regions, ceilings, test concepts, damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzzing import fuzz, same_recording

from phosphene.data.datasets import get_dataset
from phosphene.data.preprocess.masking import to_image
from phosphene.data.readers._source import verifiable
from phosphene.data.readers.things_fmri import read_things_fmri
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.testing.layouts import write_things_fmri

h5py = pytest.importorskip("h5py", reason="the extra h5 is not installed")

FILES = ("ResponseData.h5", "VoxelMetadata.csv", "StimulusMetadata.csv")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_things_fmri(tmp_path)


def read(root: Path, **options: Any) -> Recording:
    return read_things_fmri(root, "01", **{"strict": False, **options})


def table(root: Path, part: int) -> pd.DataFrame:
    return pd.read_csv(root / f"sub-01_{FILES[part]}")


def responses(root: Path) -> Any:
    with h5py.File(root / f"sub-01_{FILES[0]}") as file:
        return file["ResponseData/block0_values"][()]


def change_table(root: Path, part: int, edit: Callable[[pd.DataFrame], Any]) -> None:
    path = root / f"sub-01_{FILES[part]}"
    found = pd.read_csv(path)
    edited = edit(found)
    (found if edited is None else edited).to_csv(path, index=False)


def change_responses(root: Path, edit: Callable[[Any], None]) -> None:
    with h5py.File(root / f"sub-01_{FILES[0]}", "r+") as file:
        edit(file)


def test_values_and_trials(root: Path) -> None:
    recording = read(root, drop_test_concepts=False)
    assert recording.shape == (48, 40)
    np.testing.assert_allclose(recording.signals, responses(root).T.astype(np.float32))
    stimuli = table(root, 2)
    trials = recording.trials
    assert trials["stimulus"].tolist() == stimuli["stimulus"].tolist()
    assert trials["concept"].tolist() == stimuli["concept"].tolist()
    assert trials["split"].tolist() == stimuli["trial_type"].tolist()
    assert trials["session"].tolist() == stimuli["session"].astype(str).tolist()
    assert trials.loc[trials["split"] == "test", "repetition"].max() == 2
    assert read(root.parent, drop_test_concepts=False).fingerprint == recording.fingerprint
    assert read(root, dtype="float16").dtype == np.float16


def test_concepts_of_the_test_leave_the_training(root: Path) -> None:
    recording = read(root)
    train, test = recording.select(split="train"), recording.select(split="test")
    assert not set(train.concepts) & set(test.concepts)
    assert recording.history[-1]["left_out"] == 4 * 3
    assert (train.n_trials, test.n_trials) == (24, 12)
    kept = recording.trials["trial"].to_numpy()
    np.testing.assert_allclose(recording.signals, responses(root)[:, kept].T, rtol=1e-6)
    assert read(root, part="train").n_trials == 24
    assert read(root, part="test").n_trials == 12


def test_a_table_without_concepts_has_them_from_the_names(root: Path) -> None:
    before = read(root).trials["concept"].tolist()
    change_table(root, 2, lambda t: t.drop(columns="concept"))
    assert read(root).trials["concept"].tolist() == before


def test_trials_in_another_order_than_the_responses(root: Path) -> None:
    good = read(root)
    change_table(root, 2, lambda t: t.sample(frac=1, random_state=0))
    other = read(root)
    pd.testing.assert_series_equal(
        other.trials.sort_values("trial")["stimulus"].reset_index(drop=True),
        good.trials["stimulus"],
    )
    order = np.argsort(other.trials["trial"].to_numpy())
    np.testing.assert_array_equal(other.signals[order], good.signals)


def test_voxels_in_another_order_than_the_responses(root: Path) -> None:
    good = read(root)
    change_table(root, 1, lambda t: t.sample(frac=1, random_state=0))
    other = read(root)
    np.testing.assert_array_equal(other.pick(good.channel_names).signals, good.signals)


def test_regions_and_ceilings(root: Path) -> None:
    recording = read(root)
    voxels = recording.sensors.voxels
    assert voxels is not None
    assert recording.sensors.rois == ["V1", "hV4", "LO1 (prf)", "lFFA"]
    stored = table(root, 1)
    np.testing.assert_allclose(voxels["noise_ceiling"], stored["nc_singletrial"] / 100)
    np.testing.assert_allclose(voxels["nc_testset"], stored["nc_testset"] / 100)
    assert voxels["prf-size"].tolist() == stored["prf-size"].tolist()
    assert read(root, roi=["V1", "lFFA"]).shape[1] == 16
    some = read(root, min_noise_ceiling=0.3)
    expected = np.flatnonzero(stored["nc_testset"] >= 30)
    np.testing.assert_array_equal(some.signals, recording.signals[:, expected])
    assert some.history[-1]["min_noise_ceiling"] == 0.3
    with pytest.raises(DataError, match=r"(?s)'V4'.*V1, hV4.*'hV4'"):
        read(root, roi="V4")
    with pytest.raises(DataError, match="share of the variance"):
        read(root, min_noise_ceiling=30)
    with pytest.raises(DataError, match="no voxel is left"):
        read(root, min_noise_ceiling=1)


def test_back_to_an_image_with_the_brain_mask(root: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="the extra fmri is not installed")
    with pytest.raises(DataError, match="affine"):
        to_image(read(root))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    mask = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 14, 5), np.uint8), affine), mask)
    recording = read(root, brain_mask=mask)
    image = to_image(recording)
    assert image.shape == (8, 14, 5, recording.n_trials)
    stored = table(root, 1).iloc[17]
    place = tuple(int(stored[f"voxel_{axis}"]) for axis in "xyz")
    np.testing.assert_allclose(np.asarray(image.dataobj)[place], recording.signals[:, 17])
    assert recording.sensors.positions()[17].tolist() == [2.0 * p for p in place]
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 14, 5), np.uint8), affine), mask)
    with pytest.raises(DataError, match=r"mask\.nii\.gz is smaller"):
        read(root, brain_mask=mask)


def test_other_forms_of_the_table(root: Path) -> None:
    good = read(root)
    values = responses(root)

    def one_block(file: Any) -> None:
        group = file["ResponseData"]
        for name in ("block0_values", "block1_values", "block0_items", "block1_items"):
            del group[name]
        group["block0_values"] = np.column_stack([np.arange(40.0), values])

    change_responses(root, one_block)
    np.testing.assert_array_equal(read(root).signals, good.signals)

    def other_axis(file: Any) -> None:
        group = file["ResponseData"]
        del group["block0_values"]
        group["block0_values"] = np.column_stack([np.arange(40.0), values]).T
        group["block0_values"].attrs["transposed"] = False

    change_responses(root, other_axis)
    np.testing.assert_array_equal(read(root).signals, good.signals)

    order = np.random.default_rng(0).permutation(48)

    def numbered(file: Any) -> None:
        group = file["ResponseData"]
        del group["block0_values"]
        group["block0_values"] = values[:, order]
        group["block0_items"] = order
        group["block1_values"] = np.arange(40)[:, None]

    change_responses(root, numbered)
    np.testing.assert_array_equal(read(root).signals, good.signals)


def test_counts_are_those_of_the_data_set(root: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)trials 48, test_trials 12.*trials 9840"):
        read_things_fmri(root, 1)
    expected = get_dataset("things_fmri").expected
    assert expected["trials"] == expected["train_trials"] + expected["test_trials"]


def drop(name: str) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        del file[name]

    return edit


def put(name: str, value: Any) -> Callable[[Any], None]:
    def edit(file: Any) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("ResponseData"), "no table of voxels by the 48 trials"),
        (drop("ResponseData/block1_values"), "no column voxel_id"),
        (put("ResponseData/block1_values", np.zeros((40, 1))), "occurs more than once"),
        (put("ResponseData/block1_values", np.arange(40)[:, None] + 1), r"voxel_id 0, 40"),
        (put("ResponseData/block1_values", np.arange(40)[:, None] / 3), "whole number"),
        (put("ResponseData/block0_values", np.zeros((40, 47))), "by the 48 trials"),
        (put("ResponseData/block0_values", np.full((40, 48), np.nan)), "NaN or infinite"),
    ],
)
def test_responses_that_cannot_be(root: Path, edit: Callable[[Any], None], message: str) -> None:
    change_responses(root, edit)
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert "sub-01_ResponseData.h5" in str(caught.value)


def set_cell(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def edit(found: pd.DataFrame) -> pd.DataFrame:
        out = found.astype(object)
        out.loc[row, column] = value
        return out

    return edit


@pytest.mark.parametrize(
    ("part", "edit", "message"),
    [
        (1, lambda t: t.drop(columns="voxel_x"), r"(?s)'voxel_x'"),
        (1, lambda t: t.iloc[:30], r"40 and 30, voxel_id 30, 31"),
        (1, set_cell(3, "nc_testset", 120), r"(?s)nc_testset is no percentage.*120"),
        (1, set_cell(3, "voxel_y", 4), "more than once"),
        (1, set_cell(3, "voxel_z", 1.5), "whole numbers"),
        (1, set_cell(3, "V1", None), "V1 lacks numbers in rows 3"),
        (2, lambda t: t.rename(columns={"trial_type": "type"}), r"(?s)'trial_type'"),
        (2, set_cell(3, "trial_type", "catch"), r"(?s)other things than train and test.*catch"),
        (2, set_cell(3, "stimulus", None), "rows 3"),
        (2, set_cell(3, "trial_id", 4), "does not count the trials"),
        (2, lambda t: t.iloc[:0], "is empty"),
        (2, lambda t: t.assign(trial_type="train")[["trial_type"]], "'session'"),
    ],
)
def test_tables_that_cannot_be(
    root: Path, part: int, edit: Callable[[pd.DataFrame], Any], message: str
) -> None:
    change_table(root, part, edit)
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert FILES[part] in str(caught.value)


def test_missing_files_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)subject '02'.*sub-01_ResponseData\.h5"):
        read_things_fmri(root, "sub-02")
    (root / "sub-01_VoxelMetadata.csv").unlink()
    with pytest.raises(DataError, match=r"(?s)incomplete.*sub-01_VoxelMetadata\.csv"):
        read(root)
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "nowhere")


def fuzz_files(root: Path, n: int, seed: int) -> None:
    good = read(root)
    for number, name in enumerate(FILES):
        outcomes = fuzz(
            root / f"sub-01_{name}",
            lambda: read(root),
            lambda found: same_recording(found, good),
            n=n,
            seed=seed + number,
            unverifiable=lambda found: not verifiable(found),
        )
        assert outcomes["refused"] > n / 3


def test_damaged_files(root: Path) -> None:
    fuzz_files(root, 18, seed=1)


@pytest.mark.slow
def test_many_damaged_files(root: Path) -> None:
    fuzz_files(root, 200, seed=5)

"""The NIfTI reader on small files: places, scaling, tables of labels, damage."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phosphene import _registry
from phosphene.data.readers.nifti import read_nifti
from phosphene.errors import DataError

nibabel = pytest.importorskip("nibabel", reason="the extra fmri is not installed")

SHAPE = (4, 3, 2, 6)
AFFINE = np.array([[-3.0, 0, 0, 60], [0, 3.5, 0, -30], [0, 0, 4, 10], [0, 0, 0, 1]])
LABELS = "rest 0\nface 0\nhouse 0\nrest 1\nface 1\nhouse 1\n"


def write(
    folder: Path, *, data: NDArray[Any] | None = None, mask: NDArray[Any] | None = None
) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    data = rng.integers(100, 2000, SHAPE).astype(np.int16) if data is None else data
    if mask is None:
        mask = np.zeros(SHAPE[:3], dtype=np.int16)
        mask[1:3, 1, :] = 1
    paths = {
        "bold": folder / "bold.nii.gz",
        "mask": folder / "mask.nii.gz",
        "labels": folder / "labels.txt",
    }
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((3.0, 3.5, 4.0, 2.5)[: data.ndim])
    nibabel.save(image, paths["bold"])
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), paths["mask"])
    paths["labels"].write_text(LABELS)
    return paths


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return write(tmp_path)


def test_values_names_places_and_trials(files: dict[str, Path]) -> None:
    recording = read_nifti(**files, subject="07")
    stored = np.asarray(nibabel.load(files["bold"]).dataobj)
    assert recording.shape == (6, 4)
    assert recording.modality == "fmri"
    assert recording.signals.dtype == np.float32
    assert recording.channel_names == ["v1-1-0", "v1-1-1", "v2-1-0", "v2-1-1"]
    np.testing.assert_array_equal(recording.signals[:, 2], stored[2, 1, 0])
    assert recording.sensors.voxels is not None
    place = recording.sensors.voxels.loc["v2-1-1"]
    assert place[["x", "y", "z"]].tolist() == [54.0, -26.5, 14.0]
    assert place[["i", "j", "k"]].tolist() == [2, 1, 1]
    np.testing.assert_array_equal(recording.sensors.affine, AFFINE)
    trials = recording.trials
    assert trials["stimulus"].tolist() == ["rest", "face", "house"] * 2
    assert trials["run"].tolist() == list("000111")
    assert trials["volume"].tolist() == [0, 1, 2] * 2
    assert trials["onset"].tolist() == [0, 2.5, 5] * 2
    assert set(trials["subject"]) == {"07"}


def test_it_is_registered() -> None:
    assert _registry.get("reader", "nifti") is read_nifti


def test_scaled_values_and_uncompressed_files(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(500, 50, SHAPE).astype(np.float32)
    files = write(tmp_path)
    image = nibabel.Nifti1Image(values, AFFINE)
    image.set_data_dtype(np.int16)
    plain = tmp_path / "bold.nii"
    nibabel.save(image, plain)
    recording = read_nifti(plain, files["mask"], files["labels"], tr=1.5)
    scaled = nibabel.load(plain).get_fdata()
    np.testing.assert_allclose(recording.signals[:, 0], scaled[1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(recording.signals[:, 0], values[1, 1, 0], atol=0.01)
    assert recording.trials["onset"].tolist() == [0, 1.5, 3] * 2


def test_nifti2(tmp_path: Path) -> None:
    files = write(tmp_path)
    first = nibabel.load(files["bold"])
    second = tmp_path / "second.nii.gz"
    nibabel.save(nibabel.Nifti2Image(np.asarray(first.dataobj), first.affine), second)
    recording = read_nifti(second, files["mask"], files["labels"])
    np.testing.assert_array_equal(recording.signals, read_nifti(**files).signals)


def test_concepts_are_renamed_and_labels_are_not(files: dict[str, Path]) -> None:
    trials = read_nifti(**files, concepts={"face": "human face"}).trials
    assert trials["stimulus"].tolist() == ["rest", "face", "house"] * 2
    assert trials["concept"].tolist() == ["rest", "human face", "house"] * 2


@pytest.mark.parametrize(
    "text",
    [
        "label,run\nrest,0\nface,0\nhouse,0\nrest,1\nface,1\nhouse,1\n",
        "onset\ttrial_type\trun\n" + "".join(f"{i}\tface\t{i // 3}\n" for i in range(6)),
        '"labels" chunks\n\n' + LABELS.replace(" ", "   "),
    ],
)
def test_other_tables_of_labels(files: dict[str, Path], text: str) -> None:
    files["labels"].write_text(text)
    trials = read_nifti(**files).trials
    assert trials["run"].tolist() == list("000111")
    assert trials["stimulus"][1] == "face"


def test_voxels_that_never_change_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.random.default_rng(0).integers(100, 2000, SHAPE).astype(np.int16)
    data[2, 1, 0] = 7
    recording = read_nifti(**write(tmp_path, data=data))
    assert recording.channel_names == ["v1-1-0", "v1-1-1", "v2-1-1"]
    assert "1 of 4 voxels" in caplog.text
    data[1:3, 1, :] = 7
    with pytest.raises(DataError, match="no voxel"):
        read_nifti(**write(tmp_path, data=data))


def test_a_voxel_with_nan_is_named(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    data[2, 1, 1, 3] = np.nan
    with pytest.raises(DataError, match="v2-1-1"):
        read_nifti(**write(tmp_path, data=data))


@pytest.mark.parametrize("part", ["bold", "mask", "labels"])
def test_a_missing_file_is_named(files: dict[str, Path], part: str) -> None:
    files[part] = files[part].with_name("nowhere.nii.gz")
    with pytest.raises(DataError, match=r"nowhere\.nii\.gz"):
        read_nifti(**files)


def test_a_mask_of_another_shape_or_place_or_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)mask\.nii\.gz.*\(4, 3, 3\).*\(4, 3, 2\)"):
        read_nifti(**write(tmp_path, mask=np.ones((4, 3, 3), np.int16)))
    with pytest.raises(DataError, match="is empty"):
        read_nifti(**write(tmp_path, mask=np.zeros((4, 3, 2), np.int16)))
    files = write(tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] += 3
    mask = np.asarray(nibabel.load(files["mask"]).dataobj)
    nibabel.save(nibabel.Nifti1Image(mask, moved), files["mask"])
    with pytest.raises(DataError, match="lies elsewhere"):
        read_nifti(**files)


def test_another_number_of_labels(files: dict[str, Path]) -> None:
    files["labels"].write_text(LABELS + "rest 1\n")
    with pytest.raises(DataError, match=r"(?s)labels\.txt.*bold.*7 labels.*6, one per volume"):
        read_nifti(**files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("rest 0\nface\nhouse 0\n", "lines 2"),
        ("label,time\nrest,0\n", "no column with the runs"),
        ("label,run\nrest,\n" + "face,1\n" * 5, "rows 0"),
    ],
)
def test_a_table_that_cannot_be_read(files: dict[str, Path], text: str, message: str) -> None:
    files["labels"].write_text(text)
    with pytest.raises(DataError, match=message):
        read_nifti(**files)


def test_an_image_of_three_dimensions(tmp_path: Path) -> None:
    files = write(tmp_path)
    with pytest.raises(DataError, match=r"(?s)no series of volumes.*\(4, 3, 2\)"):
        read_nifti(files["mask"], files["mask"], files["labels"])


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    files = write(tmp_path)
    for part in ("bold", "mask"):
        whole = files[part].read_bytes()
        for size in {0, 1, 5, 40, len(whole) // 3, len(whole) // 2, len(whole) - 9, len(whole) - 1}:
            files[part].write_bytes(whole[:size])
            with pytest.raises(DataError, match=files[part].name):
                read_nifti(**files)
        files[part].write_bytes(whole)
    read_nifti(**files)


def test_a_truncated_uncompressed_file(tmp_path: Path) -> None:
    files = write(tmp_path)
    plain = tmp_path / "bold.nii"
    content = gzip.decompress(files["bold"].read_bytes())
    for size in (10, 300, 400, len(content) - 20):
        plain.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"bold\.nii"):
            read_nifti(plain, files["mask"], files["labels"])


def test_flipped_bits_of_a_compressed_file_never_go_unnoticed(tmp_path: Path) -> None:
    files = write(tmp_path)
    whole = files["bold"].read_bytes()
    expected = read_nifti(**files).signals
    noticed: list[bool] = []
    rng = np.random.default_rng(0)
    for position in rng.integers(0, 8 * len(whole), 60):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << (position % 8)
        files["bold"].write_bytes(bytes(damaged))
        try:
            found = read_nifti(**files).signals
        except DataError as error:
            noticed.append("bold.nii.gz" in str(error))
        else:  # the flip hit what gzip does not use, such as the time stamp
            np.testing.assert_array_equal(found, expected)
    assert all(noticed)
    assert len(noticed) > 40


def test_a_header_that_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    files = write(tmp_path)
    content = bytearray(gzip.decompress(files["bold"].read_bytes()))
    content[42:50] = np.array([30000, 30000, 30000, 6], "<i2").tobytes()
    files["bold"].write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError, match="bold"):
        read_nifti(**files)


def test_text_that_pretends_to_be_an_image(files: dict[str, Path]) -> None:
    files["bold"].write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"bold\.nii\.gz is truncated or damaged"):
        read_nifti(**files)

"""Atomic writes, manifests and checked reading."""

from __future__ import annotations

import errno
import json
import os
import pickle
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from phosphene import _manifest
from phosphene._manifest import CheckedArray
from phosphene._saving import (
    atomic_folder,
    atomic_path,
    read_array,
    read_json,
    read_manifest,
    read_table,
    read_tensors,
    read_yaml,
    sha256_array,
    sha256_file,
    sha256_json,
    verify_folder,
    write_array,
    write_bytes,
    write_json,
    write_manifest,
    write_table,
    write_tensors,
    write_text,
    write_yaml,
)
from phosphene.errors import ArtefactError, DataError, StorageError


def flip_bit(path: Path, byte: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    path.write_bytes(bytes(content))


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


# atomic writes


def test_write_replaces_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert leftovers(path.parent) == []


@pytest.mark.parametrize("where", ["fsync", "write"])
def test_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"kept": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"a\.json could not be written: no space is left"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"kept": 1}
    assert leftovers(tmp_path) == []


def test_a_part_of_the_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="could not be written"):
        write_text(tmp_path / "file" / "a.txt", "y")


@pytest.mark.skipif(os.name == "nt", reason="permissions are different there")
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(StorageError, match="permission is denied"):
        write_bytes(tmp_path / "a.bin", b"1")


def test_an_error_of_the_caller_passes_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise KeyError("caller")

    with pytest.raises(KeyError, match="caller"):
        fail_half_way()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_read_error_is_not_called_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        (tmp_path / "absent").read_text()


def test_atomic_folder_replaces_only_our_own(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("one", "two"):
        with atomic_folder(target) as folder:
            write_text(folder / "sub" / "a.txt", text)
            write_manifest(folder)
    assert (target / "sub" / "a.txt").read_text() == "two"
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        raise RuntimeError
    assert verify_folder(target)
    assert leftovers(tmp_path) == []
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(StorageError, match="did not write"), atomic_folder(other):
        pytest.fail("the block must not run")
    assert (other / "chapter.txt").read_text() == "years of work"


def test_atomic_folder_keeps_usual_permissions(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as folder:
        write_text(folder / "x", "1")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & stat.S_IXUSR


# formats


def test_json_converts_numpy_and_refuses_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(
        path,
        {
            "i": np.int64(3),
            "f": np.float32(0.5),
            "nan": np.nan,
            "a": np.arange(2),
            "p": Path("x/y"),
        },
    )
    assert read_json(path) == {"i": 3, "f": 0.5, "nan": None, "a": [0, 1], "p": "x/y"}
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    with pytest.raises(TypeError, match="object has no JSON form"):
        write_json(path, object())


@pytest.mark.parametrize("reader", [read_json, read_yaml, read_array, read_tensors])
def test_missing_and_broken_files_are_named(tmp_path: Path, reader: object) -> None:
    with pytest.raises(ArtefactError, match=r"absent.* is missing"):
        reader(tmp_path / "absent")  # type: ignore[operator]
    (tmp_path / "broken").write_bytes(b"{]\x00: nonsense")
    with pytest.raises(ArtefactError, match="broken"):
        reader(tmp_path / "broken")  # type: ignore[operator]


def test_yaml_keeps_order(tmp_path: Path) -> None:
    write_yaml(tmp_path / "a.yaml", {"z": 1, "a": [True, None, "é"]})
    assert list(read_yaml(tmp_path / "a.yaml").items()) == [("z", 1), ("a", [True, None, "é"])]


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (4, 3, 2)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int64", "bool", "<U3"])
def test_arrays_come_back(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    path = tmp_path / "a.npy"
    write_array(path, array)
    again = read_array(path)
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)


def test_large_and_strided_arrays_are_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.arange(600, dtype=np.float32).reshape(20, 30).T[:, ::2]
    monkeypatch.setattr(_manifest.row_chunks, "__defaults__", (100,))
    write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy", mmap=True), array)


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Python objects"):
        write_array(tmp_path / "a.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtefactError, match=r"b\.npy"):
        read_array(tmp_path / "b.npy")


def test_truncated_array(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write_array(path, np.ones(1000))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtefactError, match=r"a\.npy"):
        read_array(path)


def test_tensors_come_back(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "a.safetensors"
    tensors = {
        "w": weight.T,
        "tied": weight,
        "half": weight.to(torch.bfloat16),
        "n": np.array([1, 2]),
    }
    write_tensors(path, tensors, {"config": {"lr": 0.1}, "name": "x"})
    again, notes = read_tensors(path)
    assert notes == {"config": '{"lr": 0.1}', "name": "x"}
    assert torch.equal(again["w"], weight.T)
    assert torch.equal(again["tied"], weight)
    assert again["half"].dtype == torch.bfloat16
    assert again["n"].tolist() == [1, 2]
    write_tensors(path, {"w": weight})
    assert isinstance(read_tensors(path, framework="numpy")[0]["w"], np.ndarray)


# tables


def test_table_comes_back_exactly(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "subject": pd.Series(["01", "1e5", "nan", ""], dtype="str"),
            "note": pd.Series(['a,"b"', "line\nbreak", "\r\n", None], dtype="str"),
            "both": pd.Series(["", None, "x", None], dtype="str"),
            "i": [1, -(2**62), 3, 4],
            "small": np.array([1, 2, 3, 4], dtype="uint8"),
            "f": [0.1, np.nan, -np.inf, 1e-300],
            "f32": np.array([0.1, 0.2, 1e-40, np.nan], dtype="float32"),
            "b": [True, False, True, True],
            "gaps": pd.array([1, None, 3, None], dtype="Int64"),
            "maybe": pd.array([True, None, False, None], dtype="boolean"),
        }
    )
    write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table, check_exact=True)
    assert list(pd.read_csv(tmp_path / "t.csv").columns) == list(table.columns)


def test_table_with_an_index_and_without_rows(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.Index(["01", "02"], name="voxel", dtype="str"))
    write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)
    empty = table.reset_index().iloc[:0]
    write_table(tmp_path / "e.csv", empty)
    pd.testing.assert_frame_equal(read_table(tmp_path / "e.csv"), empty, check_index_type=False)


def test_a_column_that_csv_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'when'"):
        write_table(tmp_path / "t.csv", pd.DataFrame({"when": [pd.Timestamp("2020-01-01")]}))
    with pytest.raises(DataError, match="column 'mixed'"):
        write_table(tmp_path / "t.csv", pd.DataFrame({"mixed": ["a", 1]}))


def test_a_table_that_lost_a_row_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(path, pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    text = path.read_text()
    path.write_text(text.rsplit("2,", 1)[0])
    with pytest.raises(ArtefactError, match="number of rows"):
        read_table(path)
    path.write_text(text.replace("2,", "two,"))
    with pytest.raises(ArtefactError, match="column 'a'"):
        read_table(path)


# manifests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "artefact"
    write_json(out / "about.json", {"a": 1})
    write_array(out / "x.npy", np.arange(100, dtype=np.float32))
    write_table(out / "sub" / "t.csv", pd.DataFrame({"id": ["01"]}))
    write_manifest(out, kind="thing")
    return out


def test_a_sound_folder_passes(folder: Path) -> None:
    manifest = verify_folder(folder, kind="thing", full=True)
    assert sorted(manifest["files"]) == ["about.json", "sub/t.csv", "sub/t.schema.json", "x.npy"]
    assert manifest["files"]["x.npy"]["sha256"] == sha256_file(folder / "x.npy")
    with pytest.raises(ArtefactError, match="holds something else"):
        verify_folder(folder, kind="other")


@pytest.mark.parametrize(
    "name", ["about.json", "x.npy", "sub/t.csv", "sub/t.schema.json", "manifest.json"]
)
def test_one_flipped_bit_anywhere_is_found(folder: Path, name: str) -> None:
    path = folder / name
    original = path.read_bytes()
    rng = np.random.default_rng(0)
    for byte in {0, len(original) - 1, *rng.integers(0, len(original), 12).tolist()}:
        flip_bit(path, byte, int(rng.integers(8)))
        with pytest.raises(ArtefactError, match=path.name):
            verify_folder(folder)
        path.write_bytes(original)
    verify_folder(folder)


def test_the_message_holds_both_digests(folder: Path) -> None:
    expected = sha256_file(folder / "x.npy")
    flip_bit(folder / "x.npy", 200)
    with pytest.raises(ArtefactError) as caught:
        verify_folder(folder)
    assert expected in str(caught.value)
    assert sha256_file(folder / "x.npy") in str(caught.value)


def test_truncated_missing_and_extra_files(folder: Path) -> None:
    path = folder / "x.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ArtefactError, match=r"x\.npy is truncated") as caught:
        verify_folder(folder)
    assert (caught.value.found, caught.value.expected) == ("527 bytes", "528 bytes")
    path.unlink()
    with pytest.raises(ArtefactError, match=r"missing in .*: x\.npy"):
        verify_folder(folder)
    path.write_bytes(content)
    (folder / ".hidden").write_text("left by the system")
    verify_folder(folder)
    (folder / "extra.txt").write_text("?")
    with pytest.raises(ArtefactError, match=r"does not list: extra\.txt"):
        verify_folder(folder)
    verify_folder(folder, allow_extra=True)
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match=r"manifest\.json is missing"):
        verify_folder(folder)


def test_a_renewed_manifest_does_not_bless_old_damage(folder: Path) -> None:
    flip_bit(folder / "x.npy", 200)
    write_json(folder / "about.json", {"a": 2})
    manifest = write_manifest(folder, changed=["about.json"])
    assert manifest["kind"] == "thing"
    assert manifest["files"]["about.json"]["sha256"] == sha256_file(folder / "about.json")
    with pytest.raises(ArtefactError, match=r"x\.npy was changed"):
        verify_folder(folder)


def test_a_manifest_of_another_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["version"] = 99
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="another version"):
        read_manifest(folder)


# large files


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_manifest, "CHECK_ON_LOAD", 1000)
    monkeypatch.setattr(_manifest, "BLOCK", 512)
    write_array(tmp_path / "big" / "x.npy", np.arange(1024, dtype=np.float32).reshape(64, 16))
    write_manifest(tmp_path / "big")
    return tmp_path / "big"


def test_large_files_are_checked_block_by_block(large: Path) -> None:
    # 128 bytes of header, 64 bytes per row, blocks of 512: row 30 lies in block 4.
    entry = read_manifest(large)["files"]["x.npy"]
    assert len(entry["blocks"]) == (128 + 4096 + 511) // 512
    flip_bit(large / "x.npy", 128 + 30 * 64)
    verify_folder(large)
    with pytest.raises(ArtefactError, match=r"x\.npy"):
        verify_folder(large, full=True)
    array = read_array(large / "x.npy", mmap=True)
    assert isinstance(array, CheckedArray)
    expected = np.arange(1024, dtype=np.float32).reshape(64, 16)
    np.testing.assert_array_equal(array[:22], expected[:22])
    np.testing.assert_array_equal(array.take([60, 2]), expected[[60, 2]])
    np.testing.assert_array_equal(array[-3:, 2], expected[-3:, 2])
    assert array._checked.tolist() == [True, True, True, False, False, False, False, True, True]
    for key in (30, [1, 30], slice(None), (slice(20, 40), 0), np.arange(64) == 30, ..., -34):
        with pytest.raises(ArtefactError, match=r"x\.npy, bytes 2048 to 2560"):
            array[key]
    with pytest.raises(ArtefactError, match=r"x\.npy"):
        np.asarray(array)
    with pytest.raises(ArtefactError, match=r"x\.npy"):
        read_array(large / "x.npy")


def test_a_large_file_with_a_damaged_header_or_end(large: Path) -> None:
    path = large / "x.npy"
    content = path.read_bytes()
    flip_bit(path, 60)
    with pytest.raises(ArtefactError, match="bytes 0 to 512"):
        read_array(path, mmap=True)
    path.write_bytes(content[:-64])
    with pytest.raises(ArtefactError, match="truncated"):
        verify_folder(large)
    with pytest.raises(ArtefactError, match="truncated"):
        read_array(path, mmap=True)


def test_a_checked_array_is_an_array(large: Path) -> None:
    array = read_array(large / "x.npy", mmap=True)
    expected = np.arange(1024, dtype=np.float32).reshape(64, 16)
    assert (array.shape, array.dtype, array.ndim, len(array)) == ((64, 16), np.float32, 2, 64)
    assert array.nbytes == 4096
    assert "x.npy" in repr(array)
    np.testing.assert_array_equal(np.asarray(array, dtype=np.float64), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[5], expected[5])
    assert sha256_array(array) == sha256_array(expected)


# digests


def test_digests_tell_apart_what_differs() -> None:
    assert sha256_json({"a": 1}) != sha256_json({"a": "1"})
    assert sha256_json([1, 2]) != sha256_json([2, 1])
    base = np.zeros((2, 3), np.float32)
    others = [base.T, base.astype(np.int32), base + 1, base.reshape(6)]
    assert len({sha256_array(a) for a in [base, *others]}) == 5
    assert sha256_array(base.T) == sha256_array(np.ascontiguousarray(base.T))

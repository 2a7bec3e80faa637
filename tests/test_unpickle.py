"""Pickled files of other people: plain data comes out, anything else is refused by name."""

from __future__ import annotations

import collections
import io
import os
import pickle
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.f2py import crackfortran

from phosphene import _pickle_machine
from phosphene._unpickle import load_npy, load_pt
from phosphene.errors import DataError

rng = np.random.default_rng(0)
PLAIN: dict[Any, Any] = {
    "none": None,
    "numbers": [True, False, 0, -1, 255, 65536, 2**40, -(10**30), 1.5, float("inf")],
    "text": ["", "aardvark", "Tür 中 \ud800", "x" * 300],
    "bytes": [b"", b"\x00\xff", b"y" * 70_000],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((),)),
    "ordered": collections.OrderedDict(a=1),
    3: {"deep": [{"deeper": [1]}]},
    "float": np.float32(0.1),
    "int": np.int64(-3),
    "str": np.str_("seen"),
    np.str_("key of numpy"): 1,
    "f8": rng.random((3, 4)),
    "f2": rng.random((2, 2)).astype(np.float16),
    "fortran": np.asfortranarray(rng.random((3, 4))),
    "big": rng.random((200, 100)),
    "big endian": np.arange(5, dtype=">i4"),
    "scalar": np.array(4.0),
    "empty": np.zeros((0, 7), np.int16),
    "bool": np.array([True, False]),
    "U": np.array([["dog", "aircraft carrier"]]),
    "S": np.array([b"ab", b"c"]),
    "objects": np.array(["dog", None, "cat"], dtype=object),
}


def same(found: Any, expected: Any) -> None:
    """Raise unless two nested values are equal."""
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert found.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == expected
        assert isinstance(found, type(expected)) or isinstance(expected, np.str_)


def npy(path: Path, pickled: bytes, shape: tuple[int, ...] = ()) -> Path:
    """An npy file of objects with any pickle in it."""
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(pickled)
    return path


def archive(path: Path, pickled: bytes, **records: bytes) -> Path:
    """A torch file with any pickle in it."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in records.items():
            file.writestr(f"archive/{name.replace('_', '/')}", content)
    return path


def holding(value: Any, protocol: int = 4) -> bytes:
    """The pickle that `numpy.save` would write for one object."""
    array = np.empty((), dtype=object)
    array[()] = value
    return pickle.dumps(array, protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_come_out_as_they_were(tmp_path: Path, protocol: int) -> None:
    same(load_npy(npy(tmp_path / "a.npy", holding(PLAIN, protocol))), PLAIN)


@pytest.mark.parametrize("memoized", [True, False])
def test_random_nests_come_out_as_they_were(tmp_path: Path, memoized: bool) -> None:
    draw = np.random.default_rng(1)

    def nest(depth: int) -> Any:
        kind = draw.integers(0, 4 if depth else 2)
        if kind == 0:
            return [int(draw.integers(-(2**40), 2**40)), float(draw.normal()), None, "a", b"b"][
                draw.integers(0, 5)
            ]
        if kind == 1:
            return draw.normal(size=draw.integers(0, 4, size=draw.integers(0, 3)))
        items = [nest(depth - 1) for _ in range(draw.integers(0, 5))]
        return [items, tuple(items), dict(enumerate(items))][draw.integers(0, 3)]

    for number in range(40):
        value, buffer = {"v": nest(4)}, io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=2 + number % 4)
        pickler.fast = not memoized
        array = np.empty((), dtype=object)
        array[()] = value
        pickler.dump(array)
        same(load_npy(npy(tmp_path / "a.npy", buffer.getvalue())), value)


def test_files_of_numpy(tmp_path: Path) -> None:
    np.save(tmp_path / "dict.npy", PLAIN, allow_pickle=True)  # type: ignore[arg-type]
    same(load_npy(tmp_path / "dict.npy"), PLAIN)
    objects = np.empty((2, 2), dtype=object)
    objects[0, 1] = np.arange(3)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    found = load_npy(tmp_path / "objects.npy")
    assert found.shape == (2, 2)
    np.testing.assert_array_equal(found[0, 1], [0, 1, 2])
    for array in (rng.random((3, 4)), np.asfortranarray(rng.random((3, 4))), np.array("text")):
        np.save(tmp_path / "plain.npy", array)
        same(load_npy(tmp_path / "plain.npy"), array)


def tensors() -> dict[str, Any]:
    """Tensors of every sort, some sharing memory."""
    base = torch.arange(60.0).reshape(10, 6)
    return {
        "float": torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
        "half": torch.ones(2, 3, dtype=torch.float16),
        "bfloat16": torch.tensor([1.0, -0.375, 3e38], dtype=torch.bfloat16),
        "view": base[2:5, ::2],
        "turned": base.T,
        "same memory": base,
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 4),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(4, dtype=torch.uint8),
        "nested": {"low": [torch.arange(3), torch.Size([2, 3])]},
        "array": np.arange(4, dtype=np.float16),
        np.str_("images/dog.jpg"): "dog",
    }


@pytest.mark.parametrize("archived", [True, False])
def test_files_of_torch(tmp_path: Path, archived: bool) -> None:
    made = tensors()
    torch.save(made, tmp_path / "a.pt", _use_new_zipfile_serialization=archived)
    found = load_pt(tmp_path / "a.pt")
    made["bfloat16"] = made["bfloat16"].float()
    made["nested"]["low"][1] = (2, 3)

    def as_arrays(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_arrays(item) for key, item in value.items()}
        if isinstance(value, list):
            return [as_arrays(item) for item in value]
        return value.numpy() if isinstance(value, torch.Tensor) else value

    same(found, as_arrays(made))
    assert np.shares_memory(found["view"], found["same memory"])


def test_gigabytes_of_text_are_the_memory_of_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Protocol 2 writes bytes as text; pieces may cut a letter of two bytes in half.
    monkeypatch.setattr(_pickle_machine, "LONG", 1000)
    monkeypatch.setattr(_pickle_machine, "_PIECE", 333)
    value = {"eeg": rng.random(500), "plain": "é" * 900}
    same(load_npy(npy(tmp_path / "a.npy", holding(value, 2))), value)
    with pytest.raises(DataError, match="damaged"):
        load_npy(npy(tmp_path / "a.npy", holding("中" * 900, 2)))


# -- hostile files ----------------------------------------------------------------------------


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class Gadget:
    """A class of nobody in particular."""


def hostile(marker: Path) -> dict[str, Any]:
    """Objects that do something when they are unpickled, with the name to be shown."""
    command = f"touch {marker}"
    return {
        f"{os.name}.system": Calls(os.system, command),
        "builtins.eval": Calls(eval, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr": Calls(getattr, "text", "join"),
        "builtins.bytearray": Calls(bytearray, 10**9),
        "shutil.copyfile": Calls(shutil.copyfile, __file__, str(marker)),
        "numpy.f2py.": Calls(crackfortran.getlincoef, f"open({str(marker)!r}, 'w')", {}),
        "numpy.load": Calls(np.load, "x"),
        "torch.storage._load_from_bytes": Calls(torch.storage._load_from_bytes, b"x"),
        "numpy.memmap": Calls(np.memmap, str(marker), "u1", "w+", 0, 10),
        "builtins.bytes": Calls(bytes, 10**12),
        "Gadget": Gadget(),
        "builtins.complex": 1j,
        "a set": {1, 2},
        "a frozenset": frozenset({1}),
    }


PLACES: dict[str, Callable[[Path, Any, int], Any]] = {
    "npy": lambda folder, value, p: load_npy(npy(folder / "x.npy", holding(value, p))),
    "in an array of objects": lambda folder, value, p: load_npy(
        npy(folder / "x.npy", holding({"a": np.array([0, [value]], dtype=object)}, p))
    ),
    "pt": lambda folder, value, p: load_pt(
        archive(folder / "x.pt", pickle.dumps({"img_features": [value]}, p))
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", list(hostile(Path("x"))))
def test_hostile_files_are_refused_by_name(tmp_path: Path, name: str, place: str) -> None:
    marker = tmp_path / "was_here"
    for protocol in (2, 4):
        value = hostile(marker)[name]
        if name.startswith("a ") and protocol == 2:
            continue  # sets are calls of a class there
        # Protocol 2 calls the module by Python 2's name.
        expected = name.replace("builtins.", "" if protocol == 2 else "builtins.")
        with pytest.raises(DataError, match="not plain data") as error:
            PLACES[place](tmp_path, value, protocol)
        assert expected in str(error.value.found)
        assert "x." in error.value.what
    assert not marker.exists()


def test_old_torch_files_are_refused_too(tmp_path: Path) -> None:
    path, marker = tmp_path / "a.pt", tmp_path / "was_here"
    value = {"a": torch.ones(2), "b": Calls(os.system, f"touch {marker}")}
    torch.save(value, path, _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"\.system"):
        load_pt(path)
    path.write_bytes(pickle.dumps(Calls(os.system, f"touch {marker}")))
    with pytest.raises(DataError, match=r"not a file of torch\.save"):
        load_pt(path)
    assert not marker.exists()


def raw(*parts: bytes) -> bytes:
    """Instructions of protocol 4 with an end."""
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    """Instruction for a text."""
    encoded = value.encode()
    return b"\x8c" + bytes([len(encoded)]) + encoded


NDARRAY = text("numpy") + text("ndarray") + b"\x93"
RECONSTRUCT = text("numpy.core.multiarray") + text("_reconstruct") + b"\x93"
DTYPE = text("numpy") + text("dtype") + b"\x93"
F8 = DTYPE + text("f8") + b"\x89\x88\x87R"
EMPTY = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"
CODED = {
    # A class of its own for every instruction that Python's unpickler is weak at.
    "a memo index of 2^32": (raw(b"]", b"r\xff\xff\xff\xff"), "array of shape"),
    "a text of 2^62 bytes": (raw(b"\x8d" + struct.pack("<Q", 2**62)), "too early"),
    "bytes of 2^62": (raw(b"\x8e" + struct.pack("<Q", 2**62)), "too early"),
    "a number of 2^30 digits": (raw(b"\x8b" + struct.pack("<i", 2**30)), "too long"),
    "a negative number of digits": (raw(b"\x8b" + struct.pack("<i", -5)), "too long"),
    "a deep tuple as key": (raw(b"}", b")" + b"\x85" * 100_000, b"Ns"), "key"),
    "a deep list": (raw(b"]" * 70, b"a" * 69), "nested too deeply"),
    "a list in itself": (raw(b"]\x94", b"h\x00", b"a"), "contains itself"),
    "an attribute of a function": (raw(DTYPE, b"}", text("call"), b"Nsb"), "attributes"),
    "an attribute of a list": (raw(b"]}b"), "attributes"),
    "items appended to an array": (raw(EMPTY, b"Na"), "items of"),
    "entries set in an array": (raw(EMPTY, b"NNs"), "entries of"),
    "a call of text": (raw(text("os"), b")R"), "not a function"),
    "a call of a class that is only a name": (raw(NDARRAY, b")R"), "numpy.ndarray"),
    "a function as value": (raw(DTYPE), "numpy.dtype"),
    "a subclass of arrays": (raw(RECONSTRUCT, DTYPE, b"K\x00\x85C\x01b\x87R"), "numpy.dtype"),
    "an array without shape": (raw(EMPTY), "without shape"),
    "a shape beyond the data": (
        raw(EMPTY, b"(K\x01J\xff\xff\xff\x7f\x85", F8, b"\x89C\x08", bytes(8), b"tb"),
        "does not fit",
    ),
    "a negative shape": (
        raw(EMPTY, b"(K\x01J\xff\xff\xff\xff\x85", F8, b"\x89C\x08", bytes(8), b"tb"),
        "shape",
    ),
    "an unknown dtype": (
        raw(EMPTY, b"(K\x01K\x01\x85", F8.replace(b"f8", b"V8"), b"\x89C\x08", bytes(8), b"tb"),
        "V8",
    ),
    "objects as raw memory": (
        raw(EMPTY, b"(K\x01K\x01\x85", F8.replace(b"f8", b"O8"), b"\x89C\x08", bytes(8), b"tb"),
        "objects",
    ),
    "text that is no text": (
        raw(EMPTY, b"(K\x01K\x01\x85", F8.replace(b"f8", b"U1"), b"\x89C\x04d\x00\x00\x04tb"),
        "text that is damaged",
    ),
    "a name with control codes": (raw(text("\x1b[2J"), text("x"), b"\x93"), r"\\x1b"),
    "a name that is a list": (raw(b"]", text("x"), b"\x93"), "name"),
    "memory outside of the file": (raw(b"\x97"), "outside"),
    "an instruction of protocol 0": (b"I1\n.", "instruction"),
    "an extension code": (raw(b"\x82\x01"), "instruction"),
    "more than the stack holds": (raw(b"\x87"), "damaged"),
    "something not remembered": (raw(b"h\x05"), "damaged"),
    "no end": (b"\x80\x04]", "too early"),
    "nothing": (b"", "too early"),
}


@pytest.mark.parametrize("name", CODED)
def test_coded_attacks_are_refused(tmp_path: Path, name: str) -> None:
    pickled, message = CODED[name]
    start = time.perf_counter()
    with pytest.raises(DataError, match=message):
        load_npy(npy(tmp_path / "a.npy", pickled))
    assert time.perf_counter() - start < 5


def test_steps_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickle_machine, "MAX_STEPS", 1000)
    load_npy(npy(tmp_path / "a.npy", holding([None] * 500)))
    with pytest.raises(DataError, match="too many objects"):
        load_npy(npy(tmp_path / "a.npy", holding([None] * 1000)))


def test_lists_in_lists_cost_their_size_only(tmp_path: Path) -> None:
    value: Any = [0]
    for _ in range(50):  # 2^50 items if each path to them were walked
        value = [value, value]
    found = load_npy(npy(tmp_path / "a.npy", holding(value)))
    assert found[0] is found[1]


def test_tensors_stay_within_their_storage(tmp_path: Path) -> None:
    good = torch.arange(6.0)
    torch.save({"a": good.expand(1000, 6)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="larger than its storage"):
        load_pt(tmp_path / "a.pt")
    torch.save(good, tmp_path / "b.pt")
    with zipfile.ZipFile(tmp_path / "b.pt") as file:
        pickled, record = file.read("b/data.pkl"), file.read("b/data/0")
    shifted = pickled.replace(b"QK\x00K\x06\x85", b"QK\x03K\x06\x85")
    assert shifted != pickled
    with pytest.raises(DataError, match="out of its storage"):
        load_pt(archive(tmp_path / "c.pt", shifted, data_0=record))
    with pytest.raises(DataError, match="does not fit"):
        load_pt(archive(tmp_path / "c.pt", pickled, data_0=record[:-1]))
    with pytest.raises(DataError, match="data/0 is missing"):
        load_pt(archive(tmp_path / "c.pt", pickled))
    foreign = pickled.replace(b"storage", b"elsewhe")
    with pytest.raises(DataError, match="outside of the file"):
        load_pt(archive(tmp_path / "c.pt", foreign, data_0=record))


def test_archives_that_would_unpack_to_more_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", raw(b"]" * 10**6))
    with pytest.raises(DataError, match="larger than the file"):
        load_pt(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("other.txt", b"")
    with pytest.raises(DataError, match=r"no data\.pkl"):
        load_pt(path)


def test_byte_order_of_archives(tmp_path: Path) -> None:
    torch.save(torch.arange(3.0), tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        pickled = file.read("a/data.pkl")
    big = np.arange(3, dtype=">f4").tobytes()
    found = load_pt(archive(tmp_path / "b.pt", pickled, data_0=big, byteorder=b"big"))
    np.testing.assert_array_equal(found, [0, 1, 2])


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npy does not exist"):
        load_npy(tmp_path / "none.npy")
    with pytest.raises(DataError, match="cannot be read"):
        load_pt(tmp_path)
    path = tmp_path / "a.bin"
    for content in (b"", b"\x93NUMPY", b"text", b"PK\x03\x04", bytes(100)):
        path.write_bytes(content)
        for load in (load_npy, load_pt):
            with pytest.raises(DataError, match=r"a\.bin"):
                load(path)
    np.save(path.with_suffix(".npy"), np.zeros(3, dtype=[("a", "f4")]))
    with pytest.raises(DataError, match="records"):
        load_npy(path.with_suffix(".npy"))
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**40)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DataError, match="too early"):
        load_npy(path)


# -- damaged files ----------------------------------------------------------------------------


def plain(value: Any) -> bool:
    """Whether a value is made of plain data only."""
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(map(plain, value)) and all(map(plain, value.values()))
    if isinstance(value, np.ndarray) and value.dtype == object:
        return all(map(plain, value.ravel().tolist()))
    if isinstance(value, np.ndarray):
        value.tolist()  # text that is no text would fail here
        return True
    return value is None or isinstance(value, (str, bytes, int, float, np.generic))


SOURCES: dict[str, Callable[[Path], None]] = {
    "npy": lambda path: npy(path, holding({"a": np.arange(6.0), "b": ["dog", 1], "c": {}}, 4)),
    "npy of text": lambda path: npy(path, holding([np.array(["dog", "cats"]), np.str_("a")], 2)),
    "pt": lambda path: torch.save(tensors(), path),
    "old pt": lambda path: torch.save(tensors(), path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("damage", ["flip", "cut", "scramble"])
def test_damage_ends_in_an_error_or_a_value(tmp_path: Path, source: str, damage: str) -> None:
    path = tmp_path / "a.file"
    SOURCES[source](path)
    load = load_npy if source.startswith("npy") else load_pt
    good, draw, errors = path.read_bytes(), np.random.default_rng(2), list[DataError]()
    assert plain(load(path))
    start = time.perf_counter()
    for _ in range(120):
        bad = bytearray(good)
        at = int(draw.integers(len(bad)))
        if damage == "flip":
            bad[at] ^= 1 << draw.integers(8)
        elif damage == "cut":
            del bad[at:]
        else:
            stop = min(at + 40, len(bad))
            bad[at:stop] = draw.bytes(stop - at)
        path.write_bytes(bad)
        try:
            found = load(path)
        except DataError as error:
            errors.append(error)
            continue
        assert damage != "cut"
        assert plain(found)
        if source == "pt":  # which carries checksums: what comes out is what was put in
            np.testing.assert_array_equal(found["view"], tensors()["view"].numpy())
            np.testing.assert_array_equal(found["float"], tensors()["float"].numpy())
    assert time.perf_counter() - start < 20
    assert len(errors) > 20
    assert all("a.file" in error.what for error in errors)

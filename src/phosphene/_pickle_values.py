"""What a pickle of plain data may build: inert stand-ins for numpy's and torch's constructors.

A pickle names functions and calls them. Here a name is looked up in a fixed table of stand-ins,
which only note their arguments; arrays are made of the notes after the whole pickle was read and
every size in it was checked. Nothing that a file names is ever imported or called.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_DIMS = 32
_DTYPE = re.compile(r"([<>=|]?)(b1|\?|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,6}|O8?)")
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


class RefusedError(Exception):
    """A pickle that is damaged or holds more than plain data; says what was found."""

    def __init__(self, what: str, found: object = None) -> None:
        super().__init__(what)
        self.what = what
        self.found = found


class Stand:
    """Stand-in for a function or class of a pickle; without slots to be changed through it."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any] | None = None) -> None:
        self.name: Final = name
        self.call: Final = call


class LongText:
    """Text of many characters up to U+00FF, kept as bytes: how old pickles write arrays."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes | bytearray) -> None:
        self.raw = raw


class Dtype:
    """A numpy dtype in the making: its name comes first, its byte order in a second step."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name
        self.order = "="

    def build(self, state: Any) -> None:
        """Take the byte order from numpy's state (version, order, subarray, names, fields, ...)."""
        if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise RefusedError("holds a dtype that cannot be understood", f"{self.name!r}")
        if any(part is not None for part in state[2:5]) or type(state[-1]) is dict:
            raise RefusedError("holds an array of records, not of plain numbers")
        self.order = state[1]

    def resolve(self) -> np.dtype[Any]:
        """The dtype: bool, integers, floats, complex numbers, text of fixed width, or objects."""
        match = _DTYPE.fullmatch(self.name) if type(self.name) is str else None
        if match is None:
            raise RefusedError("holds an array of an unknown kind", f"dtype {self.name!r:.80}")
        kind = "O" if match[2].startswith("O") else match[2]
        return np.dtype((self.order if self.order in "<>" else match[1] or "=") + kind)


class Array:
    """A numpy array in the making."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.shape: Any = None

    def build(self, state: Any) -> None:
        """Take numpy's state: (version,) shape, dtype, is_fortran, data."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise RefusedError("holds an array that cannot be understood")
        self.shape, self.dtype, self.fortran, self.data = state[-4:]

    def resolve(self, finish: Callable[[Any], Any]) -> NDArray[Any]:
        """The array; ``finish`` completes the items of an array of objects."""
        if self.shape is None or type(self.dtype) is not Dtype:
            raise RefusedError("holds an array without shape and dtype")
        shape, dtype = sizes(self.shape), self.dtype.resolve()
        count, order = math.prod(shape), "F" if self.fortran else "C"
        if dtype.hasobject:
            if type(self.data) is not list or len(self.data) != count:
                raise RefusedError("holds an array of objects that lacks some", f"shape {shape}")
            items = np.empty(count, dtype=object)
            for place, item in enumerate(self.data):
                items[place] = finish(item)
            return items.reshape(shape, order=order)  # type: ignore[call-overload,no-any-return]
        flat = from_bytes(raw_bytes(self.data), dtype, count)
        return flat.reshape(shape, order=order)  # type: ignore[call-overload,no-any-return]


class Storage:
    """The memory of torch tensors, in a place of its own in the file."""

    __slots__ = ("dtype", "key", "numel")

    def __init__(self, key: str, dtype: str, numel: int) -> None:
        self.key = key
        self.dtype = dtype
        self.numel = numel

    @property
    def nbytes(self) -> int:
        """How many bytes of the file it takes."""
        return self.numel * (2 if self.dtype == "bfloat16" else np.dtype(self.dtype).itemsize)

    def values(self, raw: bytes | bytearray, order: str = "<") -> NDArray[Any]:
        """The numbers (numel,); bfloat16, which numpy lacks, as float32."""
        if self.dtype == "bfloat16":
            halves = from_bytes(raw, np.dtype(order + "u2"), self.numel)
            return (halves.astype(np.uint32) << 16).view(np.float32)
        return from_bytes(raw, np.dtype(order + self.dtype), self.numel)


class Tensor:
    """A torch tensor in the making: a window onto a storage."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if type(storage) is not Storage:
            raise RefusedError("holds a tensor without storage")
        self.storage = storage
        (self.offset,) = sizes((offset,))
        self.size = sizes(size)
        self.stride = sizes(stride)

    def resolve(self, flat: NDArray[Any]) -> NDArray[Any]:
        """The tensor as an array that looks at the numbers of its storage."""
        if len(self.size) != len(self.stride):
            raise RefusedError("holds a tensor that cannot be understood", f"size {self.size}")
        if math.prod(self.size) > len(flat):
            # It would take no room until somebody copies it.
            raise RefusedError("holds a tensor larger than its storage", f"size {self.size}")
        if math.prod(self.size) == 0:
            return np.empty(self.size, flat.dtype)
        width = flat.dtype.itemsize
        try:
            return np.ndarray(
                self.size,
                flat.dtype,
                buffer=flat,
                offset=self.offset * width,
                strides=[step * width for step in self.stride],
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise RefusedError("holds a tensor that reaches out of its storage", error) from error


def sizes(values: Any) -> tuple[int, ...]:
    """Non-negative whole numbers, few of them."""
    if type(values) not in (tuple, list) or len(values) > MAX_DIMS:
        raise RefusedError("holds a shape that cannot be understood")
    if not all(type(value) is int and 0 <= value < 2**62 for value in values):
        raise RefusedError("holds a shape that cannot be understood", f"{values!r:.80}")
    return tuple(values)


def raw_bytes(data: Any) -> bytes | bytearray:
    """Raw memory as any protocol writes it."""
    if type(data) is LongText:
        return data.raw
    if type(data) is str:
        return data.encode("latin-1")
    if type(data) not in (bytes, bytearray):
        raise RefusedError("holds an array without data", type(data).__name__)
    return data  # type: ignore[no-any-return]


def from_bytes(raw: bytes | bytearray, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """``count`` values from exactly their bytes, in this machine's byte order."""
    if dtype.hasobject or dtype.itemsize == 0:
        raise RefusedError("holds an array of an unknown kind", f"dtype {dtype}")
    if len(raw) != count * dtype.itemsize:
        raise RefusedError(
            "holds an array whose shape does not fit its data",
            f"{len(raw)} bytes for {count} values of {dtype.itemsize} bytes",
        )
    if count == 0:
        return np.empty(0, dtype.newbyteorder("="))
    flat = np.frombuffer(raw, dtype=dtype)
    if not dtype.isnative:
        flat = flat.astype(dtype.newbyteorder("="))
    if dtype.kind == "U" and flat.view(np.uint32).max() > 0x10FFFF:
        raise RefusedError("holds text that is damaged")  # reading it would fail far from here
    return flat


def _reconstruct(subtype: Any, *_: Any) -> Array:
    if subtype is not NDARRAY:
        found = subtype.name if type(subtype) is Stand else type(subtype).__name__
        raise RefusedError("holds an object that is not plain data", found)
    return Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Array:
    made = Array()
    made.build((shape, dtype, order == "F", data))
    return made


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if type(dtype) is not Dtype:
        raise RefusedError("holds a number of an unknown kind")
    value = from_bytes(raw_bytes(data), dtype.resolve(), 1)[0]
    return value.item() if isinstance(value, (np.str_, np.bytes_)) else value


def _encode(text: Any, encoding: Any = "") -> bytes | bytearray:
    if encoding not in ("latin1", "latin-1"):
        raise RefusedError("holds text in an unexpected encoding", f"{encoding!r:.40}")
    return raw_bytes(text)


def _bytes(*args: Any) -> bytes:
    if args:  # bytes(10**12) would be a way to fill the memory
        raise RefusedError("holds an object that is not plain data", "builtins.bytes")
    return b""


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    if len(pairs):
        raise RefusedError("holds an object that is not plain data", "collections.OrderedDict")
    return {}


NDARRAY = Stand("numpy.ndarray")
_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": Dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _bytes,
    "__builtin__.bytes": _bytes,
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": Tensor,
    "torch._utils._rebuild_tensor_v2": Tensor,
    "torch.Size": lambda values: sizes(values),
}
for _core in ("numpy.core", "numpy._core"):
    _CALLS[f"{_core}.multiarray._reconstruct"] = _reconstruct
    _CALLS[f"{_core}.multiarray.scalar"] = _scalar
    _CALLS[f"{_core}.numeric._frombuffer"] = _frombuffer

STANDS: dict[str, Stand] = {
    "numpy.ndarray": NDARRAY,
    **{name: Stand(name, call) for name, call in _CALLS.items()},
    **{f"torch.{name}": Stand(f"torch.{name}") for name in _STORAGES},
}
"""Everything that a pickle may name."""


def storage(parts: Any) -> Storage:
    """The storage that torch's persistent id (kind, class, key, device, numel, ...) stands for."""
    if type(parts) is not tuple or len(parts) not in (5, 6) or parts[0] != "storage":
        raise RefusedError("refers to something outside of the file")
    kind, key, numel = parts[1], parts[2], parts[4]
    dtype = _STORAGES.get(kind.name.rpartition(".")[2]) if type(kind) is Stand else None
    if dtype is None or type(key) is not str:
        raise RefusedError("holds a tensor of an unknown kind")
    return Storage(key, dtype, sizes((numel,))[0])

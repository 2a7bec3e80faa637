"""A reader of pickles that can only build plain data.

Python's own unpickler is a program that runs what the file says. Overriding its look-up of names
is not enough to open files of others: it still sets attributes of whatever lies on its stack,
fills gigabytes when one bit of a memo index is flipped, and overflows the C stack when it hashes a
deeply nested tuple. So this is a small machine of its own: it knows the instructions that plain
data need, builds exact lists, tuples and dicts, takes text and numbers only as keys, and never asks
for more memory than the file has bytes.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from phosphene._pickle_values import (
    STANDS,
    Array,
    Dtype,
    LongText,
    RefusedError,
    Stand,
    Storage,
    Tensor,
    storage,
)

MAX_STEPS = 30_000_000
"""Instructions in one pickle: about ten seconds, and at most a few gigabytes of small objects."""
MAX_DEPTH = 64
MAX_DIGITS = 128  # bytes of a whole number
LONG = 2**24
_BUFFER = 2**16
_PIECE = 2**20
_PLAIN = (str, int, float, bool, type(None), bytes)
_NAMES = {
    b"\x81": "an object of a class",
    b"\x92": "an object of a class",
    b"i": "an object of a class",
    b"o": "an object of a class",
    b"\x8f": "a set",
    b"\x91": "a frozenset",
    b"\x97": "memory outside of the file",
}


class Reader:
    """Bytes of a file, in pieces and never beyond their end.

    Parameters
    ----------
    file : binary file
        At the first byte.
    size : int
        How many bytes there are.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self._buffer = b""
        self._at = 0

    def take(self, n: int) -> bytes | bytearray:
        """The next ``n`` bytes."""
        end = self._at + n
        if end <= len(self._buffer):
            piece = self._buffer[self._at : end]
            self._at = end
            return piece
        have = self._buffer[self._at :]
        if n - len(have) > self._left:  # before room is made for them
            raise RefusedError("ends too early", f"{len(have) + self._left} of {n} bytes")
        self._buffer, self._at = b"", 0
        if n > _BUFFER:
            return self._fill(bytearray(n), have)
        self._buffer = have + self._read(min(_BUFFER, self._left))
        if len(self._buffer) < n:
            raise RefusedError("ends too early")
        self._at = n
        return self._buffer[:n]

    def line(self) -> str:
        """Text up to the next line break; for names, so not long."""
        letters = bytearray()
        while (letter := self.take(1)) != b"\n":
            letters += letter
            if len(letters) > 256:
                raise RefusedError("is damaged", "a name of more than 256 letters")
        return letters.decode("utf-8")

    def text(self, n: int) -> str | LongText:
        """Text of ``n`` bytes; gigabytes of it can only be the memory of an array."""
        if n <= LONG:
            return str(self.take(n), "utf-8", "surrogatepass")
        decoder = codecs.getincrementaldecoder("utf-8")()
        raw = bytearray()
        while n:
            piece = self.take(min(n, _PIECE))
            n -= len(piece)
            raw += decoder.decode(bytes(piece), final=n == 0).encode("latin-1")
        return LongText(raw)

    def _fill(self, out: bytearray, have: bytes) -> bytearray:
        out[: len(have)] = have
        view, at = memoryview(out), len(have)
        while at < len(out):
            piece = self._read(min(_PIECE, len(out) - at))
            view[at : at + len(piece)] = piece
            at += len(piece)
        return out

    def _read(self, n: int) -> bytes:
        piece = self._file.read(n)
        if n and not piece:
            raise RefusedError("ends too early")
        self._left -= len(piece)
        return piece


class Machine:
    """Carries out the instructions of one pickle.

    Parameters
    ----------
    reader : Reader
        At the pickle's first byte; left behind its last.

    Attributes
    ----------
    storages : dict of str to Storage
        The torch storages that the pickle refers to.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """What the pickle holds, arrays still in the making: see :func:`finished`.

        Raises
        ------
        RefusedError
            If it is damaged or asks for more than plain data.
        """
        # The table holds functions, not bound methods: those would tie the machine, with its memo
        # of perhaps gigabytes, into a cycle that outlives it.
        take = self._reader.take
        try:
            for _ in range(MAX_STEPS):
                code = bytes(take(1))
                if code == b".":
                    return self._stack.pop()
                step = _STEPS.get(code)
                if step is None:
                    found = _NAMES.get(code, f"instruction {code!r}")
                    raise RefusedError("holds something that is not plain data", found)
                step(self)
        except (LookupError, ValueError, TypeError, struct.error, OverflowError) as error:
            # UnicodeError is a ValueError; an empty stack is a LookupError.
            raise RefusedError("is damaged", f"{type(error).__name__}: {error}") from error
        raise RefusedError("holds too many objects", f"more than {MAX_STEPS} instructions")

    # -- helpers ------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _count(self, form: str) -> int:
        return int(struct.unpack(form, self._reader.take(struct.calcsize(form)))[0])

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    # -- instructions -------------------------------------------------------------------------

    def _proto(self) -> None:
        if not 0 <= self._count("<B") <= 5:
            raise RefusedError("is damaged", "an unknown protocol")

    def _frame(self) -> None:
        self._count("<Q")  # only a hint for buffering

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _integer(self, form: str) -> None:
        size = self._count(form)
        if not 0 <= size <= MAX_DIGITS:
            raise RefusedError("holds a number that is too long", f"{size} bytes")
        self._push(int.from_bytes(self._reader.take(size), "little", signed=True))

    def _string(self, form: str) -> None:  # of Python 2: text or the memory of an array
        self._push(str(self._reader.take(self._count(form)), "latin-1"))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._reader.take(8))[0])

    def _append(self, items: list[Any]) -> None:
        if type(target := self._stack[-1]) is not list:
            raise RefusedError("is damaged", f"items of a {type(target).__name__}")
        target.extend(items)

    def _set(self, target: Any, items: list[Any]) -> None:
        if type(target) is not dict or len(items) % 2:
            raise RefusedError("is damaged", f"entries of a {type(target).__name__}")
        for place in range(0, len(items), 2):
            key = items[place]
            if isinstance(key, np.generic):
                key = key.item()
            # Text is hashed with a secret; tuples are not, and deep ones overflow the C stack.
            if type(key) not in _PLAIN or (type(key) is int and abs(key) >= 2**64):
                raise RefusedError("holds a key that is not text or a number", type(key).__name__)
            target[key] = items[place + 1]

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set(self._stack[-1], [key, value])

    def _set_items(self) -> None:
        items = self._since_mark()
        self._set(self._stack[-1], items)

    def _dict(self) -> None:
        items, made = self._since_mark(), dict[Any, Any]()
        self._set(made, items)
        self._push(made)

    def _tuple(self, n: int) -> None:
        if len(self._stack) < n:
            raise IndexError("stack is empty")
        self._stack[-n:] = [tuple(self._stack[-n:])]

    def _global(self, module: Any, name: Any) -> None:
        whole = f"{module}.{name}"
        if (stand := STANDS.get(whole)) is None:
            shown = whole if whole.isprintable() and len(whole) < 200 else ascii(whole)[:200]
            raise RefusedError("holds an object that is not plain data", shown)
        self._push(stand)

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise RefusedError("is damaged", "a name that is not text")
        self._global(module, name)

    def _reduce(self) -> None:
        args, stand = self._stack.pop(), self._stack.pop()
        if type(stand) is not Stand or stand.call is None or type(args) is not tuple:
            found = stand.name if type(stand) is Stand else type(stand).__name__
            raise RefusedError("calls something that is not a function", found)
        self._push(stand.call(*args))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) not in (Array, Dtype):
            raise RefusedError("holds an object with attributes", type(target).__name__)
        target.build(state)

    def _persistent(self) -> None:
        made = storage(self._stack.pop())
        known = self.storages.setdefault(made.key, made)
        if (known.dtype, known.numel) != (made.dtype, made.numel):
            raise RefusedError("holds a tensor storage of two kinds", made.key[:40])
        self._push(known)

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]


_Step = Callable[[Machine], None]
_STEPS: dict[bytes, _Step] = {
    b"\x80": Machine._proto,
    b"\x95": Machine._frame,
    b"(": Machine._mark,
    b"0": Machine._pop,
    b"1": lambda m: m._since_mark().clear(),
    b"2": lambda m: m._push(m._stack[-1]),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"J": lambda m: m._push(m._count("<i")),
    b"K": lambda m: m._push(m._count("<B")),
    b"M": lambda m: m._push(m._count("<H")),
    b"\x8a": lambda m: m._integer("<B"),
    b"\x8b": lambda m: m._integer("<i"),
    b"G": Machine._float,
    b"X": lambda m: m._push(m._reader.text(m._count("<I"))),
    b"\x8c": lambda m: m._push(m._reader.text(m._count("<B"))),
    b"\x8d": lambda m: m._push(m._reader.text(m._count("<Q"))),
    b"B": lambda m: m._push(m._reader.take(m._count("<I"))),
    b"C": lambda m: m._push(m._reader.take(m._count("<B"))),
    b"\x8e": lambda m: m._push(m._reader.take(m._count("<Q"))),
    b"\x96": lambda m: m._push(m._reader.take(m._count("<Q"))),
    b"T": lambda m: m._string("<I"),
    b"U": lambda m: m._string("<B"),
    b"]": lambda m: m._push([]),
    b"a": lambda m: m._append([m._stack.pop()]),
    b"e": lambda m: m._append(m._since_mark()),
    b"l": lambda m: m._push(m._since_mark()),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._since_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"}": lambda m: m._push({}),
    b"d": Machine._dict,
    b"s": Machine._set_item,
    b"u": Machine._set_items,
    b"c": lambda m: m._global(m._reader.line(), m._reader.line()),
    b"\x93": Machine._stack_global,
    b"R": Machine._reduce,
    b"b": Machine._build,
    b"Q": Machine._persistent,
    b"\x94": lambda m: m._put(len(m._memo)),
    b"q": lambda m: m._put(m._count("<B")),
    b"r": lambda m: m._put(m._count("<I")),
    b"h": lambda m: m._push(m._memo[m._count("<B")]),
    b"j": lambda m: m._push(m._memo[m._count("<I")]),
}


def finished(value: Any, flat: Callable[[Storage], NDArray[Any]] | None = None) -> Any:
    """What a pickle holds, with arrays made.

    Parameters
    ----------
    value : object
        From :meth:`Machine.run`.
    flat : callable, optional
        Numbers of a storage, where the file has storages.

    Raises
    ------
    RefusedError
        If a part is no plain data, contains itself or is nested too deeply.
    """
    done: dict[int, Any] = {}

    def finish(part: Any, depth: int) -> Any:
        kind = type(part)
        if kind in _PLAIN or isinstance(part, np.generic):
            return part
        if kind is LongText:
            return part.raw.decode("latin-1")
        if kind is bytearray:
            return bytes(part)
        if depth > MAX_DEPTH:
            raise RefusedError("is nested too deeply", f"more than {MAX_DEPTH} levels")
        if id(part) in done:  # parts live as long as the whole does, so the number stays theirs
            if done[id(part)] is finish:
                raise RefusedError("holds a list or dict that contains itself")
            return done[id(part)]
        done[id(part)] = finish
        done[id(part)] = made = build(part, kind, depth + 1)
        return made

    def build(part: Any, kind: type, depth: int) -> Any:
        if kind is list or kind is tuple:
            return kind([finish(item, depth) for item in part])
        if kind is dict:
            return {key: finish(item, depth) for key, item in part.items()}
        if kind is Array:
            return part.resolve(lambda item: finish(item, depth))
        if kind is Tensor and flat is not None:
            return part.resolve(flat(part.storage))
        name = part.name if kind is Stand else kind.__name__.lower()
        raise RefusedError("holds something that is not plain data", name)

    return finish(value, 0)

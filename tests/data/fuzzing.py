"""Damaged files for tests of readers: what they may do with them is refuse, or read them right.

Use it so (`conftest.py` makes the import work)::

    from fuzzing import assert_refused_or_same, fuzz_cases

    good = read(folder)
    for case in fuzz_cases(folder / "train.npy", n=40, seed=0):
        assert_refused_or_same(lambda: read(folder), case, lambda found: same(found, good))

`fuzz_cases` damages the file where it lies, one case after the other, and puts it back at the end.
"""

from __future__ import annotations

import gzip
import io
import json
import signal
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from phosphene.data.recording import Recording
from phosphene.errors import MissingExtraError, PhospheneError

T = TypeVar("T")

SECONDS = 20.0
EDGE = 256  # bytes at either end of a file that headers and directories lie in


@dataclass(frozen=True)
class FuzzCase:
    """One damaged copy.

    Attributes
    ----------
    kind : {"truncated", "flipped", "header", "overwritten", "wrong type"}
        What was done: cut off, bits changed anywhere, bits changed near an end, a stretch
        replaced, or another kind of file put in its place.
    detail : str
        Where, so that a failure can be repeated.
    path : Path
        The file, which is damaged while the case is tried.
    """

    kind: str
    detail: str
    path: Path

    @property
    def may_alter_values(self) -> bool:
        """Whether the damage may go unseen: only when it lies in a payload without checksum."""
        return self.kind in ("flipped", "header", "overwritten")


def other_files() -> dict[str, bytes]:
    """Whole files of the wrong kind, by a name for the message."""
    rng = np.random.default_rng(0)
    out: dict[str, bytes] = {"an empty file": b"", "text": b"not what was asked for\n" * 9}
    out["JSON"] = json.dumps({"ch_names": 3, "times": "never", "dtype": None}).encode()
    out["noise"] = rng.bytes(700)
    out["zeros"] = bytes(4096)
    for name, array in {
        "npy of text": np.array(["a", "bc"]),
        "npy of one number": np.array(3.0),
        "npy without rows": np.zeros((0, 4, 63, 250), np.float32),
        "npy of complex numbers": np.ones((2, 2, 2, 2), np.complex64),
        "npy of other shape": np.ones((3, 2), np.float32),
    }.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        out[name] = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    out["a zip archive"] = buffer.getvalue()
    out["gzip"] = gzip.compress(rng.bytes(500))
    out["PNG"] = b"\x89PNG\r\n\x1a\n" + rng.bytes(300)
    out["HDF5"] = b"\x89HDF\r\n\x1a\n" + rng.bytes(300)
    return out


def fuzz_cases(path: Path, n: int, seed: int) -> Iterator[FuzzCase]:
    """Damage a file in ``n`` ways, one at a time and in place; it is put back at the end.

    Parameters
    ----------
    path : Path
        A file that can be read as it is.
    n : int
        Number of cases: about a third truncated, half with changed bytes, the rest of wrong type.
    seed : int
        Seed of the draw.
    """
    path = Path(path)
    content = path.read_bytes()
    rng = np.random.default_rng(seed)
    wrong = list(other_files().items())
    makers = (_truncated, _flipped, _in_header, _truncated, _overwritten, _flipped)
    try:
        for number in range(n):
            if number % 6 == 5:
                name, damaged = wrong[(number // 6) % len(wrong)]
                kind, detail = "wrong type", name
            else:
                kind, detail, damaged = makers[number % 6](content, rng)
            if damaged == content:
                continue
            path.write_bytes(damaged)
            yield FuzzCase(kind, f"{detail} (seed {seed}, case {number})", path)
    finally:
        path.write_bytes(content)


def _truncated(content: bytes, rng: np.random.Generator) -> tuple[str, str, bytes]:
    size = len(content)
    near = rng.random() < 0.4  # at the very end, where only a count of bytes can tell
    keep = size - int(rng.integers(1, 65)) if near else int(rng.integers(0, size))
    return "truncated", f"{max(keep, 0)} of {size} bytes", content[: max(keep, 0)]


def _flipped(content: bytes, rng: np.random.Generator) -> tuple[str, str, bytes]:
    return _flip(content, rng, "flipped", 0, len(content))


def _in_header(content: bytes, rng: np.random.Generator) -> tuple[str, str, bytes]:
    size = len(content)
    low = 0 if rng.random() < 0.7 else max(0, size - EDGE)
    return _flip(content, rng, "header", low, min(size, low + EDGE))


def _flip(
    content: bytes, rng: np.random.Generator, kind: str, low: int, high: int
) -> tuple[str, str, bytes]:
    damaged = bytearray(content)
    where = rng.integers(low, high, size=int(rng.integers(1, 4)))
    for place in where.tolist():
        damaged[place] ^= 1 << int(rng.integers(0, 8))
    return kind, f"bytes {where.tolist()}", bytes(damaged)


def _overwritten(content: bytes, rng: np.random.Generator) -> tuple[str, str, bytes]:
    size = len(content)
    length = min(size, int(rng.integers(1, 200)))
    start = int(rng.integers(0, size - length + 1))
    noise = rng.bytes(length) if rng.random() < 0.7 else bytes(length)
    damaged = content[:start] + noise + content[start + length :]
    return "overwritten", f"bytes {start} to {start + length}", damaged


def assert_refused_or_same(
    read: Callable[[], T],
    case: FuzzCase,
    same: Callable[[T], bool],
    *,
    unverifiable: Callable[[T], bool] | None = None,
    names_file: bool = True,
    seconds: float = SECONDS,
) -> str:
    """Raise unless reading a damaged file is an error of phosphene or gives what the good one gave.

    Parameters
    ----------
    read : callable
        Reads the damaged file.
    case : FuzzCase
        What was done to it.
    same : callable
        From what was read to whether it is what the undamaged file gives.
    unverifiable : callable, optional
        From what was read to whether the reader says that nothing vouches for the file. Where it
        does, changed bytes (not truncation or a wrong type) may give other values.
    names_file : bool
        Whether the error must name the file.
    seconds : float
        Time that it may take.

    Returns
    -------
    {"refused", "same", "altered"}
    """
    where = f"{case.path.name} {case.kind}: {case.detail}"
    try:
        with _time_limit(seconds, where):
            found = read()
    except MissingExtraError:
        raise
    except PhospheneError as error:
        if names_file and case.path.name not in str(error):
            raise AssertionError(f"{where}\nis not named in: {error}") from error
        return "refused"
    except AssertionError:
        raise
    except BaseException as error:
        raise AssertionError(f"{where}\n{type(error).__name__}: {error}") from error
    if same(found):
        return "same"
    if case.may_alter_values and unverifiable is not None and unverifiable(found):
        return "altered"
    raise AssertionError(f"{where}\nwas accepted with other values: {found!r}")


def fuzz(
    path: Path,
    read: Callable[[], T],
    same: Callable[[T], bool],
    *,
    n: int,
    seed: int,
    **options: Any,
) -> Counter[str]:
    """Try ``n`` damaged copies of a file; returns how often each outcome of the check came."""
    return Counter(
        assert_refused_or_same(read, case, same, **options) for case in fuzz_cases(path, n, seed)
    )


def same_recording(found: Recording, good: Recording) -> bool:
    """Whether signals, times, channels and trials are the same, to the bit."""
    return found.fingerprint == good.fingerprint


def only_values_differ(found: Recording, good: Recording) -> bool:
    """Whether shape, channels, trials and, nearly, times are the same, whatever the signals are."""
    times = [np.zeros(0) if r.times is None else r.times for r in (found, good)]
    return (
        found.shape == good.shape
        and found.channel_names == good.channel_names
        and found.trials.equals(good.trials)
        and np.allclose(*times, atol=1e-3)
    )


@contextmanager
def _time_limit(seconds: float, where: str) -> Iterator[None]:
    """Stop what takes longer, where the system can interrupt; elsewhere a hang stays a hang."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise AssertionError(f"{where}\ntook longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

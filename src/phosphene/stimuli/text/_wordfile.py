"""Files of word vectors in text format, read in one pass that keeps only the wanted words.

GloVe's format is one line per word: the word, then its numbers. word2vec's text format has a line
with the number of words and of dimensions before that. Either may be compressed with gzip.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import DataError

LONGEST = 2**20
"""Bytes in a line; more than any file of word vectors has."""
_HEADER = re.compile(rb"(\d+)[ \t](\d+)[ \t]*")
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_AGAIN = "copy or download it again"


@dataclass(frozen=True)
class WordFile:
    """What was found in a file.

    Attributes
    ----------
    vectors : dict of str to ndarray, shape (d,)
        The wanted words that the file has.
    format : {"glove", "word2vec"}
        Without or with a line of counts.
    dim : int
        Numbers per word.
    """

    vectors: dict[str, NDArray[np.float32]]
    format: str
    dim: int


def read_words(path: Path, wanted: Iterable[str]) -> WordFile:
    """The vectors of some words; of a word that occurs twice the first.

    The first line, the last, and those of wanted words are checked; the others are passed over.

    Parameters
    ----------
    path : Path
        GloVe or word2vec text format, plain or gzip.
    wanted : iterable of str
        Words as they are spelled in the file; ``_`` is not turned into anything here.

    Raises
    ------
    DataError
        Naming file and line, if a line has another width, holds something that is not a finite
        number, or the file is empty, truncated or of another format.
    """
    if not path.is_file():
        raise DataError(
            f"there is no file of word vectors at {path}",
            found="a folder" if path.is_dir() else "nothing",
            expected="GloVe or word2vec text format, plain or gzip",
        )
    try:
        with _opened(path) as file:
            return _scan(path, file, {word.encode() for word in wanted})
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a damaged or truncated gzip file",
                        found=error, fix=_AGAIN) from error  # fmt: skip
    except OSError as error:
        raise DataError(f"{path} cannot be read", found=error) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        if not zipped:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield unzipped  # type: ignore[misc]


def _scan(path: Path, file: BinaryIO, wanted: set[bytes]) -> WordFile:
    first = file.readline(LONGEST).removeprefix(_BOM)
    header = _HEADER.fullmatch(first.rstrip(b"\r\n"))
    number = 1
    if header is not None:
        number, first = 2, file.readline(LONGEST)
    if not first.strip():
        raise DataError(f"{path} holds no word vectors", found="no line with a word",
                        expected="a word and its numbers in each line")  # fmt: skip
    space = b"\t" if b"\t" in first and b" " not in first.strip() else b" "
    width = int(header[2]) if header is not None else _width(path, first, space)
    lines = _Lines(path, space, width, header is not None)
    lines.vector(first, number)
    # A token with a space in it ("New York" in one file of GloVe) starts like a shorter word.
    starts = {word.split(space, 1)[0] for word in wanted}
    found: dict[bytes, NDArray[np.float32]] = {}
    line = first
    for following in itertools.chain(file, [b""]):
        if line[: line.find(space)] in starts:
            word, vector = lines.vector(line, number)
            if word in wanted:
                found.setdefault(word, vector)
        if not following.strip(b"\r\n"):
            break
        line = following
        number += 1
    lines.vector(line, number)  # the last one, which is short where a download broke off
    if file.read(LONGEST).strip():
        raise DataError(f"{path}, line {number + 1}: an empty line amid the vectors",
                        expected="a word and its numbers", fix=_AGAIN)  # fmt: skip
    if header is not None and number - 1 != int(header[1]):
        raise DataError(
            f"{path} does not hold as many words as its first line says",
            found=f"{number - 1} lines",
            expected=f"{int(header[1])}, by line 1",
            fix=_AGAIN,
        )
    text = {word.decode(): vector for word, vector in found.items()}
    return WordFile(text, "word2vec" if header is not None else "glove", width)


def _width(path: Path, line: bytes, space: bytes) -> int:
    fields = line.rstrip(b"\r\n \t").split(space)
    numbers = list(itertools.takewhile(lambda field: _number(field) is not None, fields[:0:-1]))
    if len(line) >= LONGEST or len(numbers) < len(fields) / 2:
        raise DataError(
            f"{path}, line 1: this is not a line of word vectors",
            found=f"{line[:60]!r}",
            expected="a word and its numbers, or the counts of words and dimensions",
            fix="convert other formats (binary word2vec, fastText .bin, .npy) to text",
        )
    return len(numbers)


def _number(field: bytes) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


@dataclass(frozen=True)
class _Lines:
    path: Path
    space: bytes
    width: int
    counted: bool

    def vector(self, line: bytes, number: int) -> tuple[bytes, NDArray[np.float32]]:
        """Word and vector of a line, which may end in a space."""
        # The word may be an exotic blank, so it is not stripped.
        fields = line.rstrip(b"\r\n \t").split(self.space)
        values = [_number(field) for field in fields[-self.width :]]
        words = fields[: -self.width]
        fits = len(words) == 1 or any(_number(word) is None for word in words[1:])
        if not words or not fits:
            raise self._wrong(line, number, f"{len(fields) - 1} numbers")
        if (bad := next((i for i, value in enumerate(values) if value is None), None)) is not None:
            raise self._wrong(line, number, f"{fields[bad - self.width][:40]!r}, not a number")
        vector = np.array(values, dtype=np.float64)
        if not (np.abs(vector) <= np.finfo(np.float32).max).all():
            raise self._wrong(line, number, "NaN or infinite values")
        return self.space.join(words), vector.astype(np.float32)

    def _wrong(self, line: bytes, number: int, found: str) -> DataError:
        if self.counted and number == 2 and _binary(line):
            return DataError(
                f"{self.path} is in word2vec's binary format",
                found="bytes that are not text after the line of counts",
                expected="the text format",
                fix="convert it, with gensim: KeyedVectors.load_word2vec_format(file, "
                "binary=True).save_word2vec_format(new_file)",
            )
        word = line.split(self.space, 1)[0][:40].decode("utf-8", "replace")
        return DataError(
            f"{self.path}, line {number} ({word!r}): wrong vector",
            found=found,
            expected=f"{self.width} finite numbers, as in line {2 if self.counted else 1}",
            fix=_AGAIN,
        )


def _binary(line: bytes) -> bool:
    rest = line.partition(b" ")[2][:400]
    return any(byte > 126 or byte < 9 or 14 <= byte < 32 for byte in rest)

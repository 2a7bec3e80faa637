"""Epochs in FIF files that come in several parts: opened through MNE, damage named."""

from __future__ import annotations

import re
import struct
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

HEAD = struct.Struct(">iIii")  # kind, type, size, next
LAST = -1
MAX_TAGS = 10**7


@contextmanager
def opened_epochs(path: Path) -> Iterator[tuple[mne.BaseEpochs, list[Path]]]:
    """Epochs whose signals stay in their files, and the files, which are closed in the end.

    Raises
    ------
    DataError
        If a part is missing, truncated or damaged.
    """
    import mne

    parts = parts_of_file(path)
    for part in parts:
        require_whole(part)
    with guarded(parts):
        epochs = mne.read_epochs(path, proj=False, preload=False, verbose="critical")
        if not len(epochs.events):
            raise DataError(f"{path} holds no epochs")
    try:
        yield epochs, parts
    finally:
        for part in getattr(epochs, "_raw", None) or ():  # MNE leaves them to the collector
            part.fid.close()


def parts_of_file(path: Path) -> list[Path]:
    """The file and those named after it with -1, -2 and so on, as far as they are there."""
    pattern = re.compile(re.escape(path.name.removesuffix(".fif")) + r"-(\d+)\.fif")
    numbered = {}
    for other in path.parent.iterdir():
        if match := pattern.fullmatch(other.name):
            numbered[int(match[1])] = other
    return [path, *(numbered[number] for number in sorted(numbered))]


def require_whole(path: Path) -> None:
    """Follow the tags of a FIF file to its end; MNE does not miss what is cut off behind its data.

    Raises
    ------
    DataError
        If the chain breaks, or the file ends before it or goes on after it.
    """
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        for _ in range(MAX_TAGS):
            file.seek(place)
            head = file.read(HEAD.size)
            if len(head) < HEAD.size:
                break
            _kind, _type, length, following = HEAD.unpack(head)
            end = place + HEAD.size + length
            if length < 0 or end > size or not (following == LAST or following == 0):
                break
            if following == LAST:
                if end != size:
                    break
                return
            place = end
    raise DataError(
        f"{path} is truncated or damaged",
        found=f"{size} bytes, and no tag at byte {place}",
        expected="tags that follow one another up to the end of the file",
        fix="copy or download it again",
    )


@contextmanager
def guarded(parts: list[Path]) -> Iterator[None]:
    """Turn whatever damaged files make MNE raise or warn of into an error that names them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is checked by what comes out
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            problem = _problem(error, parts)
            # MNE leaves files open when it fails; they are closed here, where that is not warned of
            traceback.clear_frames(error.__traceback__)
            raise problem from error


def _problem(error: Exception, parts: list[Path]) -> DataError:
    names = listing((part.name for part in parts), 9)
    if isinstance(error, FileNotFoundError):
        missing = re.search(r"[\w.-]+\.fif", str(error.filename or error))
        return DataError(
            f"{parts[0]} goes on in a file that is missing",
            found=f"{names} without {missing[0]}" if missing else f"{names}; {error}",
            expected="all parts of the epochs in one folder",
            fix="copy or download the missing part",
        )
    return DataError(
        f"{parts[0]} cannot be read as epochs",
        found=f"{type(error).__name__} in one of {names}: {error}"[:400],
        fix="copy or download the files again",
    )

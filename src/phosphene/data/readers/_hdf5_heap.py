"""A check that the HDF5 library leaves out: damaged heaps of texts make it loop without end.

Texts of variable length lie in "global heap collections": blocks that begin with ``GCOL``, a
version and their size, followed by objects: index (2 bytes), references (2), reserved (4), size
(8), data padded to 8 bytes. The library adds sizes up without a look at overflow, so that one
changed byte can stop its progress, and an interrupt does not reach it there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from phosphene.errors import DataError

SIGNATURE = b"GCOL\x01\x00\x00\x00"
HEADER = 16
NOWHERE = 2**64 - 1


def refuse_damaged_heaps(found: Any, path: Path) -> None:
    """Walk the heaps that an array of texts refers to.

    Parameters
    ----------
    found : h5py.Dataset
        Texts of variable length.
    path : Path
        Its file.

    Raises
    ------
    DataError
        If a heap's sizes do not add up.
    """
    if path.stat().st_size < HEADER:
        raise DataError(f"{path} is truncated")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for address in sorted(set(_addresses(found, content))):
            _walk(content, address, path)


def _addresses(found: Any, content: mmap.mmap) -> Iterator[int]:
    offset = found.id.get_offset()
    size = max(1, int(found.size or 1)) * HEADER
    if found.chunks or offset is None or offset + size > len(content):
        # Where the references lie is not known: every heap of the file, then.
        place = content.find(SIGNATURE)
        while place >= 0:
            yield place
            place = content.find(SIGNATURE, place + 1)
        return
    for start in range(offset, offset + size, HEADER):
        length, address, _ = struct.unpack("<IQI", content[start : start + HEADER])
        if length and address not in (0, NOWHERE):
            yield address


def _walk(content: mmap.mmap, address: int, path: Path) -> None:
    good = address + HEADER <= len(content) and content[address : address + 8] == SIGNATURE
    end = address + (struct.unpack("<Q", content[address + 8 : address + 16])[0] if good else 0)
    place = address + HEADER
    good = good and place <= end <= len(content)
    while good and end - place >= HEADER:
        index, size = struct.unpack("<HxxxxxxQ", content[place : place + HEADER])
        # The free space at the end counts its own header, an object does not.
        step = size if index == 0 else HEADER + (size + 7) // 8 * 8
        good = step >= HEADER and place + step <= end
        place += step
    if not good:
        raise DataError(
            f"{path} is damaged: a heap of texts does not add up",
            found=f"at byte {address}",
            fix="copy or download the file again",
        )

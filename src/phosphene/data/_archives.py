"""Archives from elsewhere, unpacked member by member.

pooch's and Python 3.11's own ``extractall`` let a name such as ``../../file`` out of the folder.
Here only regular files and folders are taken, whose place lies inside the target; their number,
their size and how far they were compressed are bounded.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from phosphene._saving import atomic_folder, read_json, verify_folder, write_json, write_manifest
from phosphene.errors import DataError, PhospheneError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_MEMBERS = 500_000
MAX_BYTES = 2 * 2**40
MAX_RATIO = 200.0
# Small archives of repetitive text reach any ratio without doing harm.
RATIO_FROM = 64 * 2**20
PIECE = 2**20
KIND = "unpacked archive"
ABOUT = "unpacked.json"


@dataclass(frozen=True)
class _Member:
    """A file or folder of an archive; ``open`` is None for a folder."""

    name: str
    size: int
    open: Callable[[], IO[bytes]] | None


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive that can be unpacked."""
    return path.name.lower().endswith(SUFFIXES)


def folder_of(archive: Path) -> Path:
    """Where an archive is unpacked: a folder beside it, of its name without suffix."""
    suffix = max((s for s in SUFFIXES if archive.name.lower().endswith(s)), key=len, default="")
    return archive.with_name(archive.name[: len(archive.name) - len(suffix)])


def extract(
    archive: Path,
    target: Path | None = None,
    *,
    max_members: int = MAX_MEMBERS,
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Path:
    """Unpack an archive into a folder of its own, all of it or nothing, with a manifest.

    A single outermost folder of the archive's own name is left out. What was unpacked before from
    the same archive is verified and kept.

    Parameters
    ----------
    archive : Path
        A zip or tar file.
    target : Path, optional
        The folder; see `folder_of`.
    max_members, max_bytes, max_ratio : numbers
        Bounds on the number of members, the bytes they hold, and bytes held per byte of archive.

    Raises
    ------
    DataError
        If a member is a link or a device, lies outside of the folder or occurs twice, a bound is
        passed, or the archive is damaged; nothing is left behind.
    """
    target = target or folder_of(archive)
    size = archive.stat().st_size
    source = {"archive": archive.name, "size": size, "changed": archive.stat().st_mtime_ns}
    if (target / ABOUT).is_file():
        verify_folder(target, kind=KIND)
        if read_json(target / ABOUT)["source"] == source:
            return target
    allowed = max(RATIO_FROM, int(size * max_ratio))
    with _members(archive) as members, atomic_folder(target) as folder:
        places: set[str] = set()
        total = 0
        for number, member in enumerate(members, start=1):
            if number > max_members:
                raise _refused(archive, f"more than {max_members} members")
            name = _inside(archive, member.name)
            if name.as_posix().casefold() in places and member.open is not None:
                raise _refused(archive, f"{member.name!r} occurs twice")
            places.add(name.as_posix().casefold())
            place = folder.joinpath(*name.parts)
            if member.open is None:
                place.mkdir(parents=True, exist_ok=True)
                continue
            limit = min(max_bytes, allowed) - total
            total += _write(archive, member, place, limit)
        _drop_outermost(folder, target.name)
        write_json(folder / ABOUT, {"source": source, "bytes": total})
        write_manifest(folder, kind=KIND)
    return target


def _inside(archive: Path, name: str) -> PurePosixPath:
    """Place of a member below the target."""
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    strange = "\\" in name or "\0" in name or any(":" in part for part in parts)
    if path.is_absolute() or ".." in parts or strange:
        raise _refused(archive, f"{name!r} leads out of the folder")
    return PurePosixPath(*parts)


def _drop_outermost(folder: Path, name: str) -> None:
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].name == name and inside[0].is_dir():
        outer = inside[0].rename(folder / f".{name}.outer")
        for part in list(outer.iterdir()):
            part.rename(folder / part.name)
        outer.rmdir()


def _write(archive: Path, member: _Member, place: Path, limit: int) -> int:
    """Write a member, however much it says it holds, up to a limit; returns its size."""
    assert member.open is not None
    if member.size > limit:
        raise _refused(archive, f"{member.name!r} would hold {member.size} bytes")
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with member.open() as source, place.open("xb") as out:
        while piece := source.read(PIECE):
            written += len(piece)
            if written > limit:
                raise _refused(archive, f"{member.name!r} holds more than {limit} bytes")
            out.write(piece)
    if written != member.size:
        raise _refused(archive, f"{member.name!r} holds {written} of {member.size} bytes")
    return written


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                yield _zipped(archive, file)
        else:
            opened = {"gz": gzip.open, "tgz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
            opener: Any = opened.get(archive.name.lower().rpartition(".")[2], open)
            with opener(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as file:
                yield _tarred(archive, file, stream)
    except PhospheneError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EEXIST, errno.ENOTDIR, errno.EINVAL):
            raise  # of the disk, not of the archive
        raise _damaged(archive, error) from error
    except (
        zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError,
        NotImplementedError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise _damaged(archive, error) from error


def _zipped(archive: Path, file: zipfile.ZipFile) -> Iterator[_Member]:
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _refused(archive, f"{info.filename!r} is a link or a device")
        if info.is_dir():
            yield _Member(info.filename, 0, None)
        else:
            yield _Member(info.filename, info.file_size, _opener(file.open, info))


def _tarred(archive: Path, file: tarfile.TarFile, stream: IO[bytes]) -> Iterator[_Member]:
    for info in file:
        if info.isdir():
            yield _Member(info.name, 0, None)
        elif info.isreg():
            yield _Member(info.name, info.size, _opener(file.extractfile, info))
        else:
            raise _refused(archive, f"{info.name!r} is a link or a device")
    # Only the end of a compressed stream holds its checksum, and tarfile stops before it.
    for _ in range(RATIO_FROM // PIECE):
        if not stream.read(PIECE):
            return
    raise _refused(archive, "more data after its last member")


def _opener(open_: Any, info: Any) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        stream: IO[bytes] = open_(info)
        return stream

    return opened


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(
        f"{archive} cannot be unpacked",
        found=f"{type(error).__name__}: {error}",
        fix="download it again",
    )


def _refused(archive: Path, why: str) -> DataError:
    return DataError(
        f"{archive} is not unpacked",
        found=why,
        expected="files and folders that lie inside of it, of a size that a data set has",
        fix="look into the archive before you trust it",
    )

"""One file from a server: resumed where it was interrupted, checked, then put in its place.

Bytes go into ``NAME.part``; ``NAME.part.json`` remembers which version of the file they are of, so
that a request for the rest (``Range`` with ``If-Range``) is answered with the rest of the same
version or with all of the new one.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from phosphene._logging import get_logger, progress
from phosphene._saving import write_json
from phosphene.data.datasets import RemoteFile
from phosphene.errors import DataError, PhospheneError, StorageError

logger = get_logger(__name__)

PIECE = 2**20
ATTEMPTS = 5  # that bring nothing
MAX_ATTEMPTS = 1000
PAUSE = 1.0  # seconds before the next attempt; doubled each time that one brings nothing
TIMEOUT = 60.0
DIGESTS = {"sha256": 64, "sha512": 128, "md5": 32, "sha1": 40}
# Answers that may differ the next time.
PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Fetched:
    """What became of a file.

    Attributes
    ----------
    file : RemoteFile
        Which.
    path : Path
        Where it lies.
    outcome : {"downloaded", "resumed", "already there"}
        What was done.
    checked : {"digest", "size", "not verifiable"}
        What vouches for it.
    """

    file: RemoteFile
    path: Path
    outcome: Literal["downloaded", "resumed", "already there"]
    checked: Literal["digest", "size", "not verifiable"]


class _InterruptedError(Exception):
    """The transfer stopped for a reason that may pass."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            fp.close()
            raise DataError(
                f"{req.full_url} leads elsewhere than to the web",
                found=newurl,
                expected="an https address" if old == "https" else "an http or https address",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def place_of(file: RemoteFile, root: Path) -> Path:
    """Where a file belongs.

    Raises
    ------
    DataError
        If its path leads out of the folder.
    """
    parts = PurePosixPath(file.path.replace("\\", "/"))
    if not parts.name or parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise DataError(f"{file.path!r} is no path inside a folder", fix="give a relative path")
    return root.joinpath(*parts.parts)


def check_file(file: RemoteFile, path: Path) -> Literal["digest", "size", "not verifiable"]:
    """Compare a file with what is known of it.

    Raises
    ------
    DataError
        If its size or its digest is another.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise DataError(
            f"{path} is {'truncated' if size < file.size else 'too long'}",
            found=f"{size} bytes",
            expected=f"{file.size} bytes",
        )
    if not file.digest:
        return "size" if file.size is not None else "not verifiable"
    kind, _, expected = file.digest.partition(":")
    if DIGESTS.get(kind) != len(expected):
        raise DataError(
            f"the digest of {file.path} cannot be understood",
            found=file.digest,
            expected="such as sha256:... or md5:...",
        )
    digest = hashlib.new(kind)
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    if digest.hexdigest() != expected.lower():
        raise DataError(
            f"{path} is not the file that was promised",
            found=f"{kind}:{digest.hexdigest()}",
            expected=file.digest,
        )
    return "digest"


def fetch(file: RemoteFile, root: Path, *, show: bool = True) -> Fetched:
    """Download a file, or the rest of it, and put it in its place once it is complete.

    Raises
    ------
    DataError
        If the server does not have it, stops answering, or what came is not what was promised.
        What has come of an interrupted file is kept; a file with a wrong digest is removed.
    StorageError
        If it cannot be written.
    """
    target = place_of(file, root)
    if target.is_file():
        try:
            return Fetched(file, target, "already there", check_file(file, target))
        except DataError as error:
            logger.warning("%s; downloading it again", error.what)
    part = target.with_name(f"{target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        began = _size(part)
        _transfer(file, part, show)
        try:
            checked = check_file(file, part)
        except DataError as error:
            # Going on from here could never end well.
            _remove(part)
            raise DataError(
                error.what.replace(str(part), file.url),
                found=error.found,
                expected=error.expected,
                fix="it was removed; try again, and tell whoever published the digest if it stays "
                "so",
            ) from None
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
        _remove(part)
    except PhospheneError:
        raise
    except OSError as error:
        raise StorageError(
            f"{target} could not be written",
            found=error,
            fix="free some space or choose another folder; the next run continues this file",
        ) from error
    return Fetched(file, target, "resumed" if began else "downloaded", checked)


def remote_size(file: RemoteFile) -> int | None:
    """Size of a file as the server states it, None where it does not say."""
    try:
        with _ask(file.url, {}, method="HEAD") as answer:
            return _whole(answer.headers.get("Content-Length"))
    except (DataError, _InterruptedError):
        return None


def _transfer(file: RemoteFile, part: Path, show: bool) -> None:
    """Bring ``part`` to its full length, in several attempts if need be."""
    best, failures = _size(part), 0
    for _ in range(MAX_ATTEMPTS):
        try:
            _attempt(file, part, show)
            return
        except _InterruptedError as error:
            # Only attempts that bring nothing count: a slow line may break often.
            failures = 0 if _size(part) > best else failures + 1
            best, reason = max(best, _size(part)), error
        if failures == ATTEMPTS:
            break
        pause = PAUSE * 2**failures
        logger.info("%s: %s; again in %.1f s", file.path, reason, pause)
        time.sleep(pause)
    raise DataError(
        f"{file.url} could not be downloaded",
        found=f"{reason}; {_size(part)} bytes are there",
        fix="run the same command again later; it continues",
    ) from reason


def _attempt(file: RemoteFile, part: Path, show: bool) -> None:
    known = _notes(part)
    start = _size(part)
    validator = known.get("validator", "")
    # Without a version to ask for, only a digest can tell whether the pieces belong together.
    if start and (known.get("url") != file.url or not (validator or file.digest)):
        start = 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and validator:
        headers["If-Range"] = validator
    with _ask(file.url, headers) as answer:
        if answer.status == 416:
            if start != _total(answer, start):
                _remove(part)
                raise _InterruptedError("the server has a shorter file than before")
            return
        if start and answer.status != 206:
            logger.info("%s: the server sends all of it again", file.path)
            start = 0
        if answer.status == 206 and _first_byte(answer) != start:
            _remove(part)
            raise _InterruptedError("the server sent another part than was asked for")
        total = _total(answer, start)
        if file.size is not None and total is not None and total != file.size:
            raise DataError(
                f"{file.url} has another size than stated",
                found=f"{total} bytes",
                expected=f"{file.size} bytes",
                fix="the file was changed or the list of files is out of date",
            )
        if not start:
            tag = answer.headers.get("ETag", "")
            strong = "" if tag.startswith("W/") else tag
            write_json(
                _notes_path(part),
                {"url": file.url, "validator": strong or answer.headers.get("Last-Modified", "")},
            )
        with part.open("r+b" if start else "wb") as out:
            out.truncate(start)
            out.seek(start)
            for piece in progress(
                _pieces(answer),
                total=None if total is None else -(-(total - start) // PIECE),
                desc=PurePosixPath(file.path).name,
                unit="MB",
                enabled=show,
            ):
                out.write(piece)
                if total is not None and out.tell() > total:
                    raise DataError(f"{file.url} sends more than it said", expected=f"{total}")
        if total is not None and _size(part) < total:
            raise _InterruptedError(f"the connection ended after {_size(part)} of {total} bytes")


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> Any:
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url!r} is no address of the web", expected="http:// or https://")
    request = urllib.request.Request(
        url, headers={"Accept-Encoding": "identity", "User-Agent": "phosphene", **headers},
        method=method,
    )  # fmt: skip
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code in PASSING:
            raise _InterruptedError(f"the server answered {error.code} {error.reason}") from error
        hint = "accept the terms of the data set and download it by hand"
        raise DataError(
            f"{url} cannot be downloaded",
            found=f"{error.code} {error.reason}",
            fix=hint if error.code in (401, 403) else "check the address; files may have moved",
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _InterruptedError(f"{type(error).__name__}: {reason}") from error


def _pieces(answer: IO[bytes]) -> Iterator[bytes]:
    while True:
        try:
            piece = answer.read(PIECE)
        except (OSError, http.client.HTTPException) as error:
            # What an incomplete read has brought is lost with it; the next attempt asks for it.
            raise _InterruptedError(f"{type(error).__name__}: {error}") from error
        if not piece:
            return
        yield piece


def _total(answer: Any, start: int) -> int | None:
    """Size of the whole file, from the answer to a request for all or a part of it."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if whole and (size := _whole(whole)) is not None:
        return size
    length = _whole(answer.headers.get("Content-Length"))
    return None if length is None or answer.status == 416 else length + start


def _first_byte(answer: Any) -> int | None:
    return _whole(answer.headers.get("Content-Range", "").partition(" ")[2].partition("-")[0])


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _notes_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _notes(part: Path) -> dict[str, str]:
    try:
        found = json.loads(_notes_path(part).read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _notes_path(part).unlink(missing_ok=True)

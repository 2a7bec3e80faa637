"""Downloads from a server on this machine that breaks off, lies, moves and forgets."""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from phosphene.data import _archives, _transfer, download
from phosphene.data.datasets import RemoteFile, get_dataset
from phosphene.data.download import plan_download, read_url_list, steps
from phosphene.errors import DataError, StorageError

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does with the next requests."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/big.bin": CONTENT})
    break_after: list[int] = field(default_factory=list)  # bytes sent before the connection ends
    errors: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    etag: str = '"one"'
    length: bool = True
    seen: list[tuple[str, str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    behaviour: ClassVar[Behaviour]
    protocol_version = "HTTP/1.0"

    def log_message(self, *words: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        does = self.behaviour
        wanted = self.headers.get("Range", "")
        does.seen.append((self.command, self.path, wanted))
        assert len(does.seen) < 60
        if body and does.errors:
            self.send_error(does.errors.pop(0))
            return
        if self.path in does.redirects:
            self.send_response(302)
            self.send_header("Location", does.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in does.files:
            self.send_error(404)
            return
        content, start = does.files[self.path], 0
        fresh = self.headers.get("If-Range", does.etag) == does.etag
        if wanted and does.ranges and fresh:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content) > 0 and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if does.etag:
            self.send_header("ETag", does.etag)
        if does.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if body:
            rest = content[start:]
            self.wfile.write(rest[: does.break_after.pop(0)] if does.break_after else rest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Behaviour]:
    behaviour = Behaviour()
    handler = type("Own", (Handler,), {"behaviour": behaviour})
    web = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    behaviour.base = f"http://127.0.0.1:{web.server_port}"  # type: ignore[attr-defined]
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_transfer, "PAUSE", 0.001)
    monkeypatch.setattr(_transfer, "TIMEOUT", 5.0)
    monkeypatch.setattr(_transfer, "PIECE", 50_000)
    yield behaviour
    web.shutdown()
    thread.join()
    web.server_close()


def remote(server: Behaviour, path: str = "big.bin", **more: Any) -> RemoteFile:
    return RemoteFile(path, f"{server.base}/{path}", **more)  # type: ignore[attr-defined]


def get(root: Path, *files: RemoteFile, **more: Any) -> list[download.Fetched]:
    plan = plan_download(get_dataset("things_eeg2"), root, files=files, ask_sizes=False)
    return download.download(plan, show=False, **more)


def requests(server: Behaviour) -> list[str]:
    return [wanted for method, _, wanted in server.seen if method == "GET"]


def test_a_file_comes_and_is_checked(server: Behaviour, tmp_path: Path) -> None:
    nested = replace(remote(server, size=len(CONTENT), digest=SHA), path="sub-01/ses-01/big.bin")
    (done,) = get(tmp_path, nested)
    assert done.path == tmp_path / "sub-01" / "ses-01" / "big.bin"
    assert done.path.read_bytes() == CONTENT
    assert (done.outcome, done.checked) == ("downloaded", "digest")
    assert [p.name for p in done.path.parent.iterdir()] == ["big.bin"]
    (again,) = get(tmp_path, nested)
    assert (again.outcome, again.checked) == ("already there", "digest")
    assert len(requests(server)) == 1


@pytest.mark.parametrize(
    ("known", "checked"),
    [({"digest": MD5}, "digest"), ({"size": len(CONTENT)}, "size"), ({}, "not verifiable")],
)
def test_it_says_what_vouches_for_a_file(
    server: Behaviour, tmp_path: Path, known: dict[str, Any], checked: str
) -> None:
    (done,) = get(tmp_path, remote(server, **known))
    assert done.checked == checked


def test_an_interrupted_file_goes_on_where_it_was(server: Behaviour, tmp_path: Path) -> None:
    server.break_after = [120_000, 50_000]
    (done,) = get(tmp_path, remote(server))
    assert done.path.read_bytes() == CONTENT
    assert requests(server) == ["", "bytes=120000-", "bytes=170000-"]


def test_the_next_run_goes_on_too(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transfer, "ATTEMPTS", 2)
    server.break_after = [120_000, 0, 0]
    with pytest.raises(DataError, match=r"(?s)could not be downloaded.*120000 bytes are there"):
        get(tmp_path, remote(server))
    assert not (tmp_path / "big.bin").exists()
    assert (tmp_path / "big.bin.part").stat().st_size == 120_000
    server.seen.clear()
    (done,) = get(tmp_path, remote(server, digest=SHA))
    assert done.outcome == "resumed"
    assert done.path.read_bytes() == CONTENT
    assert requests(server) == ["bytes=120000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["big.bin"]


def test_pieces_of_different_versions_are_never_joined(server: Behaviour, tmp_path: Path) -> None:
    server.break_after = [120_000]
    newer = bytes(reversed(CONTENT))

    def change(*_: Any) -> None:
        server.files["/big.bin"], server.etag = newer, '"two"'

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_transfer.time, "sleep", change)
        (done,) = get(tmp_path, remote(server))
    assert done.path.read_bytes() == newer
    assert requests(server) == ["", "bytes=120000-"]


def test_a_server_without_ranges_starts_again(server: Behaviour, tmp_path: Path) -> None:
    server.ranges, server.break_after = False, [120_000]
    (done,) = get(tmp_path, remote(server, digest=SHA))
    assert done.path.read_bytes() == CONTENT


def test_without_a_version_only_a_digest_allows_going_on(server: Behaviour, tmp_path: Path) -> None:
    server.etag, server.break_after = "", [120_000]
    (done,) = get(tmp_path, remote(server))
    assert requests(server) == ["", ""]
    assert done.path.read_bytes() == CONTENT
    server.seen.clear()
    server.break_after = [120_000]
    get(tmp_path / "other", remote(server, digest=SHA))
    assert requests(server) == ["", "bytes=120000-"]


def test_a_part_that_is_complete_already(server: Behaviour, tmp_path: Path) -> None:
    server.break_after = [120_000]
    get(tmp_path, remote(server))
    (tmp_path / "big.bin").rename(tmp_path / "big.bin.part")
    _transfer.write_json(
        tmp_path / "big.bin.part.json",
        {"url": remote(server).url, "validator": '"one"'},
    )
    (done,) = get(tmp_path, remote(server, digest=SHA))
    assert done.path.read_bytes() == CONTENT


def test_a_wrong_digest_is_an_error_and_leaves_nothing(server: Behaviour, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)not the file that was promised.*sha256:") as caught:
        get(tmp_path, remote(server, digest="sha256:" + 64 * "0"))
    assert SHA in str(caught.value)
    assert "/big.bin" in str(caught.value)
    assert not any(p.is_file() for p in tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"digest of big\.bin cannot be understood"):
        get(tmp_path, remote(server, digest="crc32:00"))


def test_a_file_that_was_changed_on_the_disk_is_replaced(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(b"x" + CONTENT[1:])
    (done,) = get(tmp_path, remote(server, digest=SHA))
    assert done.outcome == "downloaded"
    assert done.path.read_bytes() == CONTENT


def test_a_truncated_file_is_never_taken_for_a_whole_one(server: Behaviour, tmp_path: Path) -> None:
    server.break_after = [200_000] + [0] * 20
    with pytest.raises(DataError, match=r"(?s)could not be downloaded.*after 200000 of 300000"):
        get(tmp_path, remote(server))
    assert not (tmp_path / "big.bin").exists()
    # Where the server does not say how long it is, the list of files does.
    server.break_after, server.length = [200_000], False
    with pytest.raises(DataError, match=r"(?s)truncated.*200000 bytes.*300000 bytes"):
        get(tmp_path / "other", remote(server, size=len(CONTENT)))
    server.length = True
    with pytest.raises(DataError, match="another size than stated"):
        get(tmp_path / "third", remote(server, size=77))


def test_passing_errors_are_tried_again_and_lasting_ones_are_not(
    server: Behaviour, tmp_path: Path
) -> None:
    server.errors = [503, 429]
    (done,) = get(tmp_path, remote(server))
    assert done.path.read_bytes() == CONTENT
    server.seen.clear()
    with pytest.raises(DataError, match=r"(?s)/nowhere\.bin cannot be downloaded.*404"):
        get(tmp_path, remote(server, "nowhere.bin"))
    assert len(server.seen) == 1
    server.errors = [403]
    with pytest.raises(DataError, match=r"(?s)403.*accept the terms"):
        get(tmp_path / "other", remote(server))
    gone = RemoteFile("a", "http://127.0.0.1:9/a")  # nobody listens there
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/a could not be downloaded"):
        get(tmp_path, gone)


def test_one_missing_file_does_not_keep_the_others(server: Behaviour, tmp_path: Path) -> None:
    server.files["/b.bin"] = b"b"
    names = ("x.bin", "big.bin", "y.bin", "b.bin")
    with pytest.raises(DataError, match=r"(?s)2 of 4 files.*x\.bin.*y\.bin.*2 files are complete"):
        get(tmp_path, *(remote(server, name) for name in names))
    assert (tmp_path / "big.bin").read_bytes() == CONTENT
    assert (tmp_path / "b.bin").read_bytes() == b"b"


def test_redirects_lead_to_the_web_only(server: Behaviour, tmp_path: Path) -> None:
    server.redirects = {"/old.bin": "/big.bin", "/evil.bin": "file:///etc/hostname",
                        "/ftp.bin": "ftp://127.0.0.1/a", "/round.bin": "/round.bin"}  # fmt: skip
    (done,) = get(tmp_path, remote(server, "old.bin", digest=SHA))
    assert done.path.read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"(?s)evil\.bin cannot.*file:///etc/hostname"):
        get(tmp_path, remote(server, "evil.bin"))
    with pytest.raises(DataError, match=r"(?s)elsewhere than to the web.*ftp://127"):
        get(tmp_path, remote(server, "ftp.bin"))
    with pytest.raises(DataError, match=r"round\.bin"):
        get(tmp_path, remote(server, "round.bin"))
    for url in ("file:///etc/hostname", "ftp://127.0.0.1/a", "nonsense"):
        with pytest.raises(DataError, match="no address of the web"):
            get(tmp_path, RemoteFile("a.bin", url))
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".bin"] == ["old.bin"]


@pytest.mark.parametrize("path", ["../out.bin", "/else/out.bin", "a/../../out.bin", "C:/out", ""])
def test_files_stay_inside_the_folder(server: Behaviour, tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="no path inside a folder"):
        get(tmp_path / "root", replace(remote(server), path=path))
    assert not server.seen


def test_there_is_room_or_nothing_begins(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    plan = plan_download(
        get_dataset("things_eeg2"), tmp_path / "new", files=[remote(server, size=5 * 10**9)]
    )
    assert (plan.needed, plan.unknown) == (5 * 10**9, 0)
    with pytest.raises(StorageError, match=r"(?s)no room.*0\.1 GB free.*5\.0 GB"):
        download.download(plan)
    assert not server.seen
    assert not (tmp_path / "new").exists()


def test_a_full_disk_while_writing(
    server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_transfer, "_pieces", full)
        with pytest.raises(StorageError, match=r"(?s)big\.bin could not be written.*No space"):
            get(tmp_path, remote(server))
    (done,) = get(tmp_path, remote(server))
    assert done.path.read_bytes() == CONTENT


def test_the_plan_asks_for_sizes_and_counts_what_is_there(
    server: Behaviour, tmp_path: Path
) -> None:
    info = get_dataset("things_eeg2")
    server.files |= {"/b.bin": b"bb", "/c.bin": b"ccc"}
    files = [remote(server), remote(server, "b.bin"), remote(server, "none.bin")]
    (tmp_path / "b.bin").write_bytes(b"bb")
    plan = plan_download(info, tmp_path, files=files)
    assert [file.path for file in plan.missing] == ["big.bin", "none.bin"]
    assert (plan.needed, plan.unknown) == (len(CONTENT), 1)
    assert {method for method, _, _ in server.seen} == {"HEAD"}
    (tmp_path / "big.bin.part").write_bytes(CONTENT[:100_000])
    assert plan_download(info, tmp_path, files=files).needed == len(CONTENT) - 100_000
    with pytest.raises(DataError, match=r"listed twice: big\.bin"):
        plan_download(info, tmp_path, files=[remote(server)] * 2)


def test_subjects(tmp_path: Path) -> None:
    info = get_dataset("things_meg")
    plan = plan_download(info, tmp_path, subjects=["sub-2", "04"], ask_sizes=False)
    assert {file.subject for file in plan.files} == {"02", "04"}
    assert "derivatives/preprocessed/preprocessed_P4-epo-3.fif" in {f.path for f in plan.files}
    assert all(file.url.startswith("https://") for file in info.files)
    with pytest.raises(DataError, match=r"(?s)no files of a subject '7'.*01, 02, 03, 04"):
        plan_download(info, tmp_path, subjects=["7"], ask_sizes=False)


@pytest.mark.parametrize("name", ["nsd", "things_eeg2"])
def test_sets_without_a_list_give_the_steps(name: str, tmp_path: Path) -> None:
    info = get_dataset(name)
    with pytest.raises(DataError, match=r"(?s)no list of the files.*--url-list"):
        plan_download(info, tmp_path)
    text = "\n".join(steps(info))
    assert info.access in text
    assert "place: " in text
    if name == "things_eeg2":
        assert "https://osf.io/crxs4/" in text


def test_a_list_of_files(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("url,path,size,digest\nhttps://a/b,sub-01/b.npy,12,\nhttps://a/c,c,,md5:x\n")
    assert read_url_list(path) == [
        RemoteFile("sub-01/b.npy", "https://a/b", 12),
        RemoteFile("c", "https://a/c", None, "md5:x"),
    ]
    for text, message in (
        ("path\nb\n", "lacks the column 'url'"),
        ("path,url\nb,\n", "line 2 is no file"),
        ("path,url,size\nb,https://a,many\n", "line 2 is no file"),
        ("path,url\n", "lists no files"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_url_list(path)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        read_url_list(tmp_path / "nowhere.csv")


# Archives


def zip_of(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            file.writestr(info, content)
    return path


def tar_of(path: Path, members: dict[str, bytes], **fields: Any) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_archives_are_unpacked_with_a_manifest(tmp_path: Path, pack: Any) -> None:
    suffix = ".zip" if pack is zip_of else ".tar.gz"
    archive = pack(tmp_path / f"sub-01{suffix}", {"sub-01/a.npy": b"abc", "sub-01/x/b.npy": b"d"})
    folder = _archives.extract(archive)
    assert folder == tmp_path / "sub-01"
    assert (folder / "a.npy").read_bytes() == b"abc"
    assert (folder / "x" / "b.npy").read_bytes() == b"d"
    before = (folder / "a.npy").stat().st_mtime_ns
    assert _archives.extract(archive) == folder
    assert (folder / "a.npy").stat().st_mtime_ns == before
    # A file of the archive's own name is a file like any other.
    pack(archive, {"a.npy": b"longer than it was", "sub-01": b"file"})
    assert (_archives.extract(archive) / "a.npy").read_bytes() == b"longer than it was"
    assert not (folder / "x").exists()


@pytest.mark.parametrize("pack", [zip_of, tar_of])
@pytest.mark.parametrize(
    "name", ["../out.txt", "/else/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"]
)
def test_members_that_lead_out_are_refused(tmp_path: Path, pack: Any, name: str) -> None:
    archive = pack(tmp_path / ("a.zip" if pack is zip_of else "a.tgz"), {"good": b"g", name: b"x"})
    with pytest.raises(DataError, match="leads out of the folder"):
        _archives.extract(archive)
    assert [p.name for p in tmp_path.iterdir()] == [archive.name]


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    archives = [zip_of(tmp_path / "a.zip", {"link": b"/etc/passwd"}, stat.S_IFLNK | 0o777)]
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
                                   tarfile.CHRTYPE)):  # fmt: skip
        archives.append(
            tar_of(tmp_path / f"{number}.tar.gz", {"link": b""}, type=kind, linkname="../secret")
        )
    for archive in archives:
        with pytest.raises(DataError, match="is a link or a device"):
            _archives.extract(archive)
    assert not any(p.is_dir() for p in tmp_path.iterdir())


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_archives, "RATIO_FROM", 10_000)
    bomb = zip_of(tmp_path / "bomb.zip", {"zeros": bytes(20_000_000)})
    with pytest.raises(DataError, match="would hold 20000000 bytes"):
        _archives.extract(bomb)
    with pytest.raises(DataError, match="would hold 20000000 bytes"):
        _archives.extract(tar_of(tmp_path / "bomb.tgz", {"zeros": bytes(20_000_000)}))
    many = zip_of(tmp_path / "many.zip", {f"{i}": b"" for i in range(50)})
    with pytest.raises(DataError, match="more than 40 members"):
        _archives.extract(many, max_members=40)
    with pytest.raises(DataError, match="is not unpacked"):
        _archives.extract(zip_of(tmp_path / "big.zip", {"a": CONTENT}), max_bytes=1000)
    with pytest.raises(DataError, match="occurs twice"):
        _archives.extract(zip_of(tmp_path / "twice.zip", {"A.txt": b"1", "a.txt": b"2"}))
    assert not any(p.is_dir() for p in tmp_path.iterdir())


def test_a_member_that_lies_about_its_size(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"zeros": bytes(1_000_000)})
    content = archive.read_bytes()
    # Both places that state the size say 10 bytes.
    lying = content.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != content
    archive.write_bytes(lying)
    with pytest.raises(DataError, match=r"a\.zip"):
        _archives.extract(archive)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("pack", [zip_of, tar_of])
def test_damaged_archives(tmp_path: Path, pack: Any) -> None:
    archive = pack(tmp_path / ("a.zip" if pack is zip_of else "a.tgz"), {"a": CONTENT})
    whole = archive.read_bytes()
    for size in (0, 10, 200, len(whole) // 2, len(whole) - 20):
        archive.write_bytes(whole[:size])
        with pytest.raises(DataError, match=archive.name):
            _archives.extract(archive)
    for position in np.random.default_rng(0).integers(40, len(whole) - 60, 10):
        damaged = bytearray(whole)
        damaged[position] ^= 16
        archive.write_bytes(bytes(damaged))
        with pytest.raises(DataError, match=archive.name):
            _archives.extract(archive)
    assert not any(p.is_dir() for p in tmp_path.iterdir())


def test_downloaded_archives_are_unpacked(server: Behaviour, tmp_path: Path) -> None:
    server.files["/sub-01.zip"] = zip_of(tmp_path / "x.zip", {"a.npy": b"abc"}).read_bytes()
    server.files["/evil.zip"] = zip_of(tmp_path / "y.zip", {"../a.npy": b"abc"}).read_bytes()
    get(tmp_path / "root", remote(server, "sub-01.zip"))
    assert (tmp_path / "root" / "sub-01" / "a.npy").read_bytes() == b"abc"
    with pytest.raises(DataError, match="leads out of the folder"):
        get(tmp_path / "root", remote(server, "evil.zip"))
    get(tmp_path / "packed", remote(server, "evil.zip"), extract=False)
    assert not (tmp_path / "a.npy").exists()

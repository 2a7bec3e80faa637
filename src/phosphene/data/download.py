"""Downloading data sets: what is missing, whether it fits, then file by file, resumed and checked.

Nothing is fetched without a plan that says licence, size and free space, and nothing at all of data
sets with an access form: for these, and where no list of files is known, `steps` says what to do.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from phosphene._logging import get_logger
from phosphene._registry import did_you_mean
from phosphene.data import _archives, _transfer
from phosphene.data._transfer import Fetched
from phosphene.data.datasets import DatasetInfo, RemoteFile
from phosphene.data.finding import subject_key
from phosphene.errors import DataError, PhospheneError, StorageError, listing

__all__ = ["DownloadPlan", "Fetched", "download", "plan_download", "read_url_list", "steps"]

logger = get_logger(__name__)

# Left free on the disk, so that other programs can go on.
RESERVE = 512 * 2**20
COLUMNS = ("path", "url", "size", "digest", "subject")
# What belongs where, relative to the data set's folder; the readers look for these names.
PLACES = {
    "things_eeg2": (
        "sub-01/ses-01/raw_eeg_training.npy, raw_eeg_test.npy (raw), or "
        "sub-01/preprocessed_eeg_training.npy, preprocessed_eeg_test.npy",
        "image_metadata.npy",
        "training_images/00001_aardvark/aardvark_01b.jpg, test_images/...",
    ),
    "things_meg": (
        "derivatives/preprocessed/preprocessed_P1-epo.fif with its parts -1, -2, -3",
        "sourcedata/sample_attributes_P1.csv",
        "image_concept_index.csv, image_paths.csv",
    ),
    "god": ("Subject1.h5 to Subject5.h5",),
    "nsd": (
        "nsd_stimuli.hdf5, nsd_expdesign.mat and the betas of each subject, or MindEye2's "
        "betas_all_subj01_fp32_renorm.hdf5",
    ),
    "things_fmri": (
        "betas_csv/sub-01_ResponseData.h5, sub-01_VoxelMetadata.csv, sub-01_StimulusMetadata.csv",
    ),
    "bold5000": ("4-D images of betas (GLMsingle, release 2), a mask and a table of events",),
}


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would do.

    Attributes
    ----------
    info : DatasetInfo
        The data set.
    root : Path
        Its folder.
    files : tuple of RemoteFile
        All that was asked for.
    missing : tuple of RemoteFile
        Those that are not complete yet.
    needed : int
        Bytes still to come, as far as sizes are known.
    unknown : int
        Missing files whose size nobody states.
    free : int
        Bytes free on the disk.
    """

    info: DatasetInfo
    root: Path
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]
    needed: int
    unknown: int
    free: int

    @property
    def total(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    def check_space(self) -> None:
        """Raise unless the missing files fit.

        Raises
        ------
        StorageError
            Saying how much is needed and how much is free.
        """
        if self.needed + RESERVE > self.free:
            raise StorageError(
                f"{self.root} has no room for {self.info.name}",
                found=f"{self.free / 1e9:.1f} GB free",
                expected=f"{self.needed / 1e9:.1f} GB, and {RESERVE / 1e9:.1f} GB to spare",
                fix="free some space, choose another folder with --root, or fewer --subjects",
            )


def plan_download(
    info: DatasetInfo,
    root: str | Path,
    *,
    subjects: Sequence[str] | None = None,
    files: Iterable[RemoteFile] | None = None,
    ask_sizes: bool = True,
) -> DownloadPlan:
    """Find out what is missing and how much room it takes.

    Parameters
    ----------
    info : DatasetInfo
        The data set.
    root : path
        Its folder, new or with files in it.
    subjects : sequence of str, optional
        Whose files; files that belong to all are always taken.
    files : iterable of RemoteFile, optional
        In place of the data set's own list.
    ask_sizes : bool
        Ask the server for sizes that are not known.

    Raises
    ------
    DataError
        If no list of files is known (with the steps instead), a subject has no files, or two files
        have the same place.
    """
    root = Path(root)
    wanted = tuple(info.files if files is None else files)
    if not wanted:
        raise DataError(
            f"phosphene has no list of the files of {info.title}",
            found=info.access,
            fix="\n    ".join(steps(info)),
        )
    if subjects is not None:
        wanted = _of_subjects(wanted, subjects, info.name)
    places = [_transfer.place_of(file, root) for file in wanted]
    if len(set(places)) < len(places):
        twice = sorted(
            {file.path for file in wanted if [f.path for f in wanted].count(file.path) > 1}
        )
        raise DataError(f"files are listed twice: {listing(twice)}")
    if ask_sizes:
        # A size that the server states is for planning only: it vouches for nothing.
        sizes = {
            file.url: _transfer.remote_size(file)
            for file, place in zip(wanted, places, strict=True)
            if file.size is None and not place.is_file()
        }
    else:
        sizes = {}
    missing = tuple(
        file
        for file, place in zip(wanted, places, strict=True)
        if not place.is_file() or (file.size is not None and place.stat().st_size != file.size)
    )
    needed, unknown = 0, 0
    for file in missing:
        size = file.size if file.size is not None else sizes.get(file.url)
        part = _transfer.place_of(file, root)
        part = part.with_name(f"{part.name}.part")
        there = part.stat().st_size if part.is_file() else 0
        needed += max(0, (size or 0) - there)
        unknown += size is None
    return DownloadPlan(info, root, wanted, missing, needed, unknown, _free(root))


def download(plan: DownloadPlan, *, extract: bool = True, show: bool = True) -> list[Fetched]:
    """Carry out a plan; run again after an interruption, it continues.

    A file that cannot be had does not keep the others from coming.

    Parameters
    ----------
    plan : DownloadPlan
        From `plan_download`.
    extract : bool
        Unpack archives into folders beside them.
    show : bool
        Show a bar for each file when someone is watching.

    Returns
    -------
    list of Fetched
        What became of each file, with what vouches for it.

    Raises
    ------
    StorageError
        If there is no room.
    DataError
        After all files were tried, naming those that failed and why.
    """
    plan.check_space()
    done: list[Fetched] = []
    failed: list[tuple[RemoteFile, PhospheneError]] = []
    for file in plan.files:
        try:
            fetched = _transfer.fetch(file, plan.root, show=show)
            if extract and _archives.is_archive(fetched.path):
                _archives.extract(fetched.path)
        except StorageError:
            raise  # a full disk stops all of them
        except PhospheneError as error:
            logger.warning("%s: %s", file.path, error.what)
            failed.append((file, error))
            continue
        done.append(fetched)
    if len(failed) == 1:
        raise failed[0][1]
    if failed:
        raise DataError(
            f"{len(failed)} of {len(plan.files)} files could not be downloaded",
            found="; ".join(f"{f.path}: {e.what} ({e.found})" for f, e in failed[:5]),
            fix=f"{len(done)} files are complete; run the same command again for the rest",
        )
    return done


def read_url_list(path: str | Path) -> list[RemoteFile]:
    """Read a list of files: a CSV with columns path, url and, if known, size, digest, subject.

    Raises
    ------
    DataError
        If a column is missing, or a row lacks a path or an address.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a list of files", found=error) from error
    if absent := [name for name in ("path", "url") if name not in columns]:
        raise DataError(
            f"{path} lacks the column {absent[0]!r}", found=listing(columns), expected=COLUMNS
        )
    files = []
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        size = cells["size"]
        if not cells["path"] or not cells["url"] or (size and not size.isdecimal()):
            raise DataError(f"{path}: line {number} is no file", found=cells)
        files.append(
            RemoteFile(
                cells["path"],
                cells["url"],
                int(size) if size else None,
                cells["digest"],
                cells["subject"],
            )
        )
    if not files:
        raise DataError(f"{path} lists no files")
    return files


def steps(info: DatasetInfo) -> list[str]:
    """How to come by a data set that is not downloaded here, and what belongs where."""
    lines = [info.access] if info.access else []
    for kind, name in info.url_ids.items():
        if kind.startswith("osf"):
            what = kind.removeprefix("osf").strip("_") or "main"
            lines.append(f"OSF, {what}: https://osf.io/{name}/")
        elif kind == "openneuro":
            lines.append(f"OpenNeuro: https://openneuro.org/datasets/{name}")
        else:
            lines.append(f"{kind}: {name}")
    if info.licence:
        lines.append(f"terms: {info.licence}")
    lines += [f"place: {place}" for place in PLACES.get(info.name, ())]
    lines.append("or pass --url-list FILE, a CSV of path, url, size, digest, subject")
    return lines


def _of_subjects(
    files: tuple[RemoteFile, ...], subjects: Sequence[str], name: str
) -> tuple[RemoteFile, ...]:
    known = list(dict.fromkeys(file.subject for file in files if file.subject))
    short = {subject_key(subject): subject for subject in known}
    chosen = []
    for subject in subjects:
        if subject_key(subject) not in short:
            raise DataError(
                f"{name} has no files of a subject {subject!r}",
                found=listing(known, 30) or "files of all subjects together",
                fix=did_you_mean(subject, known),
            )
        chosen.append(short[subject_key(subject)])
    return tuple(file for file in files if not file.subject or file.subject in chosen)


def _free(root: Path) -> int:
    place = root.resolve()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free

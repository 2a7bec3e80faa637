"""Where the Natural Scenes Dataset keeps what was asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from phosphene._registry import did_you_mean
from phosphene.data.readers._nsd_behaviour import mindeye_trials, read_behaviour
from phosphene.data.readers._nsd_design import (
    HELD_BACK,
    TRIALS_PER_SESSION,
    NsdDesign,
    read_design,
    sessions_of,
)
from phosphene.errors import DataError, listing


class NsdRequest:
    """One person's data: what was asked for, and in which files it lies."""

    def __init__(
        self,
        root: Path,
        subject: int,
        test: str,
        sessions: Sequence[int] | None,
        betas: str,
        space: str,
        strict: bool,
    ) -> None:
        self.root, self.subject, self.test = root, subject, test
        self.sessions, self.strict = sessions, strict
        # Of the data set; the files of a miniature say less.
        self.per_session, self.n_trials = TRIALS_PER_SESSION, 40 * TRIALS_PER_SESSION
        self.person = f"subj{subject:02d}"
        base = f"ppdata/{self.person}/{space}"
        self.beta_places = [f"nsddata_betas/{base}/{betas}/", f"{betas}/", ""]
        self.roi_places = [f"nsddata/{base}/roi/", "roi/", ""]
        self.design_places = [
            f"{place}nsd_expdesign{suffix}"
            for place in ("nsddata/experiments/nsd/", "")
            for suffix in (".mat", ".npz")
        ]

    def design(self) -> tuple[NsdDesign, Path]:
        """The design and its file."""
        path = find_file(self.root, self.design_places, "design")
        return read_design(path), path

    def image(self, name: str | Path) -> Path:
        """A mask or label image given by path or by its name in the data set."""
        if Path(name).suffix or Path(name).is_file():
            return Path(name)
        places = [f"{place}{name}.nii.gz" for place in self.roi_places]
        return find_file(self.root, places, f"image {str(name)!r}")

    def session_files(self) -> tuple[Path, dict[int, Path]]:
        """Folder of the betas, and the file of each session that is there and wanted."""
        found: dict[int, Path] = {}
        for place in self.beta_places:
            folder = self.root / place
            for path in sorted(folder.glob("betas_session*.hdf5")):
                if number := re.fullmatch(r"betas_session(\d+)", path.stem):
                    found[int(number.group(1))] = path
            if found:
                break
        else:
            first = [f"{place}betas_session01.hdf5" for place in self.beta_places]
            folder = find_file(self.root, first, "betas").parent
        if self.sessions is None:
            return folder, dict(sorted(found.items()))
        wanted = sorted({int(number) for number in self.sessions})
        if missing := [number for number in wanted if number not in found]:
            raise DataError(
                f"{folder} has no betas of sessions {listing(missing)}", found=listing(found, 40)
            )
        return folder, {number: found[number] for number in wanted}

    def behaviour(self, n_rows: int) -> tuple[pd.DataFrame, list[Path]] | None:
        """MindEye2's behaviour table in order of the rows of the betas, and its files, if any.

        The test of 982 images lies in ``test``, that of 1000 in ``new_test``.
        """
        single = self.root / f"behav_{self.person}.npy"
        files = [single] if single.is_file() else []
        if not files:
            folder = self.root / "wds" / self.person
            names = ("new_train", "train"), {"982": ("test",), "1000": ("new_test", "test")}
            for choices in (names[0], names[1][self.test]):
                present = (sorted((folder / choice).glob("*.tar")) for choice in choices)
                files += next((paths for paths in present if paths), [])
        if not files:
            return None
        behaviour = np.concatenate([read_behaviour(path) for path in files])
        return mindeye_trials(behaviour, n_rows, files[0]).sort_values("row"), files

    def last(self, test: str) -> int:
        """Last session of a test's convention."""
        total = sessions_of(self.subject, self.per_session, self.n_trials)
        return max(1, total - HELD_BACK if test == "982" else total)

    def finish(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Test columns and split; trials of sessions that a convention lacks go."""
        early = (trials["session"].astype(int) <= self.last("982")).to_numpy()
        shared = trials["shared"].to_numpy(dtype=bool)
        trials = trials.drop(columns="shared").assign(
            subject=f"{self.subject:02d}",
            split=np.where(shared, "test", "train"),
            test_1000=shared,
            test_982=shared & early,
        )
        return trials[early] if self.test == "982" else trials


def find_file(root: Path, candidates: Sequence[str], what: str) -> Path:
    """The first of some places that a file lies in.

    Raises
    ------
    DataError
        Listing where it was looked for, and what lies in the folder.
    """
    for place in candidates:
        if (root / place).is_file():
            return root / place
    present = sorted(p.name for p in root.iterdir()) if root.is_dir() else []
    raise DataError(
        f"there is no {what} below {root}",
        found=listing(present, 12) if present else "no such folder, or an empty one",
        expected="one of " + ", ".join(candidates),
        fix=did_you_mean(Path(candidates[-1]).name, present),
    )

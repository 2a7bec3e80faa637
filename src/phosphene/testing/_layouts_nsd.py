"""Miniatures of the Natural Scenes Dataset, as released and in MindEye2's layout.

Five sessions of twelve trials, twenty images for each of eight people, of which five are shared by
all; every image is shown three times. Pictures are 4 x 4 tiles, and betas answer their colours.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene import _random
from phosphene._optional import require

SESSIONS, PER_SESSION = 5, 12
PEOPLE, SHARED, OWN = 8, 5, 15
N_IMAGES = SHARED + PEOPLE * OWN
GRID = (7, 6, 5)
SIDE = 16


def nsd_design(seed: int = 0) -> dict[str, NDArray[np.int32]]:
    """``masterordering``, ``subjectim`` and ``sharedix``, counted from 1, as the real file."""
    rng = _random.generator(seed, "nsd", "design")
    numbers = rng.permutation(N_IMAGES) + 1
    shared = np.sort(numbers[:SHARED])
    own = numbers[SHARED:].reshape(PEOPLE, OWN)
    images = np.hstack([np.tile(shared, (PEOPLE, 1)), own])
    order = rng.permutation(np.repeat(np.arange(SHARED + OWN) + 1, 3))
    return {
        "masterordering": order[None, :].astype(np.int32),
        "subjectim": images.astype(np.int32),
        "sharedix": shared[None, :].astype(np.int32),
    }


def nsd_pictures(seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of 4 x 4 coloured tiles, shape (125, 16, 16, 3)."""
    rng = _random.generator(seed, "nsd", "pictures")
    tiles = rng.integers(0, 256, (N_IMAGES, 4, 4, 3))
    return np.kron(tiles, np.ones((1, SIDE // 4, SIDE // 4, 1))).astype(np.uint8)


def nsd_responses(subject: int, n_voxels: int, seed: int = 0) -> NDArray[np.float64]:
    """Percent signal change of every trial in order, shape (60, voxels)."""
    design = nsd_design(seed)
    images = design["subjectim"][subject - 1][design["masterordering"][0] - 1] - 1
    tiles = nsd_pictures(seed)[:, :: SIDE // 4, :: SIDE // 4].reshape(N_IMAGES, -1) / 255 - 0.5
    rng = _random.generator(seed, "nsd", "responses", subject)
    signals = tiles[images] @ rng.standard_normal((tiles.shape[1], n_voxels))
    drift = np.repeat(rng.standard_normal((SESSIONS, n_voxels)), PER_SESSION, axis=0)
    noise = 0.7 * rng.standard_normal(signals.shape)
    out: NDArray[np.float64] = signals + drift + noise
    return out


def write_nsd(
    folder: str | Path,
    *,
    subject: int = 1,
    design: Literal["mat", "npz"] = "mat",
    chunks: tuple[int, int, int, int] | None = None,
    seed: int = 0,
) -> Path:
    """Write the released layout: betas, masks, ``ncsnr``, design and pictures.

    Parameters
    ----------
    folder : path
        Where; made if it is not there.
    subject : int
        1 to 8.
    design : {"mat", "npz"}
        Form of ``nsd_expdesign``.
    chunks : tuple of int, optional
        Chunks of the betas; in one piece by default.
    seed : int
        Seed of everything.

    Returns
    -------
    Path
        The data set's folder.
    """
    h5py = require("h5py", "h5", "writing NSD's betas")
    nibabel = require("nibabel", "fmri", "writing NSD's masks")
    root = Path(folder)
    base = f"ppdata/subj{subject:02d}/func1pt8mm"
    betas = root / "nsddata_betas" / base / "betas_fithrf_GLMdenoise_RR"
    rois = root / "nsddata" / base / "roi"
    for place in (betas, rois):
        place.mkdir(parents=True, exist_ok=True)
    general, visual = nsd_masks()
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    places = np.argwhere(general > 0)
    rng = _random.generator(seed, "nsd", "volumes", subject)
    ratio = np.zeros(GRID, dtype=np.float32)
    ratio[tuple(places.T)] = rng.uniform(0.1, 1.0, len(places))
    for path, values in (
        (rois / "nsdgeneral.nii.gz", general),
        (rois / "prf-visualrois.nii.gz", visual),
        (betas / "ncsnr.nii.gz", ratio),
    ):
        nibabel.save(nibabel.Nifti1Image(values, affine), path)
    percent = nsd_responses(subject, len(places), seed)
    for session in range(SESSIONS):
        volumes = rng.integers(-900, 900, (PER_SESSION, *GRID)).astype(np.int16)
        rows = percent[session * PER_SESSION : (session + 1) * PER_SESSION]
        volumes[(slice(None), *places.T)] = np.round(300 * rows)
        with h5py.File(betas / f"betas_session{session + 1:02d}.hdf5", "w") as file:
            # MATLAB wrote (x, y, z, trials), which h5py sees the other way round.
            file.create_dataset("betas", data=volumes.transpose(0, 3, 2, 1), chunks=chunks)
    _write_design(root / "nsddata" / "experiments" / "nsd", design, seed)
    write_nsd_stimuli(root, seed=seed)
    return root


def nsd_masks() -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """``nsdgeneral`` (1 inside, 0 outside, -1 off the cortex) and ``prf-visualrois`` (1 to 7)."""
    general = np.full(GRID, -1, dtype=np.int16)
    general[1:6, 1:5, 1:4] = 0
    general[2:5, 1:5, 1:4] = 1
    visual = np.full(GRID, -1, dtype=np.int16)
    visual[1:6, 1:5, 1:4] = 0
    visual[2, 1:5, 1:4], visual[3, 1:3, 1:4], visual[3, 3:5, 1:4] = 1, 2, 7
    return general, visual


def write_nsd_stimuli(folder: str | Path, *, seed: int = 0) -> Path:
    """Write ``nsd_stimuli.hdf5`` where the data set keeps it."""
    h5py = require("h5py", "h5", "writing NSD's pictures")
    place = Path(folder) / "nsddata_stimuli" / "stimuli" / "nsd"
    place.mkdir(parents=True, exist_ok=True)
    path = place / "nsd_stimuli.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("imgBrick", data=nsd_pictures(seed), chunks=(1, SIDE, SIDE, 3))
    return path


def write_mindeye2(
    folder: str | Path,
    *,
    subject: int = 1,
    behaviour: Literal["npy", "tar", "design"] = "npy",
    n_voxels: int = 36,
    seed: int = 0,
) -> Path:
    """Write MindEye2's layout: all betas of a person in one file, and what each row showed.

    Parameters
    ----------
    folder : path
        Where; made if it is not there.
    subject : int
        1 to 8.
    behaviour : {"npy", "tar", "design"}
        One table, one small array per trial in tar archives, or NSD's own design.
    n_voxels : int
        Number of voxels.
    seed : int
        Seed of everything.

    Returns
    -------
    Path
        The folder.
    """
    h5py = require("h5py", "h5", "writing betas")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / f"betas_all_subj{subject:02d}_fp32_renorm.hdf5", "w") as file:
        file["betas"] = nsd_responses(subject, n_voxels, seed).astype(np.float32)
    table = _behaviour(subject, seed)
    if behaviour == "npy":
        np.save(root / f"behav_subj{subject:02d}.npy", table)
    elif behaviour == "tar":
        shared = table[:, 16] == 1
        for part, rows in (("train", table[~shared]), ("new_test", table[shared])):
            place = root / "wds" / f"subj{subject:02d}" / part
            place.mkdir(parents=True, exist_ok=True)
            half = len(rows) // 2 if part == "train" else len(rows)
            for number, piece in enumerate((rows[:half], rows[half:])):
                if len(piece):
                    _write_tar(place / f"{number}.tar", piece)
    else:
        _write_design(root, "npz", seed)
    return root


def _behaviour(subject: int, seed: int) -> NDArray[np.float64]:
    design = nsd_design(seed)
    order = design["masterordering"][0] - 1
    table = np.zeros((len(order), 17))
    table[:, 0] = design["subjectim"][subject - 1][order] - 1
    table[:, 5] = np.arange(len(order))
    table[:, 16] = order < SHARED
    return table


def _write_tar(path: Path, rows: NDArray[np.float64]) -> None:
    with tarfile.open(path, "w") as archive:
        for row in rows:
            for what in ("behav", "past_behav"):
                content = io.BytesIO()
                np.save(content, row[None, :])
                member = tarfile.TarInfo(f"sample{int(row[5]):09d}.{what}.npy")
                member.size = content.tell()
                content.seek(0)
                archive.addfile(member, content)


def _write_design(place: Path, form: str, seed: int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = dict(nsd_design(seed))
    if form == "npz":
        np.savez(place / "nsd_expdesign.npz", **content)
    else:
        from scipy.io import savemat

        savemat(place / "nsd_expdesign.mat", content | {"basiccnt": np.ones((1, 3))})


def nsd_example(folder: Path) -> Mapping[str, Any]:
    """The miniature that the checks of readers use."""
    return {"root": write_nsd(folder), "subject": 1, "strict": False}

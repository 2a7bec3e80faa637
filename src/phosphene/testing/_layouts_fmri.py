"""Miniature fMRI files in the layouts of GOD, THINGS-fMRI, NIfTI with events, and Miyawaki 2008.

Each has the keys, types and quirks of the real files, some kilobytes of noise, and a linear answer
to what was shown, so that what comes after reading can be tried too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene import _random
from phosphene._optional import require

GOD_REGIONS = {"V1": (0, 20), "V2": (20, 40), "LOC": (40, 60), "VC": (0, 60)}
GOD_LAYERS = {"cnn1": 8, "cnn8": 12}
THINGS_REGIONS = {"V1": (0, 12), "hV4": (12, 20), "LO1 (prf)": (20, 28), "lFFA": (28, 32)}


def write_god(
    folder: str | Path,
    *,
    subject: int = 1,
    label: str = "stimulus_id",
    categories: tuple[int, int] = (8, 5),
    seed: int = 0,
) -> Path:
    """Write ``Subject1.h5`` and ``ImageFeatures.h5``: 60 voxels, 8 x 4, 5 x 6 and 5 x 2 trials.

    People written into one folder see the same pictures, and each answers in an own way.

    Parameters
    ----------
    folder : path
        Where; made if it is not there.
    subject : int
        Number in the file's name.
    label : str
        Spelling of the key with the labels; older files say "Label".
    categories : two ints
        How many for training and for the test.
    seed : int
        Seed of everything.

    Returns
    -------
    Path
        The person's file.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    train, test = _god_stimuli(categories)
    vectors = _god_vectors(train + test, seed)
    rng = _random.generator(seed, "god", subject)
    mixing = rng.standard_normal((GOD_LAYERS["cnn8"], 60))
    shown = [(1, *s) for s in train] + [(2, *s) for s in test * 6] + [(3, *s) for s in test * 2]
    numbers = np.array([_god_label(c, e) for _, c, e in shown])
    kind = np.array([k for k, _, _ in shown], dtype=np.float64)
    runs = np.concatenate([np.arange(np.sum(kind == k)) // 10 + 1 for k in (1, 2, 3)])
    seen = np.stack([vectors["cnn8"][c, e] for _, c, e in shown])
    signals = np.where(kind == 3, 0.4, 1.0)[:, None] * (seen @ mixing) / 4
    signals += rng.standard_normal(signals.shape)
    keys: dict[str, NDArray[np.float64]] = {}
    columns = {"DataType": kind, "Run": runs, label: numbers}
    for place, key in enumerate(columns):
        keys[key] = _flag(63, place, place + 1)
    keys["VoxelData"] = _flag(63, 3, 63)
    for axis, values in zip("xyz", rng.integers(-30, 30, (3, 60)) * 3.0, strict=True):
        keys[f"voxel_{axis}"] = np.r_[[np.nan] * 3, values]
    for region, (low, high) in GOD_REGIONS.items():
        keys[f"ROI_{region}"] = _flag(63, 3 + low, 3 + high)
    path = root / f"Subject{subject}.h5"
    write_bdata(path, np.column_stack([*columns.values(), signals]), keys)
    write_god_features(root / "ImageFeatures.h5", categories=categories, seed=seed)
    return path


def _god_stimuli(
    categories: tuple[int, int],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Category and number of the pictures of training, four each, and of the test."""
    n_train, n_test = categories
    train = [(1440000 + 17 * c, 100 * c + e + 3) for c in range(n_train) for e in range(4)]
    return train, [(2440000 + 31 * c, 22563 + c) for c in range(n_test)]


def write_god_features(
    path: str | Path, *, categories: tuple[int, int] = (8, 5), seed: int = 0
) -> Path:
    """Write ``ImageFeatures.h5``: two layers for pictures, test categories and candidates."""
    train, test = _god_stimuli(categories)
    vectors = _god_vectors(train + test, seed)
    rng = _random.generator(seed, "god", "candidates")
    candidates = [3440000 + 7 * c for c in range(6)]
    # The last candidate repeats a test category, as the real list may.
    rows = [(1.0, c, _god_label(c, e)) for c, e in train] + [
        (2.0, c, _god_label(c, e)) for c, e in test
    ]
    rows += [(3.0, c, np.nan) for c, _ in test]
    rows += [(4.0, c, np.nan) for c in [*candidates, test[0][0]]]
    layers = []
    for layer, width in GOD_LAYERS.items():
        pictures = np.stack([vectors[layer][s] for s in train + test])
        means = pictures[len(train) :] + 0.1 * rng.standard_normal((len(test), width))
        layers.append(np.vstack([pictures, means, rng.standard_normal((7, width))]))
    ids = np.array(rows)
    n = 3 + sum(GOD_LAYERS.values())
    keys = {name: _flag(n, i, i + 1) for i, name in enumerate(("FeatureType", "CatID", "ImageID"))}
    start = 3
    for layer, width in GOD_LAYERS.items():
        keys[layer] = _flag(n, start, start + width)
        start += width
    write_bdata(path, np.hstack([ids, *layers]), keys)
    return Path(path)


def write_bdata(
    path: str | Path, matrix: NDArray[np.float64], keys: Mapping[str, NDArray[np.float64]]
) -> None:
    """Write a BData file: the matrix, and a row of metadata per key."""
    h5py = require("h5py", "h5", "writing BData")
    text = h5py.string_dtype()
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset", data=np.asarray(matrix, dtype=np.float64))
        file.create_dataset("metadata/key", data=list(keys), dtype=text)
        about = [f"1 = {key}" for key in keys]
        file.create_dataset("metadata/description", data=about, dtype=text)
        file.create_dataset("metadata/value", data=np.stack(list(keys.values())))
        file.create_dataset("header/ctime", data="2019-05-01 00:00:00", dtype=text)
        file.create_group("vmap")


def _god_label(category: int, image: int) -> float:
    return float(f"{category}.{image:06d}")


def _god_vectors(
    stimuli: list[tuple[int, int]], seed: int
) -> dict[str, dict[tuple[int, int], NDArray[np.float64]]]:
    out = {}
    for layer, width in GOD_LAYERS.items():
        rng = _random.generator(seed, "god", layer)
        of = {c: rng.standard_normal(width) for c in dict.fromkeys(c for c, _ in stimuli)}
        out[layer] = {s: of[s[0]] + 0.5 * rng.standard_normal(width) for s in stimuli}
    return out


def _flag(n: int, low: int, high: int) -> NDArray[np.float64]:
    """1 for the columns of a key, NaN elsewhere."""
    row = np.full(n, np.nan)
    row[low:high] = 1.0
    return row


def god_example(folder: Path) -> Mapping[str, Any]:
    """The miniature that the checks of readers use."""
    return {"path": write_god(folder), "strict": False}


def write_things_fmri(folder: str | Path, *, subject: str = "01", seed: int = 0) -> Path:
    """Write ``betas_csv`` of one person: 40 voxels, 12 concepts x 3 images, 4 test images x 3.

    The pictures lie beside it, as ``images/<concept>/<picture>.jpg``.

    The responses are a table of pandas in HDF5, with the names of columns in the pickled form that
    pandas gives to names of several types; nothing reads them.

    Returns
    -------
    Path
        The folder ``betas_csv``.
    """
    h5py = require("h5py", "h5", "writing THINGS-fMRI tables")
    root = Path(folder) / "betas_csv"
    root.mkdir(parents=True, exist_ok=True)
    rng = _random.generator(seed, "things fmri", subject)
    concepts = [f"thing{c:02d}" for c in range(10)] + ["bat1", "hot_dog"]
    train = [(c, f"{c}_{e:02d}s.jpg", "train") for e in range(1, 4) for c in concepts]
    test = [(c, f"{c}_14s.jpg", "test") for c in concepts[:4]]
    latent = {c: rng.standard_normal(6) for c in concepts}
    lines = ["trial_type,session,run,subject_id,trial_id,stimulus,concept"]
    order: list[tuple[str, str, str]] = []
    for session in range(3):
        shown = [*train[12 * session : 12 * session + 12], *test]
        shown = [shown[i] for i in rng.permutation(len(shown))]
        for place, (concept, image, kind) in enumerate(shown):
            run = place // 8 + 1
            lines.append(f"{kind},{session + 1},{run},1,{len(order)},{image},{concept}")
            order.append((concept, image, kind))
    for concept, image, _ in [*train, *test]:
        _picture(Path(folder) / "images" / concept / image, latent[concept], rng)
    n_voxels, n_trials = 40, len(order)
    signals = np.stack([latent[c] for c, _, _ in order]) @ rng.standard_normal((6, n_voxels)) / 3
    signals[:, 32:] = 0
    signals += 0.5 * rng.standard_normal(signals.shape)
    stem = f"sub-{subject}"
    (root / f"{stem}_StimulusMetadata.csv").write_text("\n".join(lines) + "\n")
    _things_voxels(root / f"{stem}_VoxelMetadata.csv", n_voxels, rng)
    with h5py.File(root / f"{stem}_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group.attrs.update({"pandas_type": "frame", "nblocks": 2, "ndim": 2})
        group["axis1"] = np.arange(n_voxels)
        pickled = h5py.vlen_dtype(np.uint8)
        for name in ("axis0", "block0_items", "block1_items"):
            names = group.create_dataset(name, (1,), dtype=pickled)
            names[0] = np.frombuffer(b"\x80\x04not read.", dtype=np.uint8)
        for number, values in enumerate((signals.T, np.arange(n_voxels)[:, None])):
            group[f"block{number}_values"] = values
            group[f"block{number}_values"].attrs["transposed"] = True
        assert group["block0_values"].shape == (n_voxels, n_trials)
    return root


def _picture(path: Path, latent: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Two coloured halves for a concept, a little different in every picture."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    halves = 127 + 40 * latent.reshape(1, 2, 3) + 5 * rng.standard_normal((1, 2, 3))
    pixels = np.kron(np.clip(halves, 0, 255), np.ones((16, 8, 1)))
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=90)


def _things_voxels(path: Path, n: int, rng: np.random.Generator) -> None:
    prf = [f"prf-{name}" for name in ("eccentricity", "polarangle", "rsquared", "size")]
    head = ["voxel_id", "subject_id", "voxel_x", "voxel_y", "voxel_z", "nc_singletrial"]
    head += ["nc_testset", "splithalf_uncorrected", "splithalf_corrected", *prf, *THINGS_REGIONS]
    lines = [",".join(head)]
    for voxel in range(n):
        single = 0.0 if voxel >= 32 else float(rng.uniform(5, 40))
        average = 100 * single / (single + (100 - single) / 12)
        row: list[Any] = [voxel, 1, 1 + voxel // 10, 3 + voxel % 10, 2, single, average, 0.1, 0.2]
        row += [2.5, 90.0, 0.3, 1.2]
        row += [int(low <= voxel < high) for low, high in THINGS_REGIONS.values()]
        lines.append(",".join(map(str, row)))
    path.write_text("\n".join(lines) + "\n")


def things_fmri_example(folder: Path) -> Mapping[str, Any]:
    """The miniature that the checks of readers use."""
    return {"root": write_things_fmri(folder), "subject": "01", "strict": False}


def write_nifti_events(
    folder: str | Path, *, runs: int = 2, repetition_time: float = 2.0, seed: int = 0
) -> Path:
    """Write runs of BOLD images with ``events.tsv``, a mask and an atlas of two regions.

    Six pictures of three concepts, shown for four seconds each once per run with a rest after it;
    the answer comes five seconds later. ``betas.nii.gz`` with ``betas.tsv`` holds one volume per
    event.

    Returns
    -------
    Path
        The folder.
    """
    nibabel = require("nibabel", "fmri", "writing NIfTI images")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    rng = _random.generator(seed, "nifti events")
    shape, affine = (5, 6, 4), np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [-20, -60, 5]
    mask = np.zeros(shape, dtype=np.uint8)
    mask[1:4, 1:5, 1:3] = 1
    atlas = np.zeros(shape, dtype=np.int16)
    atlas[1:3, 1:5, 1:3], atlas[3, 1:5, 1:3] = 1, 2
    pictures = [f"{c}/{c}_{e}.png" for c in ("cat", "cup", "dog") for e in (1, 2)]
    patterns = {name: rng.standard_normal(shape) * mask for name in pictures}
    n_volumes = round((len(pictures) * 12 + 12) / repetition_time)
    _save(nibabel, root / "mask.nii.gz", mask, affine)
    _save(nibabel, root / "atlas.nii.gz", atlas, affine)
    betas, rows = [], ["stim_file\trun"]
    for run in range(1, runs + 1):
        bold = 100 + rng.standard_normal((*shape, n_volumes)) + 0.02 * np.arange(n_volumes)
        lines = ["onset\tduration\ttrial_type\tstim_file"]
        for place, number in enumerate(rng.permutation(len(pictures)).tolist()):
            onset, name = 4.0 + 12 * place, pictures[number]
            lines.append(f"{onset}\t4.0\timage\t{name}")
            lines.append(f"{onset + 4}\t8.0\trest\tn/a")
            times = np.arange(n_volumes) * repetition_time
            during = (times >= onset + 5) & (times < onset + 9)
            bold[..., during] += 3 * patterns[name][..., None]
            betas.append(patterns[name] + 0.3 * rng.standard_normal(shape))
            rows.append(f"{name}\t{run}")
        stem = f"sub-01_task-images_run-{run}"
        _save(nibabel, root / f"{stem}_bold.nii.gz", bold, affine, repetition_time)
        (root / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n")
    _save(nibabel, root / "betas.nii.gz", np.stack(betas, axis=-1), affine)
    (root / "betas.tsv").write_text("\n".join(rows) + "\n")
    return root


def _save(
    nibabel: Any, path: Path, values: NDArray[Any], affine: NDArray[np.float64], tr: float = 0.0
) -> None:
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    if tr:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    nibabel.save(image, path)


def nifti_events_example(folder: Path) -> Mapping[str, Any]:
    """The miniature that the checks of readers use."""
    root = write_nifti_events(folder, runs=1)
    stem = root / "sub-01_task-images_run-1"
    return {
        "bold": Path(f"{stem}_bold.nii.gz"),
        "events": Path(f"{stem}_events.tsv"),
        "mask": root / "mask.nii.gz",
    }


def write_miyawaki2008(folder: str | Path, *, seed: int = 0) -> Path:
    """Write ``miyawaki_structured_28x28.mat``: 4 sessions, two figures in each, 30 voxels."""
    from scipy.io import savemat

    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    rng = _random.generator(seed, "miyawaki")
    figures = np.kron(rng.integers(0, 2, (4, 7, 7)), np.ones((1, 4, 4))).reshape(4, 784)
    mixing = rng.standard_normal((784, 30)) / 20
    session = np.repeat([21, 22, 23, 24], 4)
    # Sessions 21 and 22 show other figures than 23 and 24.
    shown = np.tile([0, 1, 0, 1], 4) + np.where(session >= 23, 2, 0)
    patterns = figures[shown] @ mixing + 0.3 * rng.standard_normal((16, 30))
    test = np.zeros(16, dtype=bool)
    test[[3, 9]] = True
    content: dict[str, Any] = {}
    for part, rows in (("Trn", ~test), ("Test", test)):
        content[f"fmri{part}"] = patterns[rows]
        content[f"stim{part}"] = figures[shown[rows]]
        content[f"label{part}"] = session[rows].astype(np.uint16)[:, None]
    content["train_indices"] = np.flatnonzero(~test)[None, :]
    content["test_indices"] = np.flatnonzero(test)[None, :]
    content["metadata"] = {"description": "miniature"}
    path = root / "miyawaki_structured_28x28.mat"
    savemat(path, content)
    return path


def miyawaki2008_example(folder: Path) -> Mapping[str, Any]:
    """The miniature that the checks of readers use."""
    return {"path": write_miyawaki2008(folder), "strict": False}

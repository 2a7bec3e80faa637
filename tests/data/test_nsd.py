"""NSD: design, both layouts, both tests, lazy pictures, memory and damage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import fuzz
from scipy.io import loadmat, savemat

from phosphene.data.datasets import get_dataset
from phosphene.data.preprocess.masking import to_image
from phosphene.data.readers import _nsd_images
from phosphene.data.readers._mat5 import read_mat5
from phosphene.data.readers._nsd_design import NsdDesign, read_design, trial_table
from phosphene.data.readers._source import verifiable
from phosphene.data.readers.nsd import read_nsd, read_nsd_stimuli
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.testing._layouts_nsd import (
    N_IMAGES,
    PER_SESSION,
    SESSIONS,
    nsd_design,
    nsd_masks,
    nsd_pictures,
    nsd_responses,
)
from phosphene.testing.layouts import write_mindeye2, write_nsd

h5py = pytest.importorskip("h5py", reason="the extra h5 is not installed")
nibabel = pytest.importorskip("nibabel", reason="the extra fmri is not installed")

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROIS = "nsddata/ppdata/subj01/func1pt8mm/roi"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nsd(tmp_path_factory.mktemp("nsd"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_nsd(tmp_path)


def read(root: Path, **options: Any) -> Recording:
    return read_nsd(root, 1, **{"strict": False, **options})


def betas_of(root: Path, session: int) -> Any:
    with h5py.File(root / BETAS / f"betas_session{session:02d}.hdf5") as file:
        return file["betas"][()]


def test_values_are_percent_at_the_right_places(whole: Path) -> None:
    recording = read(whole)
    assert recording.shape == (SESSIONS * PER_SESSION, 36)
    general = np.asarray(nibabel.load(whole / ROIS / "nsdgeneral.nii.gz").dataobj)
    x, y, z = np.argwhere(general > 0)[7]
    found = recording.signals[13:26, 7]
    stored = [betas_of(whole, 2)[1:, z, y, x], betas_of(whole, 3)[:2, z, y, x]]
    np.testing.assert_allclose(found, np.concatenate(stored) / 300, rtol=1e-6)
    np.testing.assert_allclose(recording.signals, nsd_responses(1, 36), atol=0.5 / 300 + 1e-5)
    voxel = recording.sensors.voxels.iloc[7]  # type: ignore[union-attr]
    assert voxel[["i", "j", "k"]].tolist() == [x, y, z]
    assert voxel["x"] == pytest.approx(1.8 * x)


def test_trials_against_the_design_written_out(whole: Path) -> None:
    trials = read(whole).trials
    design = nsd_design()
    for number in (0, 11, 12, 59):
        position = int(design["masterordering"][0, number])
        image = int(design["subjectim"][0, position - 1]) - 1
        row = trials.iloc[number]
        assert row["stimulus"] == f"nsd-{image:05d}"
        assert row["nsd_id"] == image
        assert row["session"] == str(number // 12 + 1)
        assert row["split"] == ("test" if position <= 5 else "train")
    assert trials["repetition"].max() == 2
    assert (trials["split"] == "test").sum() == 15
    assert set(trials.loc[trials["split"] == "test", "nsd_id"] + 1) == set(design["sharedix"][0])


def test_both_tests_are_told_apart(whole: Path) -> None:
    everything = read(whole)
    # The first release lacked the last three of the five sessions.
    early = everything.trials["session"].isin(["1", "2"])
    shared = everything.trials["split"] == "test"
    assert (everything.trials["test_1000"] == shared).all()
    assert (everything.trials["test_982"] == (shared & early)).all()
    first = read(whole, test="982")
    assert first.n_trials == 2 * PER_SESSION
    assert first.history[-1]["test_set"] == "982"
    np.testing.assert_array_equal(first.signals, everything.signals[: 2 * PER_SESSION])
    with pytest.raises(DataError, match="test set '515'"):
        read(whole, test="515")


def test_seen_three_times_by_all() -> None:
    # Thirty sessions are what all people have; image 0 was shown three times in them.
    order = np.full(40 * 750, 2000)
    order[[0, 10, 22499]] = 0
    order[[1, 11, 22500]] = 1
    images = np.arange(5000)[None, :].repeat(8, axis=0)
    design = NsdDesign(order, images, 1000)
    assert design.seen_by_all(750).tolist() == [0]
    assert "seen_by_all" in get_dataset("nsd").expected


def test_runs_of_63_and_62_trials() -> None:
    table = trial_table(np.zeros(1500, np.int64), np.arange(1500), 750)
    sizes = table.groupby(["session", "run"], sort=False).size()
    assert sizes.tolist() == [63, 62] * 12
    assert table["session"].iloc[[749, 750]].tolist() == ["1", "2"]


def test_regions_and_noise_ceiling(whole: Path) -> None:
    recording = read(whole, rois=["prf-visualrois"])
    assert recording.sensors.rois == ["V1v", "V1d", "hV4", "V1"]
    assert recording.sensors.roi("V1").sum() == 12 + 6
    table = recording.sensors.voxels
    assert table is not None
    ratio = np.asarray(nibabel.load(whole / BETAS / "ncsnr.nii.gz").dataobj)
    expected = ratio[tuple(table[["i", "j", "k"]].to_numpy().T)].astype(float)
    np.testing.assert_allclose(table["ncsnr"], expected)
    np.testing.assert_allclose(table["noise_ceiling"], expected**2 / (1 + expected**2))
    some = read(whole, rois=["prf-visualrois"], roi="hV4")
    np.testing.assert_array_equal(some.signals, recording.pick(roi="hV4").signals)
    with pytest.raises(DataError, match=r"(?s)'V4'.*'hV4'"):
        read(whole, rois=["prf-visualrois"], roi="V4")


def test_back_to_an_image(whole: Path) -> None:
    recording = read(whole)
    image = to_image(recording, grid=(7, 6, 5))
    assert image.shape == (7, 6, 5, 60)
    places = np.argwhere(np.asarray(image.dataobj)[..., 0] != 0)
    assert len(places) == 36
    x, y, z = places[3]
    np.testing.assert_allclose(image.dataobj[x, y, z, :12], betas_of(whole, 1)[:, z, y, x] / 300)


@pytest.mark.parametrize("chunks", [(1, 5, 6, 7), (12, 1, 1, 7), (12, 1, 2, 2), (5, 2, 2, 2)])
def test_any_chunks_are_read_the_same(
    whole: Path, tmp_path: Path, chunks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from phosphene.data.readers import _nsd_betas

    monkeypatch.setattr(_nsd_betas, "SLAB", 300)
    other = write_nsd(tmp_path, chunks=chunks)  # type: ignore[arg-type]
    assert read(other).fingerprint == read(whole).fingerprint


def test_sessions_types_and_designs(whole: Path, tmp_path: Path) -> None:
    some = read(whole, sessions=[4, 2])
    assert some.trials["session"].unique().tolist() == ["2", "4"]
    np.testing.assert_array_equal(some.signals[12:], read(whole).signals[36:48])
    half = read(whole, dtype="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.signals, read(whole).signals, rtol=2e-3, atol=1e-3)
    other = write_nsd(tmp_path, design="npz")
    assert read(other).fingerprint == read(whole).fingerprint
    with pytest.raises(DataError, match=r"no betas of sessions 6"):
        read(whole, sessions=[6])


def test_a_flat_folder_of_one_person(whole: Path, tmp_path: Path) -> None:
    for pattern in ("**/betas_session*.hdf5", "**/*.nii.gz", "**/nsd_expdesign.mat"):
        for file in whole.glob(pattern):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert read(tmp_path).fingerprint == read(whole).fingerprint


@pytest.mark.parametrize("behaviour", ["npy", "tar", "design"])
def test_mindeye2(whole: Path, tmp_path: Path, behaviour: Any) -> None:
    other = write_mindeye2(tmp_path, behaviour=behaviour)
    recording = read(other)
    np.testing.assert_array_equal(recording.signals, nsd_responses(1, 36).astype(np.float32))
    assert not recording.in_memory
    expected = read(whole).trials
    for column in ("stimulus", "nsd_id", "split", "trial", "test_1000", "repetition"):
        assert recording.trials[column].tolist() == expected[column].tolist()
    # 60 rows of 750 a session are the first session.
    assert set(recording.trials["session"]) == {"1"}
    some = read(other, sessions=[1])
    assert some.n_trials == 60
    with pytest.raises(DataError, match="sessions 2"):
        read(other, sessions=[2])
    with pytest.raises(DataError, match="where its voxels lie"):
        read(other, roi="V1")


def test_mindeye2_with_part_of_the_rows(tmp_path: Path) -> None:
    other = write_mindeye2(tmp_path)
    table = np.load(other / "behav_subj01.npy")
    kept = np.random.default_rng(0).permutation(60)[:20]
    np.save(other / "behav_subj01.npy", table[kept])
    recording = read(other)
    rows = np.sort(kept)
    assert recording.trials["trial"].tolist() == rows.tolist()
    assert recording.trials["nsd_id"].tolist() == table[rows, 0].tolist()
    np.testing.assert_array_equal(recording.signals, nsd_responses(1, 36)[rows].astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((3, 5, 4), "more than once: 4"),
        ((3, 5, 60), r"(?s)does not fit the betas.*rows 0 to 59"),
        ((3, 0, -1), "does not fit"),
        ((3, 16, 2), r"(?s)does not fit.*shared 0 or 1"),
        ((3, 0, 1.5), "no whole numbers"),
        ((3, 5, np.nan), "no whole numbers"),
    ],
)
def test_a_behaviour_table_that_cannot_be(
    tmp_path: Path, change: tuple[int, int, float], message: str
) -> None:
    other = write_mindeye2(tmp_path)
    table = np.load(other / "behav_subj01.npy")
    table[change[:2]] = change[2]
    np.save(other / "behav_subj01.npy", table)
    with pytest.raises(DataError, match=message):
        read(other)
    np.save(other / "behav_subj01.npy", table[:, :16])
    with pytest.raises(DataError, match="no behaviour table"):
        read(other)


def test_counts_are_those_of_the_data_set(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"(?s)trials_per_session 12, shared_images 5, sessions_subj01 5, voxels_subj01 36"
        r".*750.*1000.*40.*15724",
    ):
        read_nsd(whole, 1)
    with pytest.raises(DataError, match=r"(?s)voxels_subj01 36.*15724"):
        read_nsd(write_mindeye2(tmp_path), 1)
    expected = get_dataset("nsd").expected
    assert [expected[f"voxels_subj{n:02d}"] for n in (2, 7)] == [14278, 12682]
    assert expected["test_982_trials_subj01"] == 2770
    with pytest.raises(DataError, match="no subject 9"):
        read_nsd(whole, 9)


def test_pictures_are_read_when_asked_for(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = whole / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    reads: list[int] = []
    original = _nsd_images._picture

    def counted(path: Path, row: int) -> Any:
        reads.append(row)
        return original(path, row)

    monkeypatch.setattr(_nsd_images, "_picture", counted)
    stimuli = read_nsd_stimuli(file)
    assert len(stimuli) == N_IMAGES
    assert not reads
    np.testing.assert_array_equal(stimuli.image("nsd-00042"), nsd_pictures()[42])
    assert reads == [42]
    recording = read(whole)
    mine = read_nsd_stimuli(file, recording.stimuli)
    assert mine.ids == recording.stimuli
    assert len(mine.select(recording.stimuli[:3])) == 3
    assert stimuli.concepts.is_unique
    with pytest.raises(DataError, match=r"(?s)1 of 2.*nsd-99999.*nsd-00124"):
        read_nsd_stimuli(file, ["nsd-00001", "nsd-99999"])


def test_as_many_pictures_as_there_are(tmp_path: Path) -> None:
    file = tmp_path / "nsd_stimuli.hdf5"
    with h5py.File(file, "w") as opened:
        brick = opened.create_dataset("imgBrick", (73000, 8, 8, 3), dtype="u1")
        brick[42000] = 42
    stimuli = read_nsd_stimuli(file)
    assert len(stimuli) == 73000
    assert not any(isinstance(stimuli.sources[name], np.ndarray) for name in stimuli.ids[::9000])
    assert stimuli.image("nsd-42000")[0, 0].tolist() == [42, 42, 42]


def edit_image(name: str, edit: Callable[[Any], Any], affine: Any = None) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / ROIS / f"{name}.nii.gz"
        image = nibabel.load(path)
        values = edit(np.asarray(image.dataobj))
        nibabel.save(nibabel.Nifti1Image(values, image.affine if affine is None else affine), path)

    return change


def edit_betas(edit: Callable[[Any], None]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with h5py.File(root / BETAS / "betas_session03.hdf5", "r+") as file:
            edit(file)

    return change


def shorter(file: Any) -> None:
    values = file["betas"][:10]
    del file["betas"]
    file["betas"] = values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_image("nsdgeneral", lambda v: v[:6]), r"(?s)nsdgeneral.*\(6, 6, 5\).*\(7, 6, 5\)"),
        (edit_image("nsdgeneral", lambda v: np.minimum(v, 0)), "is empty"),
        (
            edit_image("prf-visualrois", lambda v: v, np.diag([2.0, 1.8, 1.8, 1])),
            "prf-visualrois(?s:.*)lies elsewhere",
        ),
        (edit_betas(lambda f: f.move("betas", "beta")), r"(?s)session03.*'betas'.*'beta'"),
        (edit_betas(shorter), r"(?s)differ in shape.*session03\.hdf5 \(10"),
        (lambda root: (root / ROIS / "nsdgeneral.nii.gz").unlink(), r"(?s)no image 'nsdgeneral'"),
        (lambda root: (root / DESIGN).unlink(), r"(?s)no design.*nsd_expdesign\.npz"),
    ],
)
def test_what_does_not_fit_is_named(
    root: Path, change: Callable[[Path], None], message: str
) -> None:
    change(root)
    with pytest.raises(DataError, match=message):
        read(root, rois=["prf-visualrois"])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)no betas.*no such folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "betas_session1.h5").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)betas_session1\.h5.*did you mean"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("key", "edit", "message"),
    [
        ("subjectim", lambda v: np.where(v == v[2, 0], 7, v), "not shared by all"),
        ("masterordering", lambda v: v - 1, "count from 1"),
        ("masterordering", lambda v: v + 20, "do not fit each other"),
        ("masterordering", lambda v: v[:, :50], "no session 5 of 12 trials"),
        ("subjectim", None, r"(?s)no 'subjectim'"),
        ("subjectim", lambda v: v.astype(str), "no numbers"),
    ],
)
def test_a_design_that_cannot_be(
    root: Path, key: str, edit: Callable[[Any], Any] | None, message: str
) -> None:
    content: dict[str, Any] = dict(nsd_design())
    if edit is None:
        del content[key]
    else:
        content[key] = edit(content[key])
    (root / DESIGN).unlink()
    np.savez((root / DESIGN).with_suffix(".npz"), **content)
    with pytest.raises(DataError, match=message):
        read(root)


def test_matrices_of_matlab_as_scipy_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = {
        "a": rng.normal(size=(3, 4)),
        "b": rng.integers(-5, 5, (2, 3, 2)).astype(np.int16),
        "c": np.array([[7]], dtype=np.uint8),
        "d": rng.normal(size=(1, 5)).astype(np.float32),
        "text": "passed over",
        "cell": np.array([[1, "x"]], dtype=object),
    }
    for compressed in (False, True):
        path = tmp_path / f"{compressed}.mat"
        savemat(path, content, do_compression=compressed)
        expected = loadmat(path)
        found = read_mat5(path, ["a", "b", "c", "d"])
        assert sorted(found) == ["a", "b", "c", "d"]
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name])
            assert array.dtype == expected[name].dtype
        with pytest.raises(DataError, match=r"'text' is no matrix"):
            read_mat5(path, ["text"])
        with pytest.raises(DataError, match="too large"):
            read_mat5(path, ["a"], limit=200)


def fuzz_files(root: Path, files: list[Path], n: int, seed: int, **options: Any) -> None:
    # MindEye2's file is mapped: what it holds must be known before it is damaged.
    good = read(root, **options).fingerprint
    total = 0
    for number, file in enumerate(files):
        outcomes = fuzz(
            file,
            lambda: read(root, **options),
            lambda found: found.fingerprint == good,
            n=n // len(files),
            seed=seed + number,
            unverifiable=lambda found: not verifiable(found),
        )
        total += outcomes["refused"]
    assert total > n / 3


def damaged_parts(root: Path) -> list[Path]:
    files = [f"{BETAS}/betas_session02.hdf5", f"{ROIS}/nsdgeneral.nii.gz", DESIGN]
    return [root / file for file in files]


def test_damaged_files(root: Path) -> None:
    fuzz_files(root, damaged_parts(root), 42, seed=1)


@pytest.mark.parametrize("behaviour", ["npy", "tar"])
def test_damaged_files_of_mindeye2(tmp_path: Path, behaviour: Any) -> None:
    root = write_mindeye2(tmp_path, behaviour=behaviour)
    table = "behav_subj01.npy" if behaviour == "npy" else "wds/subj01/train/0.tar"
    fuzz_files(root, [root / "betas_all_subj01_fp32_renorm.hdf5", root / table], 36, seed=3)


@pytest.mark.slow
def test_many_damaged_files(tmp_path: Path) -> None:
    root = write_nsd(tmp_path / "nsd")
    fuzz_files(root, damaged_parts(root), 240, seed=5)
    for behaviour, table in (("npy", "behav_subj01.npy"), ("tar", "wds/subj01/train/0.tar")):
        other = write_mindeye2(tmp_path / behaviour, behaviour=behaviour)  # type: ignore[arg-type]
        files = [other / "betas_all_subj01_fp32_renorm.hdf5", other / table]
        fuzz_files(other, files, 240, seed=7)


@pytest.mark.slow
def test_damaged_pictures(tmp_path: Path) -> None:
    root = write_nsd(tmp_path)
    file = root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"

    def pictures() -> list[str]:
        stimuli = read_nsd_stimuli(file)
        return [stimuli.hash(name) for name in stimuli.ids[::25]]

    good = pictures()
    outcomes = fuzz(
        file,
        pictures,
        lambda found: found == good,
        n=200,
        seed=9,
        unverifiable=lambda found: True,
        names_file=True,
    )
    assert outcomes["refused"] > 60


def test_read_design_of_hostile_archive(tmp_path: Path) -> None:
    path = tmp_path / "nsd_expdesign.npz"
    np.savez(path, masterordering=np.array([{"a": 1}], dtype=object), subjectim=np.ones((8, 3)))
    with pytest.raises(DataError, match=r"nsd_expdesign\.npz"):
        read_design(path)


PEAK = """
import resource, sys
import h5py, nibabel, pandas, torch, sklearn
from phosphene.data.readers.nsd import read_nsd
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
read_nsd(sys.argv[1], 1, strict=False)
before = peak()
kept = read_nsd(sys.argv[2], 1, strict=False)
print((peak() - before) / kept.nbytes)
"""


@pytest.mark.slow
def test_peak_memory(tmp_path: Path) -> None:
    small = write_nsd(tmp_path / "small")
    large = write_nsd(tmp_path / "large")
    general, _ = nsd_masks()
    grid = (60, 50, 40)
    mask = np.zeros(grid, np.int16)
    mask[10:40, 10:40, 5:35] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), large / ROIS / "nsdgeneral.nii.gz")
    (large / BETAS / "ncsnr.nii.gz").unlink()
    rng = np.random.default_rng(0)
    design = dict(nsd_design())
    design["masterordering"] = np.tile(design["masterordering"], (1, 60))
    (large / DESIGN).unlink()
    np.savez((large / DESIGN).with_suffix(".npz"), **design)
    for session in range(1, 6):
        with h5py.File(large / BETAS / f"betas_session{session:02d}.hdf5", "w") as file:
            betas = file.create_dataset("betas", (720, *grid[::-1]), dtype="i2")
            for start in range(0, 720, 40):
                betas[start : start + 40] = rng.integers(-900, 900, (40, *grid[::-1]))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(small), str(large)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert general.shape == (7, 6, 5)
    assert float(done.stdout) < 1.3, done.stdout

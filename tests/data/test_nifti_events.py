"""NIfTI with events: means of volumes, models against nilearn, betas, masks, atlases, damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fuzzing import fuzz, same_recording

from phosphene.data.preprocess.masking import add_atlas, mask_image, to_image
from phosphene.data.preprocess.voxels import DetrendZScore
from phosphene.data.readers._source import verifiable
from phosphene.data.readers.nifti import read_nifti
from phosphene.data.readers.nifti_events import read_nifti_events
from phosphene.data.recording import Recording, Sensors
from phosphene.errors import DataError
from phosphene.testing.layouts import write_nifti_events

nibabel = pytest.importorskip("nibabel", reason="the extra fmri is not installed")
pytest.importorskip("nilearn", reason="the extra fmri is not installed")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_nifti_events(tmp_path)


def files(root: Path, *runs: int) -> dict[str, Any]:
    stems = [f"sub-01_task-images_run-{run}" for run in runs or (1, 2)]
    return {
        "bold": [root / f"{stem}_bold.nii.gz" for stem in stems],
        "events": [root / f"{stem}_events.tsv" for stem in stems],
    }


def read(root: Path, *runs: int, **options: Any) -> Recording:
    return read_nifti_events(**{**files(root, *runs), "mask": root / "mask.nii.gz", **options})


def voxels_of(path: Path, root: Path) -> Any:
    inside = np.asarray(nibabel.load(root / "mask.nii.gz").dataobj) != 0
    return np.asarray(nibabel.load(path).dataobj)[inside].T


def events_of(root: Path, run: int) -> pd.DataFrame:
    table = pd.read_csv(files(root, run)["events"][0], sep="\t")
    return table[table["trial_type"] == "image"].reset_index(drop=True)


def test_averages_by_hand(root: Path) -> None:
    recording = read(root, standardize=False)
    assert recording.shape == (12, 24)
    for run in (1, 2):
        values = voxels_of(files(root, run)["bold"][0], root)
        events = events_of(root, run)
        part = recording.select(run=str(run))
        assert part.trials["stimulus"].tolist() == events["stim_file"].tolist()
        for number, onset in enumerate(events["onset"]):
            # Two seconds a volume: onset + 5 to onset + 9 holds two of them.
            first = int(np.ceil((onset + 5) / 2))
            expected = values[first : first + 2].mean(axis=0)
            np.testing.assert_allclose(part.signals[number], expected, rtol=1e-6)
    trials = recording.trials
    assert set(trials["concept"]) == {"cat", "cup", "dog"}
    assert set(trials["n_volumes"]) == {2}
    assert trials["event"].tolist() == list(range(0, 12, 2)) * 2
    assert trials["repetition"].tolist() == [0] * 6 + [1] * 6
    assert set(trials["trial_type"]) == {"image"}


def test_standardised_averages_are_those_of_standardised_volumes(root: Path) -> None:
    values = voxels_of(files(root, 1)["bold"][0], root)
    volumes = Recording.from_arrays(values, {"stimulus": ["x"] * len(values)}, modality="fmri")
    ready = DetrendZScore().transform(volumes).signals
    onset = events_of(root, 1)["onset"][2]
    first = int(np.ceil((onset + 5) / 2))
    found = read(root, 1).signals[2]
    np.testing.assert_allclose(found, ready[first : first + 2].mean(axis=0), atol=1e-5)


def test_the_planted_answer_is_found_in_either_way(root: Path) -> None:
    for options in ({}, {"method": "glm_trial"}, {"method": "betas"}):
        if options.get("method") == "betas":
            recording = read(
                root, bold=root / "betas.nii.gz", events=root / "betas.tsv", method="betas"
            )
        else:
            recording = read(root, **options)
        first, second = (
            recording.select(repetition=k).average().pick(recording.channel_names) for k in (0, 1)
        )
        order = second.trials["stimulus"].tolist()
        rows = [order.index(name) for name in first.trials["stimulus"]]
        match = np.corrcoef(first.signals, second.signals[rows])[:6, 6:]
        assert (match.argmax(axis=1) == np.arange(6)).mean() >= 5 / 6


@pytest.mark.filterwarnings("ignore:.*Generation of a mask")
@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_betas_are_those_of_nilearn(root: Path, noise_model: str) -> None:
    from nilearn.glm.first_level import FirstLevelModel

    recording = read(root, 1, method="glm_trial", noise_model=noise_model)
    events = events_of(root, 1)[["onset", "duration"]].assign(trial_type=list("abcdef"))
    model = FirstLevelModel(
        t_r=2.0,
        slice_time_ref=0.0,
        hrf_model="glover",
        drift_model="cosine",
        high_pass=0.01,
        noise_model=noise_model,
        mask_img=str(root / "mask.nii.gz"),
        signal_scaling=False,
        minimize_memory=True,
    ).fit(str(files(root, 1)["bold"][0]), events=events)
    inside = np.asarray(nibabel.load(root / "mask.nii.gz").dataobj) != 0
    for number, name in enumerate("abcdef"):
        expected = model.compute_contrast(name, output_type="effect_size").get_fdata()[inside]
        np.testing.assert_allclose(recording.signals[number], expected, rtol=2e-3, atol=2e-4)
    assert recording.history[-1]["noise_model"] == noise_model


def test_conditions_are_models_of_several_events(root: Path) -> None:
    for run in (1, 2):
        path = files(root, run)["events"][0]
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        table["category"] = table["stim_file"].replace("n/a", "rest").str.partition("/")[0]
        table.to_csv(path, sep="\t", index=False)
    recording = read(root, method="glm_condition", stimulus="category")
    assert recording.shape == (6, 24)
    assert set(recording.trials["stimulus"]) == {"cat", "cup", "dog"}
    assert set(recording.trials["n_events"]) == {2}
    trials = read(root, method="glm_trial")
    # A condition's beta is close to the mean of its trials' betas.
    for run in ("1", "2"):
        cats = trials.select(run=run, concept="cat").signals.mean(axis=0)
        found = recording.select(run=run, stimulus="cat").signals[0]
        assert np.corrcoef(cats, found)[0, 1] > 0.95


def test_confounds_are_taken_out(root: Path) -> None:
    path = files(root, 1)["bold"][0]
    image = nibabel.load(path)
    rng = np.random.default_rng(0)
    motion = rng.standard_normal(image.shape[3])
    spoilt = np.asarray(image.dataobj) + 50 * motion
    nibabel.save(nibabel.Nifti1Image(spoilt.astype(np.float32), image.affine, image.header), path)
    table = pd.DataFrame({"motion": motion})
    with_it = read(root, 1, method="glm_trial", confounds=table).signals
    without = read(root, 1, method="glm_trial").signals
    assert np.abs(with_it).mean() < np.abs(without).mean() / 3
    with pytest.raises(DataError, match=r"(?s)does not fit the run.*5 rows"):
        read(root, 1, method="glm_trial", confounds=table[:5])


def test_betas_and_their_table(root: Path) -> None:
    recording = read(root, bold=root / "betas.nii.gz", events=root / "betas.tsv", method="betas")
    table = pd.read_csv(root / "betas.tsv", sep="\t")
    assert recording.trials["stimulus"].tolist() == table["stim_file"].tolist()
    np.testing.assert_array_equal(recording.signals, voxels_of(root / "betas.nii.gz", root))
    path = root / "short" / "betas.tsv"
    path.parent.mkdir()
    table[:-1].to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError, match=r"(?s)betas\.tsv.*11 rows.*12, one per volume"):
        read(root, bold=root / "betas.nii.gz", events=path, method="betas")


def test_to_image_is_the_inverse_of_nilearns_masking(root: Path) -> None:
    from nilearn.masking import apply_mask, unmask

    recording = read(root)
    image = to_image(recording)
    mask = nibabel.load(root / "mask.nii.gz")
    assert image.shape == (*mask.shape, 12)
    np.testing.assert_array_equal(image.affine, mask.affine)
    np.testing.assert_array_equal(apply_mask(image, mask), recording.signals)
    weights = np.random.default_rng(0).normal(size=24).astype(np.float32)
    np.testing.assert_array_equal(
        to_image(weights, recording).get_fdata(), unmask(weights, mask).get_fdata()
    )
    np.testing.assert_array_equal(
        np.asarray(mask_image(recording).dataobj), np.asarray(mask.dataobj)
    )
    # Some of the voxels go back to their own places.
    some = recording.pick([3, 11, 5])
    values = np.asarray(to_image(some, fill=np.nan).dataobj)
    assert np.isfinite(values[..., 0]).sum() == 3
    np.testing.assert_array_equal(
        values[np.isfinite(values[..., 0])][0],
        np.asarray(image.dataobj)[
            tuple(some.sensors.voxels[["i", "j", "k"]].to_numpy()[0])  # type: ignore[index]
        ],
    )


def test_to_image_needs_places(root: Path) -> None:
    recording = read(root)
    with pytest.raises(DataError, match="whose voxels"):
        to_image(np.zeros(24))
    with pytest.raises(DataError, match=r"(?s)not values of the voxels.*\(23,\).*\(24,\)"):
        to_image(np.zeros(23), recording)
    with pytest.raises(DataError, match="no place in an image"):
        to_image(np.zeros(4), Sensors.fmri(4))
    with pytest.raises(DataError, match="grid does not hold"):
        to_image(recording, grid=(3, 3, 3))
    saved = recording.save(root / "saved")
    assert to_image(Recording.load(saved)).shape == (5, 6, 4, 12)


def test_masks_of_other_kinds(root: Path) -> None:
    from nilearn.maskers import NiftiLabelsMasker, NiftiMasker

    good = read(root)
    image = nibabel.load(root / "mask.nii.gz")
    assert read(root, mask=image).fingerprint == good.fingerprint
    masker = NiftiMasker(mask_img=image)
    assert read(root, mask=masker).fingerprint == good.fingerprint
    assert read(root, mask=NiftiMasker(mask_img=image).fit()).fingerprint == good.fingerprint
    with pytest.raises(DataError, match="as atlas"):
        read(root, mask=NiftiLabelsMasker(labels_img=str(root / "atlas.nii.gz")))
    with pytest.raises(DataError, match="is not said"):
        read(root, mask=None)


def test_regions_of_an_atlas(root: Path) -> None:
    atlas = root / "atlas.nii.gz"
    recording = read(root, atlas=atlas, labels=["Background", "V1", "V2"])
    assert recording.sensors.rois == ["V1", "V2"]
    assert recording.sensors.roi("V1").sum() == 16
    alone = read(root, mask=None, atlas=atlas)
    assert alone.sensors.rois == ["label-1", "label-2"]
    later = add_atlas(read(root), atlas, {1: "V1", 2: "V2"})
    np.testing.assert_array_equal(later.pick(roi="V2").signals, recording.pick(roi="V2").signals)
    merged = add_atlas(read(root), atlas, {1: "V1", 2: "V1"})
    assert merged.sensors.roi("V1").all()


def test_an_atlas_of_another_grid(root: Path) -> None:
    image = nibabel.load(root / "atlas.nii.gz")
    fine = np.kron(np.asarray(image.dataobj), np.ones((2, 2, 2))).astype(np.int16)
    affine = image.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] -= 0.75
    other = root / "fine.nii.gz"
    nibabel.save(nibabel.Nifti1Image(fine, affine), other)
    recording = read(root)
    with pytest.raises(DataError, match=r"(?s)fine\.nii\.gz has another shape.*\(10, 12, 8\)"):
        add_atlas(recording, other)
    with pytest.raises(DataError, match=r"fine\.nii\.gz has another shape"):
        read(root, atlas=other)
    resampled = add_atlas(recording, other, resample=True)
    expected = add_atlas(recording, root / "atlas.nii.gz")
    for region in ("label-1", "label-2"):
        np.testing.assert_array_equal(resampled.sensors.roi(region), expected.sensors.roi(region))
    halves = nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.5, image.affine)
    with pytest.raises(DataError, match="whole numbers"):
        add_atlas(recording, halves)
    nothing = nibabel.Nifti1Image(np.zeros(image.shape), image.affine)
    with pytest.raises(DataError, match="no voxel lies in a region"):
        add_atlas(recording, nothing)


def test_grids_of_runs_must_agree(root: Path) -> None:
    path = files(root, 2)["bold"][0]
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 2
    moved = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
    moved.header.set_zooms(image.header.get_zooms())
    nibabel.save(moved, path)
    with pytest.raises(DataError, match=r"run-2_bold.*lies elsewhere than .*run-1_bold"):
        read(root)


def edited(root: Path, edit: Callable[[pd.DataFrame], Any]) -> None:
    path = files(root, 1)["events"][0]
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    found = edit(table)
    (table if found is None else found).to_csv(path, sep="\t", index=False)


def cell(row: int, column: str, value: str) -> Callable[[pd.DataFrame], None]:
    def edit(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.rename(columns={"onset": "onsets"}), r"(?s)no column 'onset'.*'onsets'"),
        (lambda t: t[["onset", "duration"]], r"(?s)names the stimulus.*stim_file"),
        (cell(2, "onset", "n/a"), r"(?s)onset is no time.*rows 2.*'n/a'"),
        (cell(2, "duration", "-1"), "duration is no time"),
        (cell(2, "onset", "500"), r"(?s)events 1 lie outside the run.*505 s"),
        (lambda t: t.assign(stim_file="n/a"), "nothing was shown"),
        (lambda t: t.iloc[:0], "no events"),
    ],
)
def test_events_that_cannot_be(
    root: Path, edit: Callable[[pd.DataFrame], Any], message: str
) -> None:
    edited(root, edit)
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert "run-1_events.tsv" in str(caught.value)


def test_rows_of_another_length(root: Path) -> None:
    path = files(root, 1)["events"][0]
    path.write_text(path.read_text() + "4.0\t2.0\n")
    with pytest.raises(DataError, match=r"(?s)rows 12.*found: 2.*expected: 4"):
        read(root)


def test_short_events_and_their_volume(root: Path) -> None:
    edited(root, lambda t: t.assign(duration="0.1"))
    recording = read(root, 1, standardize=False, delay=4.2)
    assert set(recording.trials["n_volumes"]) == {1}
    values = voxels_of(files(root, 1)["bold"][0], root)
    onset = events_of(root, 1)["onset"]
    nearest = np.round((onset + 4.25) / 2).astype(int)
    np.testing.assert_array_equal(recording.signals, values[nearest])


def test_options_that_cannot_be(root: Path) -> None:
    with pytest.raises(DataError, match="method 'glm'"):
        read(root, method="glm")
    with pytest.raises(DataError, match=r"1 for 2 runs"):
        read(root, events=files(root, 1)["events"])
    with pytest.raises(DataError, match="one name each"):
        read(root, runs=["a", "a"])
    with pytest.raises(DataError, match=r"no event is called 'catch'"):
        read(root, drop=["catch"])
    with pytest.raises(DataError, match=r"no column 'kind' with the concepts"):
        read(root, concept="kind")
    many = pd.DataFrame(np.random.default_rng(0).normal(size=(42, 34)))
    with pytest.raises(DataError, match="as many regressors as volumes"):
        read(root, 1, method="glm_trial", confounds=many)


def test_a_header_without_repetition_time(root: Path) -> None:
    path = files(root, 1)["bold"][0]
    image = nibabel.load(path)
    image.header.set_zooms((*image.header.get_zooms()[:3], 0.0))
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    with pytest.raises(DataError, match=r"give tr=seconds"):
        read(root, 1)
    assert read(root, 1, tr=2.0).n_trials == 6


def test_voxels_with_nan_or_without_change(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = files(root, 2)["bold"][0]
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).copy()
    values[2, 2, 1, 7] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    with pytest.raises(DataError, match=r"(?s)run-2_bold.*1 of 24 voxels.*v2-2-1"):
        read(root)
    for run in (1, 2):
        path = files(root, run)["bold"][0]
        image = nibabel.load(path)
        values = np.asarray(image.dataobj).copy()
        values[2, 2, 1] = 100
        nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    recording = read(root)
    assert recording.shape[1] == 23
    assert "v2-2-1" not in recording.channel_names
    assert "1 of 24 voxels" in caplog.text


def test_slabs_of_volumes_are_read_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phosphene.data.readers import _images

    good = read(root).fingerprint
    monkeypatch.setattr(_images, "SLAB", 5000)
    assert read(root).fingerprint == good


def test_read_nifti_notes_its_grid(root: Path) -> None:
    path = files(root, 1)["bold"][0]
    labels = pd.DataFrame({"label": ["a", "b"] * 21, "run": "1"})
    recording = read_nifti(path, root / "mask.nii.gz", labels)
    assert to_image(recording).shape == (5, 6, 4, 42)


def fuzz_files(root: Path, n: int, seed: int) -> None:
    good = read(root, 1)
    paths = files(root, 1)
    for number, path in enumerate([paths["bold"][0], root / "mask.nii.gz", paths["events"][0]]):
        # Half a table is a table.
        any_table = path.suffix == ".tsv"
        outcomes = fuzz(
            path,
            lambda: read(root, 1),
            lambda found, any_table=any_table: any_table or same_recording(found, good),
            n=n,
            seed=seed + number,
            unverifiable=lambda found: not verifiable(found),
        )
        assert outcomes["refused"] > n / 4


def test_damaged_files(root: Path) -> None:
    fuzz_files(root, 18, seed=1)


@pytest.mark.slow
def test_many_damaged_files(root: Path) -> None:
    fuzz_files(root, 200, seed=5)

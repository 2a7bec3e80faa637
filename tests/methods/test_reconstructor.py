"""The contract of reconstructors: regression to groups of features, pictures, folders, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV

from phosphene.data.recording import Recording, Sensors
from phosphene.data.stimuli import StimulusSet
from phosphene.decoding.selected_ridge import SelectedRidge
from phosphene.errors import ArtefactError, DataError, StorageError
from phosphene.evaluation.protocol import Protocol
from phosphene.methods._feature_decoder import LARGEST_FACTOR, FeatureDecoder
from phosphene.methods._reconstruction import Reconstruction
from phosphene.methods._reconstruction_files import Finished, PictureFolder
from phosphene.methods.linear_reconstructor import LinearReconstructor
from phosphene.reconstruction.baselines import LinearPixel, NearestImage
from phosphene.testing import TinyProblem, tiny_images, tiny_problem

ALPHAS = (1.0, 100.0, 10_000.0)
QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem(snr=2.0)


@pytest.fixture(scope="module")
def pictures() -> StimulusSet:
    return tiny_images()


@pytest.fixture(scope="module")
def model(problem: TinyProblem, pictures: StimulusSet) -> LinearReconstructor:
    return LinearReconstructor(settings={"size": 8}).fit(problem.train, pictures, **QUIET)


def data(n: int = 60, p: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p)).astype(np.float32)
    Y = X[:, :6].reshape(n, 2, 3) + rng.standard_normal((n, 2, 3))
    Y[:, 0, 0] = 0.25  # as the first token of a text
    return X, Y.astype(np.float32)


def fitted(n_voxels: int | None = None, columns: Any = None) -> FeatureDecoder:
    X, Y = data()
    used = np.arange(X.shape[1]) if columns is None else np.asarray(columns)
    return FeatureDecoder.fit(X, Y, used, alphas=ALPHAS, n_voxels=n_voxels,
                              groups=np.arange(60) // 4, progress=False)  # fmt: skip


# --------------------------------------------------------------------------- feature decoders
def test_the_regression_is_that_of_scikit_learn_on_the_columns() -> None:
    X, Y = data()
    columns = [1, 3, 4, 20]
    expected = RidgeCV(ALPHAS, alpha_per_target=True).fit(X[:, columns], Y.reshape(60, -1)[:, 1:])
    found = fitted(columns=columns).predict(X)
    np.testing.assert_allclose(found[:, 1:], expected.predict(X[:, columns]), atol=1e-4)


def test_a_target_that_never_varies_is_predicted_exactly() -> None:
    X, _ = data()
    for decoder in (fitted(), fitted(n_voxels=5)):
        assert (decoder.predict(3 * X)[:, 0] == np.float32(0.25)).all()


def test_selected_voxels_are_those_of_the_selected_ridge() -> None:
    X, Y = data()
    expected = SelectedRidge(ALPHAS, k=5, progress=False)
    expected.fit(X, Y.reshape(60, -1), groups=np.arange(60) // 4)
    decoder = fitted(n_voxels=5)
    np.testing.assert_allclose(decoder.predict(X), expected.predict(X), atol=1e-4)
    np.testing.assert_allclose(decoder.r2, expected.cv_r2_, atol=1e-5)
    kept = decoder.keep(np.array([4, 1]))
    np.testing.assert_array_equal(kept.predict(X), decoder.predict(X)[:, [4, 1]])
    again = FeatureDecoder.from_arrays(kept.arrays())
    np.testing.assert_array_equal(again.predict(X), kept.predict(X))
    assert again.shape == (2, 3)
    assert again.units.tolist() == [4, 1]


def test_rescaling_restores_the_length_of_a_deviation() -> None:
    X, Y = data()
    decoder = fitted()
    deviation = Y.reshape(60, -1).std(axis=0)
    spread = decoder.rescaled(deviation)
    variance = deviation.astype(float) ** 2
    expected = np.sqrt(variance.sum() / (np.maximum(decoder.r2, 0) * variance).sum())
    assert spread.factor == pytest.approx(expected)
    assert spread.factor > 1.1
    moved = spread.predict(X) - decoder.mean
    np.testing.assert_allclose(moved, expected * (decoder.predict(X) - decoder.mean), atol=1e-4)
    # New trials then spread as the targets do, where the penalties have a fine choice.
    (X, Y), new = data(300), data(4000)[0][2000:]
    fine = FeatureDecoder.fit(X, Y, np.arange(30), alphas=np.logspace(0, 4, 30).tolist(),
                              n_voxels=None, groups=np.arange(300), progress=False)  # fmt: skip
    variance = Y.reshape(300, -1).var(axis=0)
    ratios = [
        np.square(one.predict(new) - one.mean).mean() / variance.mean()
        for one in (fine, fine.rescaled(np.sqrt(variance)))
    ]
    assert ratios[0] < 0.6
    assert ratios[1] == pytest.approx(1, abs=0.2)
    nothing = FeatureDecoder(decoder.shape, decoder.units, decoder.columns, decoder.coef,
                             decoder.intercept, decoder.mean, -np.ones(6, np.float32))  # fmt: skip
    assert nothing.rescaled(deviation).factor == LARGEST_FACTOR


# -------------------------------------------------------------------------------- the contract
def test_decoded_pictures_lie_between_true_and_shuffled_ones(
    model: LinearReconstructor, problem: TinyProblem, pictures: StimulusSet
) -> None:
    made = model.reconstruct(problem.test, **QUIET)
    truth = np.stack([pictures.image(i) for i in made.ids]) / 255

    def error(found: np.ndarray) -> float:
        return float(np.square(found[:, 0] - truth).mean())

    features = model.decode(problem.test.average(by=("subject", "stimulus")))
    shuffled = {group: np.roll(values, 7, axis=0) for group, values in features.items()}
    upper = model.generate(model.encode(pictures, made.ids), made.ids, **QUIET)
    lower = model.generate(shuffled, made.ids, **QUIET)
    assert error(upper.images) < 1e-4
    assert 10 * error(upper.images) < error(made.images) < 0.5 * error(lower.images)
    # What decode gives makes the pictures that reconstruct makes.
    same = model.generate(features, made.queries, **QUIET)
    np.testing.assert_array_equal(same.images, made.images)


def test_regions_are_all_that_a_group_sees(pictures: StimulusSet) -> None:
    tiny = tiny_problem(snr=2.0)
    flat = tiny.train.average().signals[:, :, ::8].reshape(120, -1)
    voxels = pd.DataFrame({"roi_early": np.arange(170) < 60, "roi_late": np.arange(170) >= 60})
    trials = tiny.train.average().trials
    fmri = Recording.from_arrays(flat, trials, sensors=Sensors.fmri(voxels), modality="fmri")
    settings: dict[str, Any] = {"settings": {"size": 4}}
    model = LinearReconstructor(rois={"latent": ["early"]}, **settings).fit(fmri, pictures, **QUIET)
    assert model.decoders_["latent"].columns.tolist() == list(range(60))
    loud = fmri.with_signals(np.where(np.arange(170) < 60, flat, 1000 * flat))
    np.testing.assert_array_equal(model.decode(fmri)["latent"], model.decode(loud)["latent"])
    both = LinearReconstructor(**settings).fit(fmri, pictures, **QUIET)
    assert not np.allclose(both.decode(fmri)["latent"], both.decode(loud)["latent"])
    for wrong, said in (({"text": ["early"]}, "rois names"), ({"latent": ["V9"]}, "V9")):
        with pytest.raises(DataError, match=said):
            LinearReconstructor(rois=wrong, **settings).fit(fmri, pictures, **QUIET)


def test_rescale_reaches_the_features_and_the_protocol(
    problem: TinyProblem, pictures: StimulusSet, model: LinearReconstructor
) -> None:
    wide = LinearReconstructor(settings={"size": 8}, rescale=["latent"])
    wide.fit(problem.train, pictures, **QUIET)
    factor = wide.decoders_["latent"].factor
    assert factor > 1
    mean = model.decoders_["latent"].mean.reshape(3, 8, 8)
    expected = factor * (model.decode(problem.test)["latent"] - mean)
    np.testing.assert_allclose(wide.decode(problem.test)["latent"] - mean, expected, atol=1e-4)
    notes = wide.reconstruct(problem.test, **QUIET).protocol.notes
    assert any("spread" in note for note in notes)
    assert not any("spread" in n for n in model.reconstruct(problem.test, **QUIET).protocol.notes)
    with pytest.raises(DataError, match="rescale names"):
        LinearReconstructor(rescale=["text"]).fit(problem.train, pictures, **QUIET)


def test_repetitions_are_averaged_as_asked(
    model: LinearReconstructor, problem: TinyProblem
) -> None:
    one = model.reconstruct(problem.test, repetitions=1, **QUIET)
    first = problem.test.select("repetition == 0")
    np.testing.assert_array_equal(one.images, model.reconstruct(first, **QUIET).images)
    assert (one.protocol.test_repetitions, len(one)) == (1, 20)
    assert model.reconstruct(problem.test, **QUIET).protocol.test_repetitions == 4
    with pytest.raises(DataError, match="repetitions"):
        model.reconstruct(problem.test, repetitions=0)


def test_nearest_image_answers_with_training_pictures(
    problem: TinyProblem, pictures: StimulusSet, tmp_path: Path
) -> None:
    nearest = LinearReconstructor(using="nearest_image", settings={"size": 8})
    with pytest.raises(DataError, match="bank"):
        nearest.fit(problem.train, pictures, **QUIET)
    nearest.fit(problem.train, pictures, problem.bank, **QUIET)
    # The bank and the pictures held those of the test; they are no candidates.
    assert set(nearest.generator_.stimuli.ids) == set(nearest.train_stimuli_)
    made = nearest.reconstruct(problem.test, **QUIET).images[:, 0]
    shown = {pictures.image(i).tobytes() for i in nearest.train_stimuli_}
    assert {np.rint(255 * one).astype(np.uint8).tobytes() for one in made} <= shown
    nearest.save_pretrained(tmp_path / "model")
    loaded = LinearReconstructor.from_pretrained(tmp_path / "model")
    with pytest.raises(DataError, match="training pictures"):
        loaded.reconstruct(problem.test, **QUIET)
    seen = nearest.train_stimuli_
    using = NearestImage(problem.bank.select(seen), pictures.select(seen), size=8)
    loaded = LinearReconstructor.from_pretrained(tmp_path / "model", using=using)
    np.testing.assert_array_equal(loaded.reconstruct(problem.test, **QUIET).images[:, 0], made)


def test_another_generator_than_that_of_training_is_refused(
    model: LinearReconstructor, problem: TinyProblem, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    loaded = LinearReconstructor.from_pretrained(tmp_path / "model", using=LinearPixel(16))
    with pytest.raises(ArtefactError, match="not the one"):
        loaded.reconstruct(problem.test, **QUIET)


def test_an_object_as_generator_must_be_given_again(
    problem: TinyProblem, pictures: StimulusSet, tmp_path: Path
) -> None:
    own = LinearReconstructor(using=LinearPixel(8)).fit(problem.train, pictures, **QUIET)
    own.save_pretrained(tmp_path / "model")
    with pytest.raises(ArtefactError, match="using"):
        LinearReconstructor.from_pretrained(tmp_path / "model")


def test_queries_are_named_once(model: LinearReconstructor, pictures: StimulusSet) -> None:
    ids = pictures.ids[-2:]
    features = model.encode(pictures, ids)
    with pytest.raises(DataError, match="more than once"):
        model.generate(features, [ids[0], ids[0]], **QUIET)
    with pytest.raises(DataError, match="groups of features"):
        model.generate({"text": features["latent"]}, ids, **QUIET)
    with pytest.raises(DataError, match="samples"):
        model.generate(features, ids, n=0, **QUIET)


# ------------------------------------------------------------------------------------- pictures
def some(rows: int = 3) -> Reconstruction:
    rng = np.random.default_rng(0)
    queries = pd.DataFrame(
        {"subject": "01", "stimulus": [f"s{i}" for i in range(rows)], "concept": "thing"}
    )
    stages = {
        name: (rng.integers(0, 256, (rows, 2, 6, 6, 3)) / 255).astype(np.float32)
        for name in ("stage1", "stage2")
    }
    traces = pd.DataFrame(
        {"query": [0, 0, 2], "sample": 0, "iteration": [0, 1, 0], "loss": [0.1, 1 / 3, 2e-7]}
    )
    return Reconstruction(queries, stages, Protocol(method="x"), traces,
                          {2: {0: stages["stage1"][2, 0], 25: stages["stage2"][2, 0]}})  # fmt: skip


def test_reconstructions_are_saved_and_loaded_whole(tmp_path: Path) -> None:
    made = some()
    found = Reconstruction.load(made.save(tmp_path / "made"))
    assert list(found.stages) == ["stage1", "stage2"]
    for stage, images in made.stages.items():
        np.testing.assert_array_equal(found.stages[stage], images)
    np.testing.assert_array_equal(found.images, made.stages["stage2"])
    pd.testing.assert_frame_equal(found.traces, made.traces, check_dtype=False)
    pd.testing.assert_frame_equal(found.queries, made.queries, check_dtype=False)
    assert found.protocol == made.protocol
    assert list(found.frames[2]) == [0, 25]
    np.testing.assert_array_equal(found.frames[2][25], made.stages["stage2"][2, 0])
    picture = next((tmp_path / "made" / "stage2").glob("*.png"))
    picture.write_bytes(picture.read_bytes()[:-9])
    with pytest.raises(ArtefactError, match=picture.name):
        Reconstruction.load(tmp_path / "made")


def test_a_damaged_picture_counts_as_not_made(tmp_path: Path) -> None:
    call = {"seed": 0, "names": ["a"]}
    kept = PictureFolder(tmp_path / "made", call)
    part = Finished({"images": np.full((1, 4, 4, 3), 7, np.uint8)})
    kept.write(0, part)
    again = PictureFolder(tmp_path / "made", call)
    found = again.read(0)
    assert found is not None
    np.testing.assert_array_equal(found.stages["images"], part.stages["images"])
    assert again.read(1) is None
    picture = next((tmp_path / "made").rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"x")
    assert again.read(0) is None
    with pytest.raises(DataError, match="seed"):
        PictureFolder(tmp_path / "made", {**call, "seed": 1})


def test_foreign_folders_are_left_alone(model: LinearReconstructor, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(StorageError, match="did not write"):
        PictureFolder(tmp_path, {"seed": 0})

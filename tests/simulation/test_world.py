"""Worlds, studies and what can be decoded from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.evaluation.noise_ceiling import noise_ceiling
from phosphene.methods.ridge import Ridge
from phosphene.simulation.components import Features, Population, reduce_features
from phosphene.simulation.design import draw_states, make_design
from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.sensors import EEG_NAMES, OCCIPITO_PARIETAL
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import World, get_world
from phosphene.stimuli.bank import FeatureBank

MakeScene = Callable[[World], Scene]
MakeStudy = Callable[..., Study]
MakeWorld = Callable[..., World]
SEEDS = (0, 1, 2)
VIEW = "fovea(k=51)"


def ridge_top1(one: Study, view: str = "original") -> float:
    scores = []
    for subject in one.subjects:
        decoder = Ridge(views=(view,)).fit(one.train(subject), one.bank)
        scores.append(decoder.evaluate(one.test(subject), one.bank).top1)
    return float(np.mean(scores))


# -- worlds ---------------------------------------------------------------------------------


def test_named_worlds_are_registered_with_distinct_hashes() -> None:
    names = _registry.names("world")
    needed = {"standard", "standard-fmri", "unfoveated", "no-meaning", "zero-signal", "quick"}
    needed |= {"standard-meg", "standard-ecog", "standard-ecog-voltage", "multimodal"}
    assert needed <= set(names)
    assert len({get_world(name).hash for name in names}) == len(names)
    assert all(get_world(name).name == name for name in names)


def test_the_standard_world_is_frozen() -> None:
    # Later methods are compared on it: a change of its parameters is a new version, on purpose.
    standard = get_world("standard")
    assert (standard.version, standard.hash[:16]) == (1, "a6cb8c55f2a6deec")


def test_overrides_change_the_hash_and_unknown_ones_are_named() -> None:
    changed = get_world("standard", noise=1.0)
    assert changed.noise == 1.0
    assert changed.hash != get_world("standard").hash
    assert get_world(changed) is changed
    with pytest.raises(UnknownNameError, match="noise_exponent"):
        get_world("standard", noise_exponnt=1.0)
    with pytest.raises(UnknownNameError, match="standard"):
        get_world("standrad")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"clarity_share": (0.5, 0.5)}, "clarity_share"),
        ({"clarity_share": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"foveation": 1.5}, "foveation"),
        ({"alpha_share": 0.8, "sensor_share": 0.5}, "noise"),
        ({"sessions": 0}, "sessions"),
    ],
)
def test_impossible_parameters_are_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        get_world("standard", **overrides)


def test_passes_of_the_encoder_stay_within_the_demo_budget() -> None:
    assert get_world("quick").encoder_passes <= 1_500
    assert get_world("standard").encoder_passes <= 12_000
    assert get_world("unfoveated").views == get_world("standard").views


# -- stimuli --------------------------------------------------------------------------------


def test_test_concepts_are_never_trained(scene_of: MakeScene, small: MakeWorld) -> None:
    scene = scene_of(small())
    by_split = scene.table.groupby("split")["concept"]
    assert not set(by_split.get_group("train")) & set(by_split.get_group("test"))
    assert by_split.nunique().to_dict() == {"train": 120, "test": 30}
    assert by_split.size().to_dict() == {"train": 240, "test": 30}


def test_a_given_split_is_kept_and_checked(small: MakeWorld, bank: FeatureBank) -> None:
    table = bank.stimuli.assign(split="train")
    table.loc[table["concept"].isin(["c000", "c001"]), "split"] = "test"
    own = FeatureBank(table, bank.arrays, bank.provenance, bank.default_layer)
    scene = make_scene(small(), bank=own)
    assert len(scene.test) == 4
    table.iloc[0, table.columns.get_loc("split")] = "train"
    with pytest.raises(DataError, match="c000"):
        make_scene(small(), bank=own)


def test_too_few_concepts_are_an_error(small: MakeWorld, bank: FeatureBank) -> None:
    with pytest.raises(DataError, match="test_concepts"):
        make_scene(small(test_concepts=150), bank=bank)


def test_decoders_get_the_target_layer_only(scene_of: MakeScene, small: MakeWorld) -> None:
    scene = scene_of(small())
    assert scene.bank.layers == ("target",)
    assert "original" in scene.bank.views


# -- components -----------------------------------------------------------------------------


def test_reduced_features_are_fitted_on_the_training_stimuli() -> None:
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((2, 50, 6))
    raw[..., 3] = 1.0  # never varies
    changed = raw.copy()
    changed[:, 40:] *= 7.0
    a = reduce_features(raw, np.arange(40), 4, 0.5).scores
    b = reduce_features(changed, np.arange(40), 4, 0.5).scores
    np.testing.assert_allclose(a[:, :40], b[:, :40], rtol=1e-5)
    np.testing.assert_allclose(a[:, :40].mean(axis=(0, 1)), 0.0, atol=1e-6)
    flat = reduce_features(raw, np.arange(40), 4, 1.0).scores[:, :40].reshape(-1, 4)
    np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(4), atol=1e-5)


def test_populations_are_normalised_and_not_linear() -> None:
    rng = np.random.default_rng(0)
    features = Features(rng.standard_normal((1, 400, 10)).astype(np.float32))

    def draw(**how: float) -> np.ndarray:
        population = Population.draw(
            10, 20, common=np.random.default_rng(1), own=np.random.default_rng(2),
            **{"similarity": 0.5, "rectified": 0.0, "normalisation": 0.0, **how},
        )  # fmt: skip
        return population.respond(features, np.arange(400))[0]

    def left_over(activity: np.ndarray) -> float:
        design = np.c_[features.scores[0], np.ones(400)]
        return float(np.var(activity - design @ np.linalg.lstsq(design, activity, rcond=None)[0]))

    linear, bent = draw(), draw(rectified=0.5, normalisation=0.8)
    np.testing.assert_allclose(bent.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(bent.std(axis=0), 1.0, rtol=1e-4)
    assert left_over(linear) < 1e-10
    assert left_over(bent) > 0.05


# -- design ---------------------------------------------------------------------------------


def test_repetitions_are_dealt_evenly_and_keys_are_unique(
    scene_of: MakeScene, small: MakeWorld
) -> None:
    world = small(sessions=4)
    table = make_design(world, scene_of(world).table, "01", 0, 4, 8).table
    assert not table.duplicated(["stimulus", "session", "run", "repetition"]).any()
    per_session = table.groupby(["split", "stimulus", "session"]).size()
    assert len(per_session) == 4 * (240 + 30)
    assert set(per_session["train"]) == {1}
    assert set(per_session["test"]) == {2}
    assert set(table.groupby("session").size()) == {240 + 2 * 30}
    assert set(table["run"]) == {"1", "2", "3", "4", "5"}


def test_states_follow_their_distributions(small: MakeWorld) -> None:
    world = small(sfreq=250.0)
    states = draw_states(world, 20_000, "01", 0)
    share = np.bincount(states.level) / 20_000
    np.testing.assert_allclose(share, world.clarity_share, atol=0.015)
    by_level = [states.gain[states.level == level].mean() for level in range(3)]
    np.testing.assert_allclose(by_level, world.clarity_gain, rtol=0.02)
    assert states.shift.std() / 250.0 == pytest.approx(world.jitter, rel=0.05)


# -- studies --------------------------------------------------------------------------------


def test_single_trials_have_the_table_that_a_recording_needs(study: MakeStudy) -> None:
    one = study(averaged=False, test_repetitions=6, train_repetitions=2)
    recording = one.recordings["01"]
    assert recording.shape == (240 * 2 + 30 * 6, 63, 40)
    assert tuple(recording.sensors.names) == EEG_NAMES
    assert recording.trials["split"].value_counts().to_dict() == {"train": 480, "test": 180}
    assert recording.signals.dtype == np.float32
    trials = one.truth["01"].trials
    assert len(trials) == len(recording.trials)
    assert (trials["stimulus"].to_numpy() == recording.trials["stimulus"].to_numpy()).all()
    assert set(trials["clarity"]) == {0, 1, 2}


def test_the_same_seed_gives_the_same_bits_and_subjects_do_not_depend_on_each_other(
    study: MakeStudy,
) -> None:
    alone = study(subjects=["02"], averaged=False, test_repetitions=2)
    together = study(subjects=2, averaged=False, test_repetitions=2)
    np.testing.assert_array_equal(alone.recordings["02"].signals, together.recordings["02"].signals)
    pd.testing.assert_frame_equal(alone.recordings["02"].trials, together.recordings["02"].trials)
    assert not np.array_equal(together.recordings["01"].signals, together.recordings["02"].signals)
    other = study(subjects=["02"], averaged=False, test_repetitions=2, seed=1)
    assert not np.array_equal(alone.recordings["02"].signals, other.recordings["02"].signals)


@pytest.mark.parametrize("modality", ["eeg", "meg", "ecog", "fmri"])
def test_averages_without_noise_are_the_means_of_the_same_trials(
    study: MakeStudy, modality: str
) -> None:
    how = {"noise": 0.0, "modality": modality, "test_repetitions": 7, "voxels_per_roi": 10}
    direct = study(**how).recordings["01"]
    single = study(averaged=False, **how).recordings["01"]
    mean = single.average(by=("subject", "stimulus"))
    place = {stimulus: row for row, stimulus in enumerate(direct.trials["stimulus"])}
    rows = [place[stimulus] for stimulus in mean.trials["stimulus"]]
    scale = float(np.abs(mean.signals).max())
    np.testing.assert_allclose(direct.signals[rows], mean.signals, atol=1e-5 * scale)
    for column in ("n_averaged", "split", "concept", "session", "run", "repetition"):
        ours = direct.trials[column].to_numpy()[rows]
        assert (ours == mean.trials[column].to_numpy()).all(), column


@pytest.mark.parametrize("repetitions", [6, 8])  # unevenly and evenly spread over sessions
def test_noise_of_averages_is_what_averaging_leaves(study: MakeStudy, repetitions: int) -> None:
    how = {
        "signal": 0.0, "evoked_uv": 1e-9, "session_spread": 0.6, "channels": ["O1", "Oz", "Pz"],
        "train_repetitions": repetitions, "test_repetitions": 1,
    }  # fmt: skip
    direct = study(**how).train("01").signals
    single = study(averaged=False, **how).train("01")
    mean = single.average(by=("subject", "stimulus")).signals
    # Spatial covariance and spread over time, 240 stimuli x 40 samples that are not independent.
    for array in (direct, mean):
        assert array.shape == (240, 3, 40)
    ours = np.einsum("nct,ndt->cd", direct, direct)
    theirs = np.einsum("nct,ndt->cd", mean, mean)
    np.testing.assert_allclose(ours, theirs, rtol=0.12)
    np.testing.assert_allclose(direct.std(axis=(0, 1)), mean.std(axis=(0, 1)), rtol=0.2)


def test_templates_are_the_expected_responses(study: MakeStudy) -> None:
    one = study(noise=0.0, test_repetitions=4000, channels=["Oz", "P7"])
    templates = one.truth["01"].templates
    test = one.test("01")
    assert tuple(test.trials["stimulus"]) == one.truth["01"].stimuli
    scale = templates.std()
    error = np.abs(test.signals - templates).max() / scale
    assert error < 0.15
    assert np.abs(templates - templates.mean(axis=0)).max() > scale / 4


def test_picking_channels_does_not_change_them(scene_of: MakeScene, small: MakeWorld) -> None:
    world = small(noise=0.0)
    whole = simulate(world, scene=scene_of(world), averaged=True)
    part = simulate(world, scene=scene_of(world), averaged=True, channels=OCCIPITO_PARIETAL)
    rows = [EEG_NAMES.index(name) for name in OCCIPITO_PARIETAL]
    np.testing.assert_allclose(
        part.recordings["01"].signals, whole.recordings["01"].signals[:, rows], rtol=1e-4, atol=1e-9
    )
    with pytest.raises(UnknownNameError, match="Ozz"):
        simulate(world, scene=scene_of(world), channels=["Ozz"])


def test_wrong_requests_are_refused(scene_of: MakeScene, small: MakeWorld) -> None:
    world = small()
    with pytest.raises(DataError, match="repetitions"):
        simulate(world, scene=scene_of(world), test_repetitions=0)
    with pytest.raises(DataError, match="subjects"):
        simulate(world, scene=scene_of(world), subjects=["01", "01"])


def test_fmri_has_voxels_in_regions_that_follow_their_features(
    small: MakeWorld, bank: FeatureBank
) -> None:
    rng = np.random.default_rng(3)
    early = FeatureBank.from_arrays(bank.ids, {"original": rng.standard_normal((len(bank), 9))})
    world = small(modality="fmri", early_uv=1.0, noise=0.5, voxels_per_roi=20, foveation=0.0)
    one = simulate(world, bank=bank, early=early, averaged=True)
    recording = one.recordings["01"]
    assert recording.modality == "fmri"
    assert recording.shape == (270, 140)
    assert recording.sensors.rois == ["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA"]
    assert recording.sensors.voxels is not None
    assert recording.sensors.voxels["noise_ceiling"].between(0, 1).all()

    def explained(roi: str, by: np.ndarray) -> float:
        X = np.c_[by, np.ones(len(by))]
        Y = recording.pick(roi=roi).signals.astype(float)
        return 1.0 - float(np.var(Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]) / np.var(Y))

    ids = list(recording.trials["stimulus"])
    edges, objects = early.vectors("original", ids=ids), bank.vectors("original", "driver", ids)
    assert explained("V1", edges) > explained("V1", objects) + 0.1
    assert explained("LOC", objects) > explained("LOC", edges) + 0.1


# -- what can be decoded ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_zero_signal_gives_chance(study: MakeStudy, seed: int) -> None:
    one = study(signal=0.0, seed=seed, subjects=4, channels=OCCIPITO_PARIETAL)
    hits = ridge_top1(one) * 4 * 30
    assert hits <= 11  # 120 queries at 1 of 30: 4 expected; more than 11 in 1 of 1,000
    assert noise_ceiling(one.truth["01"], 40) == pytest.approx(1 / 30, abs=0.01)


def test_accuracy_rises_with_signal_repetitions_and_channels(study: MakeStudy) -> None:
    def mean(**how: Any) -> float:
        options = {"subjects": 2, "channels": OCCIPITO_PARIETAL, **how}
        return float(np.mean([ridge_top1(study(seed=s, **options)) for s in SEEDS]))

    weak, middle = mean(signal=0.3), mean(signal=1.0)
    assert middle > weak + 0.1
    few = mean(test_repetitions=1)
    assert middle > few + 0.1
    frontal = mean(channels=["Fp1", "Fp2"])
    assert middle > frontal + 0.1


@pytest.mark.parametrize("repetitions", [1, 5, 40])
def test_no_decoder_passes_the_ceiling(study: MakeStudy, repetitions: int) -> None:
    ceilings, reached = [], []
    for seed in SEEDS:
        one = study(
            seed=seed,
            channels=OCCIPITO_PARIETAL,
            test_repetitions=repetitions,
            noise=8.0,
        )
        ceilings.append(noise_ceiling(one.truth["01"], repetitions, n_draws=6000))
        reached.append(ridge_top1(one))
    assert np.mean(ceilings) >= np.mean(reached)


def test_the_ceiling_is_what_the_ideal_observer_reaches(study: MakeStudy) -> None:
    # Without fluctuations of the person, averages are exactly template plus noise.
    still = {
        "jitter": 0.0, "gain_spread": 0.0, "clarity_gain": (1.0, 1.0, 1.0), "foveation": 0.0,
        "noise": 60.0, "session_spread": 0.0, "test_repetitions": 4, "subjects": 12,
        "channels": OCCIPITO_PARIETAL,
    }  # fmt: skip
    one = study(**still)
    hits, stated = [], []
    for subject in one.subjects:
        truth = one.truth[subject]
        filters = truth.filters(4).reshape(30, -1)
        templates = truth.templates.reshape(30, -1)
        x = one.test(subject).signals.reshape(30, -1)
        score = x @ filters.T - 0.5 * np.einsum("nd,nd->n", templates, filters)
        hits.append((score.argmax(axis=1) == np.arange(30)).mean())
        stated.append(noise_ceiling(truth, 4, n_draws=6000))
    assert 0.15 < np.mean(stated) < 0.95
    assert np.mean(hits) == pytest.approx(np.mean(stated), abs=0.08)


def test_ceiling_rises_with_repetitions_and_signal(study: MakeStudy) -> None:
    truth = study(noise=40.0).truth["01"]
    values = [noise_ceiling(truth, r, n_draws=6000) for r in (1, 4, 20)]
    assert all(later > earlier + 0.02 for earlier, later in pairwise(values))
    weak = study(noise=40.0, signal=0.5).truth["01"]
    assert noise_ceiling(weak, 4, n_draws=6000) < values[1] - 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_a_foveated_person_is_read_better_with_foveated_targets(
    study: MakeStudy, seed: int
) -> None:
    one = study(foveation=1.0, seed=seed, subjects=3, channels=OCCIPITO_PARIETAL)
    assert ridge_top1(one, VIEW) > ridge_top1(one, "original") + 0.08


@pytest.mark.parametrize("seed", SEEDS)
def test_an_unfoveated_person_is_not(study: MakeStudy, seed: int) -> None:
    one = study(foveation=0.0, seed=seed, subjects=3, channels=OCCIPITO_PARIETAL)
    assert ridge_top1(one, VIEW) < ridge_top1(one, "original") + 0.02


def test_clarity_chooses_what_is_seen(
    small: MakeWorld, bank_of: Callable[..., FeatureBank]
) -> None:
    bank = bank_of(clutter=2.0)
    still = {"jitter": 0.0, "gain_spread": 0.0, "clarity_gain": (1.0, 1.0, 1.0), "noise": 0.0}
    world = small(foveation=1.0, seen=("original", VIEW, VIEW), **still)
    one = simulate(world, bank=bank, averaged=False, test_repetitions=30, channels=["Oz", "P7"])
    trials, signals = one.truth["01"].trials, one.recordings["01"].signals
    shown = (trials["stimulus"] == one.truth["01"].stimuli[0]).to_numpy()
    by_level = [signals[shown & (trials["clarity"] == level)] for level in range(3)]
    for same in by_level:
        np.testing.assert_allclose(same, np.broadcast_to(same[0], same.shape), atol=1e-10)
    np.testing.assert_allclose(by_level[1][0], by_level[2][0], atol=1e-10)
    assert np.abs(by_level[0][0] - by_level[1][0]).max() > 1e-7


def test_worlds_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_world("quick").noise = 1.0  # type: ignore[misc]

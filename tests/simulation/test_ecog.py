"""ECoG electrodes: fall-off with distance, log power with its noise, and power found in volts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from phosphene.data.preprocess.high_gamma import HighGamma
from phosphene.data.recording import Recording
from phosphene.errors import DataError
from phosphene.evaluation.noise_ceiling import noise_ceiling
from phosphene.methods.ridge import Ridge
from phosphene.simulation.ecog import (
    BACKGROUND_VOLTS,
    BASELINE_VOLTS,
    PITCH,
    SURFACE,
    ecog_sensors,
    ecog_subject,
    electrodes,
    voltages,
)
from phosphene.simulation.scene import Scene
from phosphene.simulation.sensors import head, source_places
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import World, get_world

MakeWorld = Callable[..., World]
MakeScene = Callable[[World], Scene]
ECOG = {"modality": "ecog", "noise": 1.0, "sfreq": 50.0, "n_times": 30}


@pytest.mark.parametrize("subject", ["01", "02", "03"])
def test_grids_lie_on_one_hemisphere_over_the_back_of_the_brain(subject: str) -> None:
    names, places = electrodes(subject, 0)
    assert len(names) == len(set(names)) == len(places) == 76
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), SURFACE)
    assert len(set(np.sign(places[:60, 0]))) == 1  # the occipital grid may reach the midline
    assert places[:, 1].max() < 0.1
    rows = [i for i, name in enumerate(names) if name.startswith("LAT")]
    metres = head().radius * places[rows]
    gap = np.linalg.norm(metres[:, None] - metres[None], axis=-1) + np.eye(len(rows))
    np.testing.assert_allclose(gap.min(axis=1), PITCH, rtol=0.06)
    positions = ecog_sensors(names, places, 100.0).positions()
    np.testing.assert_allclose(
        np.linalg.norm(positions - head()["r0"], axis=1), SURFACE * head().radius, rtol=1e-5
    )


def test_power_falls_off_with_distance_from_the_populations(
    small: MakeWorld, scene_of: MakeScene
) -> None:
    # One electrode in the middle of the right LOC, others 10, 20 and 30 mm outwards.
    world = small(**ECOG, evoked_uv=0.0)
    scene = scene_of(world)
    where, area = source_places()
    centre = where[(area == "LOC") & (where[:, 0] > 0)].mean(axis=0)
    out = centre / np.linalg.norm(centre) / (1e3 * head().radius)
    line = centre + np.array([0.0, 10.0, 20.0, 30.0])[:, None] * out

    def spread(**how: float) -> np.ndarray:
        changed = get_world(world, **how)
        person = ecog_subject(changed, "01", 0, scene.features, 270, scene.train, line)
        response = (person.activity[0] @ person.basis(0)).reshape(270, 4, 30)
        return response.std(axis=0).max(axis=-1)

    found = spread(ecog_reach=8.0)
    assert (np.diff(np.log(found)) < -0.6).all()
    # Far away, each further centimetre costs 10 / reach of the logarithm, whatever the places are.
    assert np.log(found[2] / found[3]) == pytest.approx(10.0 / 8.0, rel=0.25)
    assert spread(ecog_reach=16.0)[3] > 2 * found[3]
    np.testing.assert_allclose(spread(ecog_log_power=3.0), 3 * found, rtol=1e-5)


def test_noise_has_the_size_that_the_world_says(small: MakeWorld, scene_of: MakeScene) -> None:
    world = small(**{**ECOG, "noise": 1.4}, signal=0.0, evoked_uv=0.0, sessions=3)
    study = simulate(world, scene=scene_of(world), test_repetitions=2, train_repetitions=1)
    recording = study.recordings["01"]
    assert recording.signals.std() == pytest.approx(1.4, rel=0.1)
    r = np.corrcoef(recording.signals.transpose(1, 0, 2).reshape(76, -1))
    assert np.median(r[~np.eye(76, dtype=bool)]) == pytest.approx(0.2, abs=0.08)


def top1(study: Study, prepare: HighGamma | None = None) -> float:
    tops = []
    for subject in study.subjects:
        train, test = study.train(subject), study.test(subject)
        if prepare is not None:
            train, test = prepare.transform(train), prepare.transform(test)
        decoder = Ridge(views=("original",)).fit(train, study.bank)
        mean = test.average(by=("subject", "stimulus"))
        tops.append(decoder.evaluate(mean, study.bank).top1)
    return float(np.mean(tops))


@pytest.mark.parametrize("seed", [0, 1])
def test_power_can_be_decoded_below_the_ceiling_and_chance_without_signal(
    small: MakeWorld, scene_of: MakeScene, seed: int, tmp_path: Path
) -> None:
    world = small(**ECOG)
    study = simulate(world, scene=scene_of(world), subjects=2, seed=seed, averaged=True)
    recording = study.recordings["02"]
    assert (recording.modality, recording.shape) == ("ecog", (270, 76, 30))
    assert recording.sensors.info is not None
    assert recording.sensors.info.get_channel_types(unique=True) == ["ecog"]
    assert study.truth["01"].templates.shape == (30, 76, 30)
    recording.save(tmp_path / "ecog")
    again = Recording.load(tmp_path / "ecog")
    np.testing.assert_allclose(again.sensors.positions(), recording.sensors.positions())
    chance = 1 / 30
    assert top1(study) > 5 * chance
    assert noise_ceiling(study.truth["01"], 40, n_draws=3000) >= top1(study)
    none = simulate(
        get_world(world, signal=0.0), scene=study.scene, subjects=2, seed=seed, averaged=True
    )
    assert top1(none) <= 7 / 60
    assert noise_ceiling(none.truth["01"], 40, n_draws=3000) == pytest.approx(chance, abs=0.01)


def test_picking_electrodes_does_not_change_them(small: MakeWorld, scene_of: MakeScene) -> None:
    world = small(**{**ECOG, "noise": 0.0})
    scene = scene_of(world)
    whole = simulate(world, scene=scene, averaged=True).recordings["01"]
    part = simulate(world, scene=scene, averaged=True, channels=["VEN03", "LAT01"])
    rows = [whole.sensors.names.index(name) for name in ("VEN03", "LAT01")]
    np.testing.assert_allclose(part.recordings["01"].signals, whole.signals[:, rows], atol=1e-6)
    np.testing.assert_allclose(
        part.recordings["01"].sensors.positions(), whole.sensors.positions()[rows]
    )


# -- volts ----------------------------------------------------------------------------------


def record(volts: np.ndarray, sfreq: float) -> Recording:
    table = {"stimulus": [f"s{i}" for i in range(len(volts))]}
    return Recording.from_arrays(volts, table, sfreq=sfreq, modality="ecog")


@pytest.mark.parametrize("method", ["multitaper", "welch"])
def test_high_gamma_finds_the_power_that_volts_were_made_with(method: str) -> None:
    level = np.linspace(-1.5, 1.5, 7)
    log_power = np.broadcast_to(level[:, None, None], (7, 40, 500))
    volts = voltages(log_power, 500.0, seed=3)
    power = HighGamma(log=False, method=method).transform(record(volts, 500.0)).signals
    found = power.mean(axis=1)  # 40 electrodes, each with about 70 x 1 s x 2 degrees of freedom
    # The slow background reaches into the band: the integral of f**-2.5 there over all of it.
    slow = np.maximum(np.fft.rfftfreq(1000, 1 / 500.0), 1.0) ** -2.5
    inside = slow[160:301].sum() / slow.sum()
    wanted = BASELINE_VOLTS**2 * np.exp(level) + BACKGROUND_VOLTS**2 * inside
    np.testing.assert_allclose(found, wanted, rtol=0.08)
    again = voltages(log_power, 500.0, seed=3)
    np.testing.assert_array_equal(volts, again)


def test_high_gamma_follows_power_in_time() -> None:
    times = np.arange(500) / 500.0
    course = 1.5 * np.exp(-0.5 * ((times - 0.35) / 0.1) ** 2)
    volts = voltages(np.broadcast_to(course, (30, 10, 500)), 500.0, seed=0)
    step = HighGamma(width=0.1, log=True, bandwidth=40.0)
    found = step.transform(record(volts, 500.0)).signals.mean(axis=(0, 1))
    wanted = np.log(np.exp(course).reshape(-1, 50).mean(axis=1))
    assert np.corrcoef(found, wanted)[0, 1] > 0.98
    assert np.ptp(found) == pytest.approx(np.ptp(wanted), rel=0.15)


@pytest.fixture(scope="module")
def in_volts(small: MakeWorld, scene_of: MakeScene) -> Study:
    world = small(
        modality="ecog", ecog_signal="voltage", noise=0.5, sfreq=400.0, n_times=200,
        ecog_log_power=2.0, train_repetitions=1, test_repetitions=8,
    )  # fmt: skip
    return simulate(world, scene=scene_of(world), channels=electrodes("01", 0)[0][::2])


def test_preprocessing_recovers_the_templates_from_volts(in_volts: Study) -> None:
    recording = in_volts.test("01")
    assert recording.signals.std() == pytest.approx(30e-6, rel=0.2)
    templates = in_volts.truth["01"].templates
    assert templates.shape == (30, 38, 200)
    power = HighGamma(log=True).transform(recording).average(by=("subject", "stimulus"))
    place = {stimulus: row for row, stimulus in enumerate(in_volts.truth["01"].stimuli)}
    wanted = templates.mean(axis=-1)[[place[one] for one in power.trials["stimulus"]]]
    found = power.signals - power.signals.mean(axis=0)
    wanted = wanted - wanted.mean(axis=0)
    # Electrodes that respond follow the truth; those that do not have nothing to follow.
    strong = np.argsort(wanted.std(axis=0))[-10:]
    r = [np.corrcoef(found[:, e], wanted[:, e])[0, 1] for e in strong]
    assert np.mean(r) > 0.5
    plain = recording.average(by=("subject", "stimulus")).signals.mean(axis=-1)
    plain = plain[:, strong] - plain[:, strong].mean(axis=0)
    assert abs(np.mean([np.corrcoef(plain[:, i], wanted[:, e])[0, 1]
                        for i, e in enumerate(strong)])) < 0.25  # fmt: skip


def test_high_gamma_of_volts_can_be_decoded_and_volts_themselves_cannot(in_volts: Study) -> None:
    prepared = top1(in_volts, HighGamma(width=0.1, bandwidth=40.0))
    assert prepared > 4 / 30
    assert prepared > top1(in_volts) + 0.05


def test_volts_are_not_averaged_and_need_their_rate(small: MakeWorld, scene_of: MakeScene) -> None:
    world = small(**ECOG, ecog_signal="voltage")
    with pytest.raises(DataError, match="400"):
        simulate(world, scene=scene_of(world))
    fast = dataclasses.replace(world, sfreq=500.0)
    with pytest.raises(DataError, match="averaging"):
        simulate(fast, scene=scene_of(world), averaged=True)

"""MEG sensors against MNE on single dipoles and against the closed form of the sphere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest

from phosphene.data.recording import Recording
from phosphene.evaluation.noise_ceiling import noise_ceiling
from phosphene.methods.ridge import Ridge
from phosphene.simulation.electric import make_noise
from phosphene.simulation.meg import MEG_NAMES, meg_forward, meg_info, meg_names
from phosphene.simulation.scene import Scene
from phosphene.simulation.sensors import eeg_forward, head, source_places
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import World, get_world, in_modality

MAGS = np.asarray([name.endswith("1") for name in MEG_NAMES])


def test_306_sensors_have_the_names_of_the_layout() -> None:
    layout = mne.channels.read_layout("Vectorview-all")
    assert set(MEG_NAMES) == {name.replace(" ", "") for name in layout.names}
    assert len(set(MEG_NAMES)) == 306
    assert meg_info(100.0).get_channel_types(unique=True) == ["grad", "mag"]
    places = {name: ch["loc"][:3] for name, ch in zip(MEG_NAMES, meg_info(1.0)["chs"], strict=True)}
    for name in meg_names("mag", posterior=True):
        assert places[name][1] < 0.0
    # In the layout, left sensors are left: the two pictures of the helmet agree.
    x = {n.replace(" ", ""): p[0] + p[2] / 2 for n, p in zip(layout.names, layout.pos, strict=True)}
    for name in meg_names("mag"):
        assert abs(places[name][0]) < 0.01 or np.sign(places[name][0]) == np.sign(x[name] - 0.5)


def test_coils_have_right_handed_frames_around_the_head() -> None:
    for channel in meg_info(100.0)["chs"]:
        place, *axes = channel["loc"].reshape(4, 3)
        frame = np.stack(axes)
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(frame) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(axes[2], place / np.linalg.norm(place), atol=1e-6)
        assert np.linalg.norm(place) > head().radius
    # A gradiometer measures along its first axis: the two of a site look along different ones.
    first = np.stack([ch["loc"][3:6] for ch in meg_info(100.0)["chs"]]).reshape(102, 3, 3)
    np.testing.assert_allclose(np.einsum("sx,sx->s", first[:, 0], first[:, 1]), 0.0, atol=1e-6)


@pytest.mark.parametrize("area", ["V1", "FFA"])
def test_fields_are_those_of_mne_for_a_single_dipole(area: str) -> None:
    forward = meg_forward()
    place = int(forward.places(area)[3])
    towards = np.array([0.6, 0.0, 0.8])
    where = head()["r0"] + head().radius * source_places()[0][place]
    dipole = mne.Dipole(
        [0.0], where[None], np.array([20e-9]), towards[None], np.array([100.0]), verbose="ERROR"
    )
    theirs, _ = mne.make_forward_dipole(dipole, head(), meg_info(1000.0), verbose="ERROR")
    ours = 20.0 * forward.topography(np.array([place]), towards[None])[:, 0]  # of 20 nAm
    theirs = 20e-9 * theirs["sol"]["data"][:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs[MAGS]).max())
    assert 2e-14 < np.abs(ours[MAGS]).max() < 2e-12  # tens to hundreds of femtotesla


def sarvas(at: np.ndarray, source: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Field outside a sphere around the origin (Sarvas 1987, equation 25), tesla."""
    away = at - source
    a, r = np.linalg.norm(away), np.linalg.norm(at)
    f = a * (r * a + r**2 - source @ at)
    gradient = (a**2 / r + away @ at / a + 2 * a + 2 * r) * at
    gradient -= (a + 2 * r + away @ at / a) * source
    turn = np.cross(moment, source)
    return 1e-7 / f**2 * (f * turn - (turn @ at) * gradient)


def test_magnetometers_and_gradiometers_follow_the_closed_form() -> None:
    forward = meg_forward()
    place = int(forward.places("LOC")[0])
    source = head().radius * source_places()[0][place]
    moment = np.array([1e-9, -2e-9, 0.5e-9])
    size = np.linalg.norm(moment)
    ours = 1e9 * size * forward.topography(np.array([place]), moment[None] / size)[:, 0]
    loc = np.stack([ch["loc"].reshape(4, 3) for ch in meg_info(1000.0)["chs"]])
    across = np.linspace(-0.0105, 0.0105, 7)  # metres: the square of a magnetometer's coil
    apart = 0.0168  # metres between the loops of a gradiometer
    theirs = np.empty(306)
    for row, (at, first, second, normal) in enumerate(loc):
        if MAGS[row]:
            points = [at + u * first + v * second for u in across for v in across]
            theirs[row] = np.mean([sarvas(one, source, moment) @ normal for one in points])
        else:
            ahead, behind = at + apart / 2 * first, at - apart / 2 * first
            change = sarvas(ahead, source, moment) - sarvas(behind, source, moment)
            theirs[row] = change @ normal / apart
    # The loops of a gradiometer have a size too, which is not counted here.
    for kind, margin in ((MAGS, 0.02), (~MAGS, 0.12)):
        error = np.abs(ours[kind] - theirs[kind]).max() / np.abs(theirs[kind]).max()
        assert error < margin
        assert np.corrcoef(ours[kind], theirs[kind])[0, 1] > 0.995


def test_radial_dipoles_are_silent() -> None:
    forward = meg_forward()
    places = forward.places("V1", "LOC", "FFA")
    silent = forward.topography(places, forward.directions[places])
    loud = forward.topography(places, np.cross(forward.directions[places], (0.0, 0.0, 1.0)))
    assert np.abs(silent).max() < 1e-9 * np.abs(loud).max()


def test_noise_of_the_sensors_has_its_density_and_that_of_the_brain_the_size_of_eeg() -> None:
    quiet = get_world("standard-meg", noise=1e-6, n_times=40)
    noise = make_noise(quiet, meg_forward(), np.random.default_rng(0), eeg_forward())
    variance = noise.spatial.mean(axis=1).sum(axis=0).diagonal()
    band = np.sqrt(quiet.sfreq / 2)
    np.testing.assert_allclose(np.sqrt(variance[MAGS]), 3e-15 * band, rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(variance[~MAGS]), 3e-13 * band, rtol=1e-3)
    world = get_world("standard-meg", n_times=40)
    brain = make_noise(world, meg_forward(), np.random.default_rng(0), eeg_forward())
    scalp = make_noise(world, eeg_forward(), np.random.default_rng(0))
    # 9 microvolts on the scalp are some hundreds of femtotesla above it.
    tesla = np.sqrt(brain.spatial[:2].mean(axis=1).sum(axis=0).diagonal()[MAGS].mean())
    assert 1e-13 < tesla < 2e-12
    # Sensors that see what EEG sees have the noise of EEG, but for their own.
    like_eeg = dataclasses.replace(eeg_forward(), noise_unit=np.ones(63))
    same = make_noise(world, like_eeg, np.random.default_rng(0), eeg_forward())
    np.testing.assert_allclose(same.spatial[:2], scalp.spatial[:2], rtol=1e-6, atol=1e-20)
    np.testing.assert_array_equal(same.power, scalp.power)


def test_meg_measures_the_dipoles_of_the_same_person(
    small: Callable[..., World], scene_of: Callable[[World], Scene]
) -> None:
    world = small(noise=0.0, evoked_uv=0.0)
    scene = scene_of(world)
    eeg = simulate(world, scene=scene, averaged=True, test_repetitions=3)
    meg = simulate(world, modality="meg", scene=scene, averaged=True, test_repetitions=3)
    assert meg.world == in_modality(world, "meg")
    assert meg.world.hash != world.hash
    # Both are linear in the same activity: what one sees of the stimuli predicts the other.
    E, M = (one.recordings["01"].signals.reshape(270, -1) for one in (eeg, meg))
    E, M = ((x / np.abs(x).max()).astype(float) for x in (E, M))
    gram = [x @ x.T for x in (E - E.mean(axis=0), M - M.mean(axis=0))]
    basis = np.linalg.svd(gram[0])[0][:, :60]
    left = gram[1] - basis @ (basis.T @ gram[1])
    assert np.abs(left).max() < 0.02 * np.abs(gram[1]).max()


def decoded(study: Study) -> float:
    tops = []
    for subject in study.subjects:
        decoder = Ridge(views=("original",)).fit(study.train(subject), study.bank)
        tops.append(decoder.evaluate(study.test(subject), study.bank).top1)
    return float(np.mean(tops))


@pytest.mark.parametrize("seed", [0, 1])
def test_recordings_are_in_tesla_and_can_be_decoded_below_the_ceiling(
    small: Callable[..., World], scene_of: Callable[[World], Scene], seed: int, tmp_path: Path
) -> None:
    world = small(modality="meg")
    names = meg_names("mag", posterior=True)
    study = simulate(
        world, scene=scene_of(world), subjects=2, seed=seed, channels=names, averaged=True
    )
    recording = study.recordings["01"]
    assert recording.modality == "meg"
    assert recording.sensors.names == names
    assert recording.sensors.info is not None
    assert recording.sensors.info.get_channel_types(unique=True) == ["mag"]
    assert 1e-14 < recording.signals.std() < 1e-11
    recording.save(tmp_path / "meg")
    again = Recording.load(tmp_path / "meg")
    np.testing.assert_array_equal(again.signals, recording.signals)
    np.testing.assert_allclose(again.sensors.positions(), recording.sensors.positions())
    chance = 1 / 30
    assert decoded(study) > 5 * chance
    assert noise_ceiling(study.truth["01"], 40, n_draws=3000) >= decoded(study)
    silent = get_world(world, signal=0.0)
    none = simulate(silent, scene=study.scene, subjects=2, seed=seed, channels=names, averaged=True)
    assert decoded(none) <= 7 / 60  # 2 of 60 expected; more than 7 in less than 1 of 1,000
    assert noise_ceiling(none.truth["01"], 40, n_draws=3000) == pytest.approx(chance, abs=0.01)

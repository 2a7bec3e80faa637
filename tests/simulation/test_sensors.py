"""Forward model, early vision, evoked response and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phosphene.simulation import early, electric
from phosphene.simulation.components import bumps
from phosphene.simulation.noise import PatternNoise, SpectralNoise
from phosphene.simulation.sensors import (
    AREAS,
    EEG_NAMES,
    OCCIPITO_PARIETAL,
    eeg_forward,
    source_places,
)
from phosphene.simulation.voxels import CENTRES, voxel_table
from phosphene.simulation.world import get_world

BACK = {"O1", "Oz", "O2", "PO3", "POz", "PO4", "PO7", "PO8"}


def test_63_channels_of_the_standard_montage_hold_the_17_over_visual_cortex() -> None:
    assert len(set(EEG_NAMES)) == 63
    assert len(set(OCCIPITO_PARIETAL)) == 17
    assert set(OCCIPITO_PARIETAL) <= set(EEG_NAMES)


def test_forward_model_is_average_referenced_and_sees_each_area_nearby() -> None:
    forward = eeg_forward()
    np.testing.assert_allclose(forward.gain.mean(axis=0), 0.0, atol=1e-12)
    # A radial dipole in V1 is largest over occipital channels, one in the anterior temporal lobe
    # is not.
    v1 = forward.places("V1")
    field = np.abs(forward.topography(v1, forward.directions[v1]))
    assert {EEG_NAMES[i] for i in field.argmax(axis=0)} <= BACK
    atl = forward.places("ATL")
    field = np.abs(forward.topography(atl, forward.directions[atl]))
    assert not {EEG_NAMES[i] for i in field.argmax(axis=0)} & BACK


def test_areas_are_mirrored_between_hemispheres() -> None:
    points, area = source_places()
    for name in AREAS:
        x = points[area == name][:, 0]
        np.testing.assert_allclose(np.sort(x), np.sort(-x))


@pytest.mark.parametrize("seed", range(4))
def test_evoked_response_peaks_over_occipital_channels_at_100_ms(seed: int) -> None:
    world = get_world("standard", signal=0.0, noise=0.0)
    person = electric.electric_subject(
        world, "01", seed, {}, 1, np.arange(1), eeg_forward(), np.arange(63)
    )
    response = (person.activity[0, 0] @ person.basis(0)).reshape(person.shape)
    channel, sample = np.unravel_index(np.abs(response).argmax(), response.shape)
    assert EEG_NAMES[channel] in BACK
    assert response[channel, sample] > 0  # the P1 is a positivity
    assert person.times[sample] == pytest.approx(0.100, abs=0.015)
    loudest = np.sqrt((response**2).mean(axis=0)).max()
    assert loudest == pytest.approx(world.evoked_uv * 1e-6, rel=0.05)


def test_bumps_peak_at_their_latency_and_fall_slowly() -> None:
    times = np.arange(0.0, 0.5, 0.002)
    course = bumps(times, np.array([0.1, 0.3]), np.array([0.02, 0.04]))
    np.testing.assert_allclose(times[course.argmax(axis=1)], [0.1, 0.3])
    assert course[0, 60] > course[0, 40]  # 20 ms after the peak against 20 ms before


def grating(orientation: float, wavelength: float = 5.0) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    wave = torch.cos(2 * np.pi / wavelength * (x * np.cos(orientation) + y * np.sin(orientation)))
    return (0.5 + 0.5 * wave).expand(1, 3, 64, 64)


@pytest.mark.parametrize("index", [0, 2, 5])
def test_early_vision_tells_orientation_and_colour(index: int) -> None:
    features = early.early_features(grating(np.pi * index / early.ORIENTATIONS))
    maps = features.reshape(2 * early.ORIENTATIONS + 3, -1)
    energy = maps[: early.ORIENTATIONS].mean(dim=1)  # the scale of the grating
    assert int(energy.argmax()) == index
    assert energy.max() > 2 * energy.median()
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1.0
    colours = early.early_features(red).reshape(2 * early.ORIENTATIONS + 3, -1)[-2]
    assert torch.allclose(colours, torch.ones_like(colours))


def test_early_vision_is_coarser_in_the_periphery_only_when_foveated() -> None:
    foveated = (early.regions(True) > 0).sum(dim=1)
    assert foveated[0] < foveated[-1]
    assert len(set((early.regions(False) > 0).sum(dim=1).tolist())) <= 4


def some_noise(n_times: int = 12, n_circle: int = 20) -> SpectralNoise:
    rng = np.random.default_rng(0)
    power = rng.random((2, n_circle // 2 + 1)) + 0.05
    power /= power.sum(axis=1, keepdims=True)
    mixing = rng.standard_normal((2, 2, 3, 3))
    spatial = mixing @ mixing.transpose(0, 1, 3, 2) + 0.1 * np.eye(3)
    return SpectralNoise(power, spatial, n_times, n_circle)


@pytest.mark.parametrize("n_circle", [20, 21])
def test_noise_has_the_covariance_that_it_says(n_circle: int) -> None:
    noise = some_noise(n_circle=n_circle)
    weights = np.array([0.7, 0.3])
    signals = np.zeros((40_000, 3, 12), dtype=np.float32)
    noise.add_to(signals, np.tile(weights, (len(signals), 1)), seed=0)
    flat = signals.reshape(len(signals), -1)
    stated = noise.covariance(weights)
    sampled = flat.T @ flat / len(flat)
    scale = np.sqrt(np.outer(stated.diagonal(), stated.diagonal()))
    assert np.abs((sampled - stated) / scale).max() < 6 / np.sqrt(len(flat))


def test_noise_of_sessions_differs_and_rows_draw_their_own() -> None:
    noise = some_noise()
    sessions = np.eye(2)[np.arange(4000) % 2]
    signals = np.zeros((4000, 3, 12), dtype=np.float32)
    noise.add_to(signals, sessions, seed=1)
    for session in range(2):
        spread = signals[session::2].std(axis=(0, 2))
        stated = np.sqrt(np.diagonal(noise.spatial[:, session].sum(axis=0)))
        np.testing.assert_allclose(spread, stated, rtol=0.08)
    again = np.zeros_like(signals)
    noise.add_to(again, sessions, seed=1)
    np.testing.assert_array_equal(signals, again)


def test_solve_inverts_the_dense_covariance() -> None:
    noise = some_noise()
    templates = np.random.default_rng(1).standard_normal((5, 3, 12))
    templates[2] = 0.0
    weights = np.array([0.5, 0.1])
    dense = np.linalg.solve(noise.covariance(weights), templates.reshape(5, -1).T).T
    solved = noise.solve(templates, weights, tolerance=1e-10)
    np.testing.assert_allclose(solved.reshape(5, -1), dense, rtol=1e-6, atol=1e-8)


def test_solve_copes_with_the_units_of_the_standard_world() -> None:
    world = get_world("standard", n_times=40, sfreq=50.0)
    noise = electric.make_noise(world, eeg_forward(), np.random.default_rng(0)).pick(np.arange(4))
    templates = 1e-6 * np.random.default_rng(1).standard_normal((3, 4, 40))
    weights = np.full(4, 0.25)
    dense = np.linalg.solve(noise.covariance(weights), templates.reshape(3, -1).T).T
    gram = dense @ templates.reshape(3, -1).T
    solved = noise.solve(templates, weights).reshape(3, -1) @ templates.reshape(3, -1).T
    np.testing.assert_allclose(solved, gram, rtol=1e-4)


def test_noise_of_the_standard_world_has_its_size_and_spectrum() -> None:
    world = get_world("standard")
    noise = electric.make_noise(world, eeg_forward(), np.random.default_rng(3))
    level = np.sqrt(np.mean(np.trace(noise.spatial.sum(axis=0), axis1=1, axis2=2)) / 63)
    assert level == pytest.approx(world.noise * 1e-6, rel=0.1)
    signals = np.zeros((200, 63, world.n_times), dtype=np.float32)
    noise.add_to(signals, np.tile(np.full(4, 0.25), (200, 1)), seed=0)
    power = (np.abs(np.fft.rfft(signals * np.hanning(world.n_times))) ** 2).mean(axis=(0, 1))
    assert power[2] > 5 * power[40]  # 1/f: 2 Hz against 40 Hz
    assert power[8:13].max() > 1.5 * power[17]  # alpha stands out
    # Neighbours share their noise, distant channels do not.
    stated = noise.spatial.mean(axis=1).sum(axis=0)
    r = stated / np.sqrt(np.outer(stated.diagonal(), stated.diagonal()))
    place = {name: i for i, name in enumerate(EEG_NAMES)}
    assert r[place["O1"], place["Oz"]] > 0.5
    assert abs(r[place["O1"], place["Fp1"]]) < r[place["O1"], place["Oz"]]


def test_voxel_noise_matches_its_covariance_and_inverse() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((2, 6, 6))
    noise = PatternNoise(mixing @ mixing.transpose(0, 2, 1) + np.eye(6))
    weights = np.array([0.2, 0.8])
    signals = np.zeros((30_000, 6), dtype=np.float32)
    noise.add_to(signals, np.tile(weights, (len(signals), 1)), seed=0)
    stated = noise.covariance(weights)
    np.testing.assert_allclose(np.cov(signals.T), stated, atol=0.05 * stated.max())
    templates = rng.standard_normal((4, 6))
    np.testing.assert_allclose(noise.solve(templates, weights) @ stated, templates, atol=1e-10)


def test_voxels_lie_in_their_regions_in_both_hemispheres() -> None:
    table = voxel_table(30)
    assert len(table) == 30 * len(CENTRES)
    assert not table[["x", "y", "z"]].duplicated().any()
    for roi, centre in CENTRES.items():
        inside = table[table[f"roi_{roi}"]]
        distance = np.linalg.norm(inside[["x", "y", "z"]].abs() - np.abs(centre), axis=1)
        assert len(inside) == 30
        assert distance.max() < 20.0
        assert (inside["x"] > 0).any()
        assert (inside["x"] < 0).any()

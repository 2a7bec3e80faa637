"""fMRI responses of one simulated person: voxels in named regions, tuned to features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from phosphene.simulation.components import Features, Population, subject_streams
from phosphene.simulation.noise import PatternNoise
from phosphene.simulation.world import World

VOXEL_MM = 3.0
CENTRES: dict[str, tuple[float, float, float]] = {
    "V1": (8.0, -90.0, 0.0),
    "V2": (15.0, -94.0, 8.0),
    "V3": (24.0, -90.0, 14.0),
    "V4": (30.0, -78.0, -12.0),
    "LOC": (43.0, -74.0, -4.0),
    "FFA": (41.0, -52.0, -18.0),
    "PPA": (26.0, -44.0, -10.0),
}
"""Centres of the right-hemisphere regions in millimetres (x right, y front, z up)."""

TUNING: dict[str, dict[str, float]] = {
    "V1": {"early": 1.0},
    "V2": {"early": 1.0, "object": 0.15},
    "V3": {"early": 0.9, "object": 0.3},
    "V4": {"early": 0.6, "object": 0.8},
    "LOC": {"early": 0.2, "object": 1.0, "meaning": 0.2},
    "FFA": {"object": 0.8, "meaning": 0.6},
    "PPA": {"object": 0.7, "meaning": 0.7},
}
"""Weight of every component's features in each region."""

SUBSPACE = {"FFA": 12, "PPA": 12}  # these regions care about some directions only
NOISE_SHARES = (0.50, 0.40, 0.10)  # independent, smooth in space, common to all voxels


@dataclass(frozen=True, eq=False)
class VoxelSubject:
    """Voxels of one person.

    Parameters
    ----------
    activity : ndarray, shape (levels, stimuli, voxels)
        Response of every voxel without noise.
    noise : PatternNoise
        Noise of a single trial.
    table : pandas.DataFrame
        One row per voxel: x, y, z in millimetres, ``roi_*`` masks, ``noise_ceiling`` (share of a
        single trial's variance that the stimulus explains).
    """

    activity: np.ndarray
    noise: PatternNoise
    table: pd.DataFrame

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one response."""
        return (self.activity.shape[-1],)

    def basis(self, shift: int) -> np.ndarray:
        """Response per unit; a voxel is a unit, and knows no delays of milliseconds."""
        return np.eye(self.activity.shape[-1], dtype=np.float32)


def voxel_subject(
    world: World,
    subject: str,
    seed: int,
    features: Mapping[str, Features],
    n_stimuli: int,
    fit_on: np.ndarray,
) -> VoxelSubject:
    """Draw a person; parameters as in `electric.electric_subject`."""
    table = voxel_table(world.voxels_per_roi)
    activity = np.zeros((len(world.seen), n_stimuli, len(table)), dtype=np.float32)
    own_size = subject_streams(seed, subject, "size")[1]
    size = np.exp(own_size.normal(0.0, world.subject_spread)) * world.signal * world.voxel_signal
    for roi, tuning in TUNING.items():
        parts = [w * features[name].scores for name, w in tuning.items() if name in features]
        if not parts or size == 0:
            continue
        stimulated = np.concatenate(
            [np.broadcast_to(part, (activity.shape[0], *part.shape[1:])) for part in parts], axis=-1
        )
        common, own = subject_streams(seed, subject, roi)
        if roi in SUBSPACE:
            few = common.standard_normal((stimulated.shape[-1], SUBSPACE[roi]))
            stimulated = stimulated @ (few / np.sqrt(stimulated.shape[-1]))
        voxels = np.flatnonzero(table[f"roi_{roi}"])
        population = Population.draw(
            stimulated.shape[-1],
            len(voxels),
            similarity=world.similarity,
            rectified=world.rectified,
            normalisation=world.normalisation,
            common=common,
            own=own,
        )
        response = population.respond(Features(stimulated), fit_on)
        loud = own.normal(-0.5 * world.voxel_spread**2, world.voxel_spread, len(voxels))
        activity[:, :, voxels] = response * (size * np.exp(loud))
    noise = voxel_noise(world, table, subject_streams(seed, subject, "noise")[1])
    share = np.asarray(world.clarity_share)
    explained = np.einsum("l,lnv->nv", share, activity)[fit_on].var(axis=0)
    residual = noise.spatial.mean(axis=0).diagonal()
    table["noise_ceiling"] = explained / np.maximum(explained + residual, 1e-12)
    return VoxelSubject(activity, noise, table)


def voxel_table(per_roi: int) -> pd.DataFrame:
    """Voxels on a grid of 3 mm around each region's two centres, none in two regions.

    Examples
    --------
    >>> table = voxel_table(20)
    >>> len(table), int(table["roi_V1"].sum())
    (140, 20)
    """
    taken: set[tuple[int, int, int]] = set()
    rows: list[tuple[float, float, float, str]] = []
    reach = np.arange(-8, 9)
    offsets = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = offsets[np.argsort((offsets**2).sum(axis=1), kind="stable")]
    for roi, centre in CENTRES.items():
        for sign, wanted in ((1.0, per_roi - per_roi // 2), (-1.0, per_roi // 2)):
            origin = np.round(np.asarray(centre) * (sign, 1.0, 1.0) / VOXEL_MM).astype(int)
            free = (tuple(int(i) for i in origin + offset) for offset in offsets)
            chosen = [place for place in free if place not in taken][:wanted]
            taken.update(chosen)  # type: ignore[arg-type]
            rows += [(*(VOXEL_MM * i for i in place), roi) for place in chosen]  # type: ignore[misc]
    table = pd.DataFrame(rows, columns=["x", "y", "z", "roi"])
    for roi in CENTRES:
        table[f"roi_{roi}"] = table["roi"] == roi
    names = table["roi"] + "_" + (table.groupby("roi").cumcount() + 1).astype(str).str.zfill(4)
    return table.drop(columns="roi").set_axis(pd.Index(names, name="voxel"), axis=0)


def voxel_noise(world: World, table: pd.DataFrame, own: np.random.Generator) -> PatternNoise:
    """Noise of one person: independent, smooth in space, and common to all voxels."""
    places = table[["x", "y", "z"]].to_numpy(dtype=float)
    square = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    single, smooth, common = NOISE_SHARES
    spatial = single * np.eye(len(places)) + common
    spatial += smooth * np.exp(-0.5 * square / max(world.smoothness, 1e-6) ** 2)
    level = np.exp(own.normal(0.0, world.session_spread, world.sessions))
    level /= np.sqrt(np.mean(level**2))
    return PatternNoise(spatial[None] * (world.noise * level[:, None, None]) ** 2)

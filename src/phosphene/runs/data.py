"""Recordings from the section ``data`` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from phosphene.config import (
    LeaveOneOutSplit,
    LeaveOneSubjectOutSplit,
    NiftiData,
    ReaderData,
    Recipe,
    RecordingData,
    Signals,
    SimulatedData,
)
from phosphene.errors import RecipeError
from phosphene.runs.reading import read_recording

if TYPE_CHECKING:
    from phosphene.data.recording import Recording
    from phosphene.simulation.scene import Scene


@dataclass(frozen=True, eq=False)
class Loaded:
    """Recordings with what their kind of data says about them."""

    recordings: tuple[Recording, ...]
    facts: dict[str, Any]
    scene: Scene | None = None
    ceilings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def select_signals(recording: Recording, section: Signals) -> Recording:
    """Cut a recording to the channels, region and time window of a recipe.

    Raises
    ------
    DataError
        If a channel or region does not exist.
    """
    if section.window is not None:
        recording = recording.crop(*section.window)
    if section.roi is not None:
        recording = recording.pick(roi=section.roi)
    if (names := channel_names(section)) is not None:
        recording = recording.pick(names)
    return recording


def channel_names(section: Signals) -> list[str] | None:
    """The channels that a recipe names."""
    if section.channels == "occipito-parietal":
        from phosphene.simulation.sensors import OCCIPITO_PARIETAL

        return list(OCCIPITO_PARIETAL)
    return section.channels


def load_recordings(recipe: Recipe, scene: Scene | None, progress: bool) -> Loaded:
    """Recordings of a recipe: one per subject where each has a decoder of its own."""
    data = recipe.data
    if isinstance(data, SimulatedData):
        return _simulated(recipe, data, scene, progress)
    if isinstance(data, RecordingData):
        return _recorded(recipe, data)
    if isinstance(data, ReaderData):
        return _read(recipe, data)
    assert isinstance(data, NiftiData)
    return _nifti(recipe, data)


def _simulated(recipe: Recipe, data: SimulatedData, scene: Scene | None, progress: bool) -> Loaded:
    from phosphene.evaluation.noise_ceiling import noise_ceiling
    from phosphene.simulation.study import simulate
    from phosphene.simulation.world import get_world

    if data.averaged and recipe.evaluation.repetitions != "all":
        raise RecipeError(
            "evaluation.repetitions needs single trials",
            found=f"{recipe.evaluation.repetitions}, with data.averaged: true",
            fix="set data.averaged: false, or choose data.test_repetitions",
        )
    params = {k: tuple(v) if isinstance(v, list) else v for k, v in data.params.items()}
    world = get_world(data.world, **params)
    study = simulate(
        world,
        subjects=data.subjects,
        seed=recipe.seed if data.seed is None else data.seed,
        scene=scene,
        channels=channel_names(data),
        train_repetitions=data.train_repetitions,
        test_repetitions=data.test_repetitions,
        averaged=data.averaged,
        progress=progress,
    )
    rest = data.model_copy(update={"channels": None})
    recordings = [select_signals(r, rest) for r in study.recordings.values()]
    ceilings = {}
    whole = rest.window is None and rest.roi is None
    repetitions = recipe.evaluation.repetitions
    if whole:
        count = data.test_repetitions if repetitions == "all" else repetitions
        for subject, truth in study.truth.items():
            ceilings[subject] = {f"top{k}": noise_ceiling(truth, count, k=k) for k in (1, 5)}
    facts = {
        "dataset": f"simulated world {world.name!r}",
        "dataset_version": f"v{world.version} {world.hash[:12]}",
        "simulated": True,
        "world": world.name,
    }
    return Loaded(tuple(_by_subject(recipe, recordings)), facts, study.scene, ceilings)


def _recorded(recipe: Recipe, data: RecordingData) -> Loaded:
    paths = data.path if isinstance(data.path, list) else [data.path]
    parts = [read_recording(p, stimulus=data.stimulus, concept=data.concept) for p in paths]
    parts = [select_signals(part, data) for part in parts]
    return Loaded(tuple(_by_subject(recipe, parts)), {"dataset": recipe.name, "simulated": False})


def _read(recipe: Recipe, data: ReaderData) -> Loaded:
    from phosphene.runs.readers import read_people

    parts = [select_signals(part, data) for part in read_people(data, channel_names(data))]
    return Loaded(tuple(_by_subject(recipe, parts)), {"dataset": data.reader, "simulated": False})


def _nifti(recipe: Recipe, data: NiftiData) -> Loaded:
    from phosphene.data.preprocess.averaging import BlockAverage
    from phosphene.data.preprocess.voxels import DetrendZScore
    from phosphene.data.readers.nifti import read_nifti

    recording = read_nifti(
        data.bold,
        data.mask,
        data.labels,
        subject=data.subject,
        tr=data.tr,
        concepts=data.concepts,
        name=recipe.name,
    )
    steps = data.preprocess
    if steps.detrend or steps.zscore is not None:
        step = DetrendZScore(detrend=steps.detrend, zscore=steps.zscore is not None)
        recording = step.transform(recording)
    if steps.block_average is not None:
        block = BlockAverage(steps.block_average.shift_trs, tuple(steps.block_average.drop))
        recording = block.transform(recording)
    return Loaded((select_signals(recording, data),), {"dataset": recipe.name, "simulated": False})


def _by_subject(recipe: Recipe, parts: Sequence[Recording]) -> list[Recording]:
    """One recording per subject if each has a decoder of its own, else one for all."""
    from phosphene.data.recording import Recording

    together = not recipe.per_subject or across_subjects(recipe)
    people = [name for part in parts for name in part.subjects]
    if not together and len(people) == len(set(people)) == len(parts):
        return list(parts)  # one each already: no copy of all signals
    whole = parts[0] if len(parts) == 1 else Recording.concat(list(parts))
    if together or len(whole.subjects) == 1:
        return [whole]
    return [whole.select(subject=name) for name in whole.subjects]


def across_subjects(recipe: Recipe) -> bool:
    """Whether folds hold out whole subjects, so that they are trained together."""
    split = recipe.split
    if isinstance(split, LeaveOneSubjectOutSplit):
        return True
    return isinstance(split, LeaveOneOutSplit) and split.column == "subject"

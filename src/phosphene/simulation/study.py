"""A simulated study: recordings of several people, with the truth that made them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from phosphene import _random
from phosphene.data.recording import Recording, Sensors
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, UnknownNameError, listing
from phosphene.simulation.design import Design, States, draw_states, make_design
from phosphene.simulation.ecog import (
    ecog_sensors,
    ecog_subject,
    electrodes,
    require_rate,
    voltages,
)
from phosphene.simulation.electric import electric_subject
from phosphene.simulation.meg import meg_forward, meg_info
from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.sensors import eeg_forward
from phosphene.simulation.synthesis import (
    Noise,
    Person,
    averaged_table,
    averages,
    expected,
    session_weights,
    single_trials,
)
from phosphene.simulation.voxels import VoxelSubject, voxel_subject
from phosphene.simulation.world import World, WorldModality, get_world, in_modality
from phosphene.stimuli.bank import FeatureBank


@dataclass(frozen=True, eq=False)
class SubjectTruth:
    """What made one recording.

    Parameters
    ----------
    stimuli : tuple of str
        Test stimuli, in the order of the templates.
    templates : ndarray, shape (stimuli, *response)
        Expected response to each test stimulus, over all states of the person. For ECoG in volts,
        of the logarithm of high-gamma power, which the volts carry; an observer of that power
        bounds every observer of the volts.
    trials : pandas.DataFrame
        Every single trial, also of a recording of averages: stimulus, session, ``clarity`` (level,
        0 the clearest), ``gain``, ``delay`` (seconds).
    noise : Noise
        Noise of single trials by session.
    sessions : int
        Number of sessions.
    """

    stimuli: tuple[str, ...]
    templates: np.ndarray
    trials: pd.DataFrame
    noise: Noise
    sessions: int

    def covariance(self, repetitions: int = 1) -> np.ndarray:
        """Noise covariance of an average spread evenly over sessions, flattened response."""
        return self.noise.covariance(self._weights(repetitions))

    def filters(self, repetitions: int = 1) -> np.ndarray:
        """Inverse noise covariance times the templates: the ideal observer's filters."""
        return repetitions * self._single_trial_filters

    @functools.cached_property
    def _single_trial_filters(self) -> np.ndarray:
        return self.noise.solve(self.templates, self._weights(1))

    def _weights(self, repetitions: int) -> np.ndarray:
        return np.full(self.sessions, 1.0 / (self.sessions * repetitions))


@dataclass(frozen=True, eq=False)
class Study:
    """Simulated recordings with the pictures, the features and the truth.

    Parameters
    ----------
    world : World
        Parameters.
    seed : int
        Seed of people, trials and noise.
    recordings : mapping of str to Recording
        By subject; the column ``split`` tells training from test trials.
    scene : Scene
        Pictures and features.
    truth : mapping of str to SubjectTruth
        By subject.
    """

    world: World
    seed: int
    recordings: Mapping[str, Recording]
    scene: Scene
    truth: Mapping[str, SubjectTruth]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects."""
        return tuple(self.recordings)

    @property
    def stimuli(self) -> StimulusSet | None:
        """The pictures, unless the study was simulated from features alone."""
        return self.scene.stimuli

    @property
    def bank(self) -> FeatureBank:
        """Features for decoders."""
        return self.scene.bank

    @property
    def text(self) -> FeatureBank | None:
        """Text vectors by concept."""
        return self.scene.text

    def train(self, subject: str) -> Recording:
        """Training trials of a subject."""
        return self.recordings[subject].select(split="train")

    def test(self, subject: str) -> Recording:
        """Test trials of a subject."""
        return self.recordings[subject].select(split="test")


def simulate(
    world: str | World = "standard",
    *,
    modality: WorldModality | None = None,
    subjects: int | Sequence[str] = 1,
    seed: int = 0,
    stimuli: StimulusSet | None = None,
    bank: FeatureBank | None = None,
    early: FeatureBank | None = None,
    text: FeatureBank | None = None,
    scene: Scene | None = None,
    channels: Sequence[str] | None = None,
    train_repetitions: int | None = None,
    test_repetitions: int | None = None,
    averaged: bool = False,
    progress: bool = True,
) -> Study:
    """Simulate a study.

    Parameters
    ----------
    world : str or World
        What is simulated.
    modality : {"eeg", "meg", "ecog", "fmri"}, optional
        Measure the world with something else, see `in_modality`; by default what it says.
    subjects : int or sequence of str
        Number of subjects ("01", "02", ...), or their names. A subject is the same whoever else is
        simulated.
    seed : int
        Seed of people, trials and noise; the pictures belong to the world.
    stimuli, bank, early, text
        Pictures and features to use instead of the world's own, see `make_scene`.
    scene : Scene, optional
        Pictures and features made before, e.g. ``other_study.scene``.
    channels : sequence of str, optional
        Channels that are recorded, e.g. ``OCCIPITO_PARIETAL`` or ``meg_names("mag")``; all when not
        given.
    train_repetitions, test_repetitions : int, optional
        Trials per stimulus; the world's own numbers when not given.
    averaged : bool
        Give one average per stimulus instead of single trials. Averages are drawn directly, with
        the states of the same single trials and noise of the covariance that averaging leaves.
        Volts of ECoG are refused: their power does not survive averaging.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Study
    """
    world = get_world(world)
    if modality is not None:
        world = in_modality(world, modality)
    volts = world.modality == "ecog" and world.ecog_signal == "voltage"
    if volts:
        require_rate(world)
    if volts and averaged:
        raise DataError(
            "averaging volts over trials would take away the power that they carry",
            fix='simulate single trials and apply HighGamma, or take ecog_signal="power"',
        )
    if train_repetitions is None:
        train_repetitions = world.train_repetitions
    if test_repetitions is None:
        test_repetitions = world.test_repetitions
    if train_repetitions < 1 or test_repetitions < 1:
        raise DataError(
            "every stimulus is shown at least once",
            found=f"{train_repetitions} training and {test_repetitions} test repetitions",
        )
    if scene is None:
        scene = make_scene(
            world, stimuli=stimuli, bank=bank, early=early, text=text, progress=progress
        )
    names = _subject_names(subjects)
    recordings: dict[str, Recording] = {}
    truth: dict[str, SubjectTruth] = {}
    for subject in names:
        person, sensors, times = _person(world, subject, seed, scene, channels)
        design = make_design(world, scene.table, subject, seed, train_repetitions, test_repetitions)
        states = draw_states(world, len(design.stimulus), subject, seed)
        recordings[subject] = _record(
            world, person, sensors, times, design, states, scene, subject, seed, averaged
        )
        truth[subject] = SubjectTruth(
            tuple(scene.table.index[scene.test]),
            expected(person, world, scene.test),
            _trial_states(world, design, states),
            person.noise,
            world.sessions,
        )
    return Study(world, seed, recordings, scene, truth)


def _subject_names(subjects: int | Sequence[str]) -> list[str]:
    if isinstance(subjects, int):
        names = [f"{i + 1:02d}" for i in range(subjects)]
    else:
        names = [subjects] if isinstance(subjects, str) else [str(name) for name in subjects]
    if not names or len(set(names)) < len(names):
        raise DataError("subjects must be named, each once", found=listing(names) or "none")
    return names


def _person(
    world: World, subject: str, seed: int, scene: Scene, channels: Sequence[str] | None
) -> tuple[Person, Sensors, np.ndarray | None]:
    if world.modality == "fmri":
        voxels = voxel_subject(world, subject, seed, scene.features, len(scene.table), scene.train)
        return _pick_voxels(voxels, channels)
    fixed = (scene.features, len(scene.table), scene.train)
    if world.modality == "ecog":
        names, places = electrodes(subject, seed)
        rows = _rows(channels, names)
        person = ecog_subject(world, subject, seed, *fixed, places)
        # Channels are picked after drawing, so that each is the same whichever others there are.
        person = dataclasses.replace(
            person, topography=person.topography[rows], noise=person.noise.pick(rows)
        )
        names = tuple(names[row] for row in rows)
        return person, ecog_sensors(names, places[rows], world.sfreq), person.times
    forward = meg_forward() if world.modality == "meg" else eeg_forward()
    rows = _rows(channels, forward.names)
    names = tuple(forward.names[row] for row in rows)
    if world.modality == "meg":
        person = electric_subject(world, subject, seed, *fixed, forward, rows, eeg_forward())
        return person, Sensors("meg", names, meg_info(world.sfreq, names)), person.times
    person = electric_subject(world, subject, seed, *fixed, forward, rows)
    return person, Sensors.eeg(names, world.sfreq), person.times


def _pick_voxels(
    person: VoxelSubject, channels: Sequence[str] | None
) -> tuple[Person, Sensors, None]:
    table = person.table
    if channels is not None:
        rows = _rows(channels, tuple(table.index))
        table = table.iloc[rows]
        noise = dataclasses.replace(person.noise, spatial=person.noise.spatial[:, rows][:, :, rows])
        person = VoxelSubject(person.activity[:, :, rows], noise, table)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    return person, Sensors("fmri", tuple(table.index), None, table, affine), None


def _rows(channels: Sequence[str] | None, known: tuple[str, ...]) -> np.ndarray:
    if channels is None:
        return np.arange(len(known))
    place = {name: row for row, name in enumerate(known)}
    missing = [name for name in channels if name not in place]
    if missing:
        raise UnknownNameError(
            f"the simulated sensors do not have {listing(missing)}",
            expected=listing(known, limit=len(known) if len(known) < 100 else 8),
        )
    return np.asarray([place[name] for name in channels])


def _record(
    world: World,
    person: Person,
    sensors: Sensors,
    times: np.ndarray | None,
    design: Design,
    states: States,
    scene: Scene,
    subject: str,
    seed: int,
    averaged: bool,
) -> Recording:
    if averaged:
        signals = averages(person, design, states)
        sessions = session_weights(design, len(scene.table), world.sessions)
        trials = averaged_table(scene.table, design, subject)
    else:
        signals = single_trials(person, design, states)
        sessions = np.eye(world.sessions)[design.session]
        trials = design.table
    if world.noise > 0:
        kind = "averages" if averaged else "trials"
        stream = _random.derive(seed, "simulation", "subject", subject, "noise", kind)
        person.noise.add_to(signals, sessions, stream)
    if world.modality == "ecog" and world.ecog_signal == "voltage":
        stream = _random.derive(seed, "simulation", "subject", subject, "volts")
        signals = voltages(signals, world.sfreq, stream)
    timing: dict[str, Any] = {} if times is None else {"times": times, "sfreq": world.sfreq}
    recording = Recording.from_arrays(
        signals,
        trials,
        sensors=sensors,
        modality=world.modality,
        name=f"simulated {world.name} v{world.version}, subject {subject}",
        check=False,  # without signal and noise, voxels are constant, and that is right
        **timing,
    )
    # Every result reads this entry and says that its data are simulated.
    return recording.with_history(
        {"op": "simulate", "world": world.name, "version": world.version, "hash": world.hash}
    )


def _trial_states(world: World, design: Design, states: States) -> pd.DataFrame:
    table = design.table[["stimulus", "session", "run", "repetition", "split"]].copy()
    table["clarity"] = states.level
    table["gain"] = states.gain
    table["delay"] = states.shift / world.sfreq
    return table

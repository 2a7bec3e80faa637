"""HeldOut: test trials behind a handle that counts who looked."""

from __future__ import annotations

import pandas as pd

from phosphene._logging import get_logger
from phosphene.data.recording import Recording
from phosphene.errors import DataError

logger = get_logger(__name__)


class HeldOut:
    """A test recording whose signals are reached only through `open`, which is counted.

    What was shown may be read freely: galleries and splits need it. The count goes into the
    protocol of every result.

    Parameters
    ----------
    recording : Recording
        Test trials; their ``split`` is set to "test".

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(2, 3, 5))
    >>> held = HeldOut(Recording.from_arrays(x, {"stimulus": ["a", "b"]}, sfreq=100))
    >>> held.opened, held.open("evaluate ridge").n_trials, held.opened
    (0, 2, 1)
    """

    def __init__(self, recording: Recording) -> None:
        if recording.n_trials == 0:
            raise DataError("a test recording has no trials")
        trials = recording.trials
        if not (trials["split"] == "test").all():
            trials["split"] = pd.Series(["test"] * len(trials), dtype="str")
            recording = recording.with_trials(trials)
        self._recording = recording
        self.purposes: list[str] = []

    def open(self, purpose: str) -> Recording:
        """The test recording; the purpose is noted and counted."""
        self.purposes.append(str(purpose))
        logger.info("test data %r opened for: %s (no. %d)", self.name, purpose, self.opened)
        return self._recording

    @property
    def opened(self) -> int:
        """How often the signals were asked for."""
        return len(self.purposes)

    @property
    def trials(self) -> pd.DataFrame:
        """The table of test trials."""
        return self._recording.trials

    @property
    def n_trials(self) -> int:
        """Number of test trials."""
        return self._recording.n_trials

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the test signals."""
        return self._recording.shape

    @property
    def stimuli(self) -> list[str]:
        """Ids of the test stimuli, each once."""
        return self._recording.stimuli

    @property
    def concepts(self) -> list[str]:
        """Test concepts, each once."""
        return self._recording.concepts

    @property
    def subjects(self) -> list[str]:
        """Ids of the people, each once."""
        return self._recording.subjects

    @property
    def name(self) -> str:
        """Name of the recording."""
        return self._recording.name

    def __len__(self) -> int:
        return self.n_trials

    def __repr__(self) -> str:
        return (
            f"HeldOut({self.name}: {self.n_trials} trials, {len(self.stimuli)} stimuli, "
            f"{len(self.concepts)} concepts, opened {self.opened} times)"
        )

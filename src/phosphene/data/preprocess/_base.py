"""What all preprocessing steps share: they remember what they saw, and never learn from a test."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator

from phosphene._validation import refuse_test_trials
from phosphene.data.recording import Recording
from phosphene.data.sketches import sketch_trials
from phosphene.errors import DataError, NotFittedError


class Transform(BaseEstimator):  # type: ignore[misc]
    """A step that learns from training trials and is then applied to any trials.

    A subclass stores its parameters in the constructor, sets ``step`` and implements ``_fit`` and
    ``_transform``. Every application is written into the recording's history.

    Attributes
    ----------
    fitted_on_ : str
        Fingerprint of the recording that it was fitted on.
    fitted_trials_ : dict
        Sketches of the trials that it was fitted on (`phosphene.data.sketches`), by which an audit
        tells whether test trials were among them.
    """

    step: ClassVar[str]

    def fit(self, recording: Recording) -> Self:
        """Learn from training trials.

        Raises
        ------
        LeakError
            If a trial's ``split`` is "test".
        DataError
            If there are no trials.
        """
        refuse_test_trials(recording.trials, f"{type(self).__name__}.fit")
        if not recording.n_trials:
            raise DataError(
                f"{type(self).__name__}.fit was given no trials", fix="look at what was selected"
            )
        self._fit(recording)
        self.fitted_on_ = recording.fingerprint
        self.fitted_trials_ = sketch_trials(recording.trials)
        return self

    def transform(self, recording: Recording) -> Recording:
        """Apply the step and note it in the history.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        """
        if not hasattr(self, "fitted_on_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet",
                fix="call fit(training recording) first, or fit_transform",
            )
        params = {k: list(v) if isinstance(v, tuple) else v for k, v in self.get_params().items()}
        entry = {"op": self.step, **params, "fitted_on": self.fitted_on_}
        if (seen := getattr(self, "fitted_trials_", None)) is not None:
            entry["fitted_trials"] = seen
        return self._transform(recording, entry)

    def fit_transform(self, recording: Recording) -> Recording:
        """Fit on a training recording and apply to the same."""
        return self.fit(recording).transform(recording)

    def _fit(self, recording: Recording) -> None:
        raise TypeError(f"{type(self).__name__} does not say what it learns")

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        """Apply the step; ``op`` is the entry for the history of what is returned."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


class WithinRun(Transform):
    """A step that treats every run by itself and learns nothing that passes between runs.

    It may be applied to test runs as they are: no statistic of one run reaches another one, and
    labels of test runs decide nothing but which volumes are averaged. ``fit`` exists for pipelines
    and may be left out. Statistics over a whole run do include its later trials: a test run is
    standardised by itself, the usual convention of the field, and the history says so.
    """

    fitted_on_ = "each run by itself, test runs included"

    def fit(self, recording: Recording) -> Self:
        """Do nothing: every run is treated by itself."""
        return self

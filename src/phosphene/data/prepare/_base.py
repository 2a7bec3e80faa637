"""What preparations share: a frozen dataclass of settings that knows subjects and makes parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from phosphene import _registry
from phosphene.data.finding import Source, find_sources
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing


class Preparer(Protocol):
    """Settings of a preparation, and how it is done for one person.

    A preparer is a frozen dataclass registered as ``register("preparer", name)``; its fields are
    what ``--set key=value`` may say.
    """

    def subjects(self, root: Path) -> list[str]:
        """Ids of the people whose files are there."""
        ...

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Recordings to save, by the name of their folder ("train", "test")."""
        ...


@dataclasses.dataclass(frozen=True)
class FromReader:
    """A preparation that begins with a registered reader, one person at a time."""

    reader: ClassVar[str]

    def subjects(self, root: Path) -> list[str]:
        """Ids of the people whose files are there."""
        return [subject_of(source) for source in self.sources(root)]

    def sources(self, root: Path, subject: str | None = None) -> list[Source]:
        """What there is to read of one or of all people."""
        wanted = None if subject is None else [subject]
        return find_sources(root, reader=self.reader, subjects=wanted)

    def read(self, root: Path, subject: str, **options: Any) -> Recording:
        """The recording of one person."""
        (source,) = self.sources(root, subject)
        read = _registry.get("reader", self.reader)
        recording: Recording = read(**{**source.arguments, **options})
        return recording


def subject_of(source: Source) -> str:
    """Id of the person of a source, with two digits where it is a number."""
    subject = source.arguments.get("subject", "01")
    return f"{int(subject):02d}" if str(subject).isdigit() else str(subject)


def train_and_test(recording: Recording) -> tuple[Recording, Recording | None]:
    """The training trials, and the test trials if there are any.

    Raises
    ------
    DataError
        If there are test trials only.
    """
    marks = recording.trials["split"]
    test = (marks == "test").to_numpy()
    if test.all():
        raise DataError(
            f"{recording.name} has test trials only", fix="read the training part as well"
        )
    return recording.select(~test), recording.select(test) if test.any() else None


def fitted_on_train(recording: Recording, steps: Sequence[Any]) -> Iterator[tuple[str, Recording]]:
    """Training and test part after steps that learn from the training part only."""
    train, test = train_and_test(recording)
    for step in steps:
        train = step.fit(train).transform(train)
        test = None if test is None else step.transform(test)
    yield "train", train
    if test is not None:
        yield "test", test


def baseline_zscore(recording: Recording, until: float = 0.0) -> Recording:
    """Each channel of each trial in standard deviations of its baseline.

    ``(x - m) / d`` with mean and standard deviation (divisor n) of the samples before ``until``.

    Raises
    ------
    DataError
        If there is no baseline, or a channel is constant over one.
    """
    times = recording.times
    before = np.zeros(0, dtype=bool) if times is None else times < until
    if before.sum() < 2:
        raise DataError(
            "there is no baseline to standardise with",
            found="no time axis" if times is None else f"times from {times[0]:g} s",
            expected=f"two or more samples before {until:g} s",
        )
    out = np.empty(recording.shape, dtype=np.float32)
    for start in range(0, recording.n_trials, 256):
        part = slice(start, min(start + 256, recording.n_trials))
        values = recording.take(part).astype(np.float64)
        base = values[:, :, before]
        spread = base.std(axis=2, keepdims=True)
        if (spread == 0).any():
            channel = recording.channel_names[int(np.argwhere(spread == 0)[0][1])]
            raise DataError(f"channel {channel!r} is constant over the baseline of a trial")
        out[part] = (values - base.mean(axis=2, keepdims=True)) / spread
    return recording.with_signals(out, op={"op": "baseline_zscore", "until": until})


def in_dtype(recording: Recording, dtype: str) -> Recording:
    """The recording with float32 or float16 values; float16 only where nothing is lost by it.

    Raises
    ------
    DataError
        If values are too large or too small for float16.
    """
    if dtype not in ("float32", "float16"):
        raise DataError("dtype is another", found=dtype, expected="float32 or float16")
    if str(recording.dtype) == dtype:
        return recording
    signals = np.asarray(recording.signals)
    if dtype == "float16":
        spread, top = float(signals.std()), float(np.abs(signals).max())
        if spread < 1e-2 or not top < 6e4:
            raise DataError(
                "float16 cannot hold these values",
                found=f"standard deviation {spread:.3g}, maximum {top:.3g}",
                fix="standardise or whiten first, or keep dtype=float32",
            )
    return recording.with_signals(signals.astype(dtype), op={"op": "convert", "dtype": dtype})


def settings_of(preparer: Any) -> dict[str, Any]:
    """Settings of a preparer, by name."""
    return dict(dataclasses.asdict(preparer))


def with_settings(name: str, settings: Mapping[str, Any]) -> Any:
    """A registered preparer with some settings of one's own.

    Raises
    ------
    DataError
        If a setting is unknown; the nearest is named.
    UnknownNameError
        If there is no such preparer.
    """
    kind = _registry.get("preparer", name)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in settings:
        if key not in known:
            raise DataError(
                f"the preparation of {name} has no setting {key!r}",
                expected=listing(known, 30) or "none",
                fix=_registry.did_you_mean(key, known),
            )
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise DataError(f"the settings of {name} cannot be used", found=error) from error

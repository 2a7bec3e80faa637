"""How a number came about: the protocol that travels with every result."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from phosphene.errors import DataError

UNKNOWN = "unknown"
# What decides a number most; the rest is in the table of the report.
_CAPTION = (
    "dataset", "modality", "time_window", "test_repetitions", "split_rule", "zero_shot", "gallery",
    "gallery_size", "uses_names", "selection",
)  # fmt: skip
_PACKAGES = ("phosphene", "numpy", "scipy", "pandas", "scikit-learn", "torch", "mne")


# How two values of a field become one when results are merged.
_MERGE: dict[str, Callable[[Any, Any], Any]] = {
    "unknown": lambda here, there: None,
    "unite": lambda here, there: tuple(dict.fromkeys([*here, *there])),
    "most": max,
    "sum": lambda here, there: here + there,
}


def _known(
    group: str,
    label: str,
    unit: str = "",
    *,
    essential: bool = False,
    merge: str = "unknown",
    default: Any = None,
) -> Any:
    """A field that is unknown until someone says otherwise."""
    info = {"group": group, "label": label, "unit": unit, "essential": essential, "merge": merge}
    return field(default=default, metadata=info)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that decides what a score means; None stands for unknown.

    Results may be put side by side when the fields marked essential agree
    (:meth:`differences`). What would mislead a reader who sees only the number is a watermark
    (:meth:`watermarks`).

    Examples
    --------
    >>> protocol = Protocol(method="ridge", selection="test", gallery="exact", gallery_size=200)
    >>> protocol.watermarks()
    ['the model was selected on test data']
    >>> Protocol.from_dict(protocol.to_dict()) == protocol
    True
    """

    # what was recorded
    dataset: str | None = _known("data", "dataset", essential=True)
    dataset_version: str | None = _known("data", "dataset version", essential=True)
    simulated: bool | None = _known("data", "simulated", essential=True)
    world: str | None = _known("data", "simulated world", essential=True)
    modality: str | None = _known("data", "modality", essential=True)
    subjects: tuple[str, ...] | None = _known("data", "subjects", merge="unite")
    sessions: tuple[str, ...] | None = _known("data", "sessions", merge="unite")
    n_channels: int | None = _known("data", "channels or voxels")
    channels: tuple[str, ...] | None = _known("data", "channel names")
    rois: tuple[str, ...] | None = _known("data", "regions of interest")
    time_window: tuple[float, float] | None = _known("data", "time window", "s", essential=True)
    sfreq: float | None = _known("data", "sampling rate", "Hz")
    # what was done to it
    preprocessing: tuple[str, ...] | None = _known("preprocessing", "operations")
    whitening: str | None = _known("preprocessing", "whitening")
    whitening_fitted_on: str | None = _known("preprocessing", "whitening fitted on", essential=True)
    train_repetitions: int | None = _known("preprocessing", "repetitions averaged in training")
    test_repetitions: int | None = _known(
        "preprocessing", "repetitions averaged at test", essential=True
    )
    # training and test
    split_rule: str | None = _known("split", "split rule", essential=True)
    split_kind: str | None = _known("split", "held out", essential=True)
    zero_shot: bool | None = _known("split", "zero-shot", essential=True)
    n_train_trials: int | None = _known("split", "training trials")
    n_train_stimuli: int | None = _known("split", "training stimuli")
    n_train_concepts: int | None = _known("split", "training concepts")
    validation: str | None = _known("split", "validation")
    train_fingerprint: str | None = _known("split", "fingerprint of the training data")
    test_fingerprint: str | None = _known("split", "fingerprint of the test data")
    test_openings: int | None = _known("split", "times the test data was opened", merge="most")
    nearest_training_cosine: float | None = _known(
        "split", "highest similarity of a test image to a training image", "cosine", merge="most"
    )
    # what is compared with what
    direction: str | None = _known("scoring", "direction", essential=True)
    gallery: str | None = _known("scoring", "gallery", essential=True)
    gallery_size: int | None = _known("scoring", "gallery size", essential=True)
    gallery_view: str | None = _known("scoring", "gallery view", essential=True)
    uses_names: bool | None = _known("scoring", "uses names of the gallery", essential=True)
    score: str | None = _known("scoring", "score")
    transductive: tuple[str, ...] | None = _known(
        "scoring", "transductive operations", essential=True
    )
    uses_test_labels: bool | None = _known("scoring", "uses test labels", essential=True)
    image_encoder: str | None = _known("features", "image encoder", essential=True)
    image_encoder_hash: str | None = _known("features", "image encoder weights")
    text_encoder: str | None = _known("features", "text encoder")
    text_encoder_hash: str | None = _known("features", "text encoder weights")
    layer: str | None = _known("features", "layer", essential=True)
    views: tuple[str, ...] | None = _known("features", "views in training")
    bank: str | None = _known("features", "hash of the training bank")
    gallery_bank: str | None = _known("features", "hash of the gallery's bank")
    # the model
    method: str | None = _known("model", "method")
    selection: str | None = _known("model", "selection rule", essential=True)
    seeds: tuple[int, ...] | None = _known("model", "seeds", merge="unite")
    # where it ran
    library_version: str | None = _known("run", "phosphene")
    git_commit: str | None = _known("run", "git commit")
    device: str | None = _known("run", "device")
    precision: str | None = _known("run", "precision")
    wall_seconds: float | None = _known("run", "wall time", "s", merge="sum")
    date: str | None = _known("run", "date")
    notes: tuple[str, ...] = _known("run", "notes", merge="unite", default=())

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if "tuple" in str(item.type) and value is not None:
                if isinstance(value, str):
                    value = (value,)
                object.__setattr__(self, item.name, tuple(value))

    def replace(self, **changes: Any) -> Protocol:
        """A copy with some fields set."""
        self._refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; unknown fields are None."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The inverse of :meth:`to_dict`.

        Raises
        ------
        DataError
            If a key is not a field of the protocol.
        """
        cls._refuse_unknown(values)
        return cls(**values)

    @classmethod
    def _refuse_unknown(cls, values: Mapping[str, Any]) -> None:
        known = {item.name for item in fields(cls)}
        if extra := sorted(set(values) - known):
            raise DataError(
                f"a protocol has no field {', '.join(extra)}",
                expected="one of " + ", ".join(sorted(known)),
                fix="put free text into notes",
            )

    def lines(self, *, unknown: bool = True) -> list[str]:
        """Human-readable ``label: value`` lines; ``unknown=False`` leaves out what is unknown."""
        return [
            f"{label}: {value}" for _, label, value in self.rows() if unknown or value != UNKNOWN
        ]

    def rows(self) -> list[tuple[str, str, str]]:
        """Human-readable rows (group, label, value); what is unknown says so."""
        return [
            (
                item.metadata["group"],
                item.metadata["label"],
                readable(getattr(self, item.name), item.metadata["unit"]),
            )
            for item in fields(self)
        ]

    def watermarks(self) -> list[str]:
        """What a reader must know before believing the number, worst first."""
        marks = []
        if self.uses_test_labels:
            marks.append("the true answers of the test set entered the scores")
        if self.selection == "test":
            marks.append("the model was selected on test data")
        if self.transductive:
            marks.append(
                "transductive: scores use the other test queries ("
                + ", ".join(self.transductive)
                + ")"
            )
        if self.test_openings is not None and self.test_openings > 1:
            marks.append(f"the test data was opened {self.test_openings} times")
        if self.zero_shot is False:
            marks.append("not zero-shot: test concepts may occur in training")
        if self.gallery == "concept_centre":
            marks.append("the gallery holds class centres, not the exact images")
        if self.gallery == "augmented":
            marks.append("the gallery is augmented")
        if self.uses_names:
            marks.append("the scores use the names of the candidates")
        if self.simulated:
            marks.append("simulated data: these are not measurements of a brain")
        return marks

    def caption(self) -> str:
        """What a figure of scores must say below it, in one line; what is unknown is left out.

        Examples
        --------
        >>> Protocol(dataset="demo", gallery="exact", gallery_size=200, zero_shot=True).caption()
        'Protocol: dataset demo; zero-shot yes; gallery exact; gallery size 200; scoring inductive.'
        """
        said = [
            f"{label} {readable(getattr(self, name), unit)}"
            for name, label, unit in (
                (item.name, item.metadata["label"], item.metadata["unit"])
                for item in fields(self)
                if item.name in _CAPTION
            )
            if getattr(self, name) is not None
        ]
        return "Protocol: " + "; ".join([*said, f"scoring {self.scoring}"]) + "."

    @property
    def scoring(self) -> str:
        """Which column of a table a score belongs in: scores of one kind only may share it."""
        marks = ["oracle: uses test labels"] if self.uses_test_labels else []
        if self.transductive:
            marks.append("transductive: " + " + ".join(self.transductive))
        return "; ".join(marks) or "inductive"

    def differences(self, other: Protocol, *, essential: bool = True) -> dict[str, tuple[Any, Any]]:
        """Fields that differ, as name -> (here, there).

        Parameters
        ----------
        other : Protocol
            What to compare with.
        essential : bool
            Only the fields that must agree before two scores may be compared; otherwise all.
        """
        here, there = self.without_subject(), other.without_subject()
        return {
            item.name: (getattr(here, item.name), getattr(there, item.name))
            for item in fields(self)
            if (item.metadata["essential"] or not essential)
            and getattr(here, item.name) != getattr(there, item.name)
        }

    def without_subject(self) -> Protocol:
        """The same protocol where the dataset's name does not end in its only subject."""
        if self.dataset is None or self.subjects is None or len(self.subjects) != 1:
            return self
        ending = rf"[\s,;:_/-]*\b(subject|subj|sub)[\s_-]*{re.escape(self.subjects[0])}$"
        name = re.sub(ending, "", self.dataset, flags=re.IGNORECASE)
        return self if name in ("", self.dataset) else self.replace(dataset=name)

    def merge(self, other: Protocol) -> Protocol:
        """The protocol of both results together: lists are united, what varies becomes unknown.

        Recordings of single subjects may carry the subject at the end of their name ("study,
        subject 01"); the protocol of several subjects names the study only.

        Raises
        ------
        DataError
            If an essential field differs, as the scores then do not mean the same.
        """
        if differ := self.differences(other):
            name, (here, there) = next(iter(differ.items()))
            raise DataError(
                f"results of different protocols cannot be merged: {', '.join(differ)} differ",
                found=f"{name}: {readable(there)}",
                expected=f"{name}: {readable(here)}",
                fix="keep them as separate results and compare them with Protocol.differences",
            )
        if self.subjects != other.subjects:
            self, other = self.without_subject(), other.without_subject()
        values: dict[str, Any] = {}
        for item in fields(self):
            here, there = getattr(self, item.name), getattr(other, item.name)
            if here == there:
                values[item.name] = here
            elif here is None or there is None:
                values[item.name] = None
            else:
                values[item.name] = _MERGE[item.metadata["merge"]](here, there)
        return Protocol(**values)

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><td>{escape(group)}</td><td>{escape(label)}</td><td>{escape(value)}</td></tr>"
            for group, label, value in self.rows()
            if value != UNKNOWN
        )
        marks = "".join(f"<p><b>&#9888; {escape(mark)}</b></p>" for mark in self.watermarks())
        return f"{marks}<table>{rows}</table>"


def environment() -> dict[str, str]:
    """Versions of Python, the system and the packages that decide a number, and the git commit.

    Examples
    --------
    >>> sorted(environment())[:3]
    ['git_commit', 'mne', 'numpy']
    """
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = UNKNOWN
    found["git_commit"] = git_commit() or UNKNOWN
    return found


@cache
def git_commit() -> str | None:
    """Commit of the source tree that phosphene runs from, "+" appended when it was edited.

    None for an installed copy, and where git is absent.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").is_file() or not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--", "src") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def readable(value: Any, unit: str = "") -> str:
    """A field's value as people read it.

    Examples
    --------
    >>> readable((0.0, 1.0), "s"), readable(None), readable(False), readable(("a", "b"))
    ('0 to 1 s', 'unknown', 'no', 'a, b')
    """
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        if not value:
            return "none"
        joint = " to " if unit and len(value) == 2 else ", "
        text = joint.join(readable(v) for v in value)
    elif isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = str(value)
    return f"{text} {unit}".strip()

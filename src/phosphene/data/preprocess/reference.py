"""Common average reference, over all electrodes or over those of one shaft or grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene._registry import did_you_mean
from phosphene.data.preprocess._trialwise import PerTrial, apply_rows
from phosphene.data.recording import Recording
from phosphene.data.sensors import Sensors
from phosphene.errors import DataError, listing


class CommonAverageReference(PerTrial):
    """Subtract, at each sample, the mean of the good electrodes of the same group.

    Bad electrodes do not enter the mean, but it is subtracted from them as well, as MNE does. The
    channels of a group then add up to zero: their covariance has one dimension less.

    Parameters
    ----------
    groups : "prefix", mapping or None
        None: all electrodes together. "prefix": by the letters before the number, as electrodes
        of one shaft or grid are usually named ("LA1", "LA2"; "G12"). A mapping from the group's
        name to its electrodes; those of no group stay as they are.
    exclude : "bads" or sequence of str
        Electrodes that do not enter the mean: those marked in ``sensors.info["bads"]``, or these.

    Examples
    --------
    >>> from phosphene.data.recording import Recording
    >>> x = np.array([[[1.0, 0.0], [3.0, 4.0], [9.0, 8.0]]])
    >>> ecog = Recording.from_arrays(
    ...     x, {"stimulus": ["a"]}, sfreq=100, modality="ecog", channel_names=["A1", "A2", "B1"])
    >>> CommonAverageReference(exclude=["B1"]).transform(ecog).signals.tolist()
    [[[-1.0, -2.0], [1.0, 2.0], [7.0, 6.0]]]
    """

    step = "common_average_reference"

    def __init__(
        self,
        groups: Literal["prefix"] | Mapping[str, Sequence[str]] | None = None,
        *,
        exclude: Literal["bads"] | Sequence[str] = "bads",
    ) -> None:
        self.groups = groups
        self.exclude = exclude

    def _transform(self, recording: Recording, op: dict[str, Any]) -> Recording:
        sensors = recording.sensors
        excluded = self._excluded(sensors)
        members = self._members(sensors)
        good: dict[str, NDArray[np.int64]] = {}
        for name, index in members.items():
            good[name] = np.array([i for i in index.tolist() if i not in excluded], dtype=np.int64)
            if len(good[name]) < 2:
                raise DataError(
                    f"the group {name!r} has no two good electrodes to average",
                    found=listing(sensors.names[i] for i in index.tolist()),
                    fix="put them into another group, or leave them out of the mapping",
                )

        def reference(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
            out = block.astype(np.float64)
            for name, index in members.items():
                out[:, index] -= out[:, good[name]].mean(axis=1, keepdims=True)
            return out

        op["exclude"] = [sensors.names[i] for i in sorted(excluded)]
        if isinstance(self.groups, Mapping):
            op["groups"] = {name: list(names) for name, names in self.groups.items()}
        return apply_rows(recording, reference, op, sensors=_marked(sensors))

    def _excluded(self, sensors: Sensors) -> set[int]:
        if isinstance(self.exclude, str) and self.exclude == "bads":
            bads = [] if sensors.info is None else sensors.info["bads"]
            return set(sensors.index(list(bads)).tolist()) if bads else set()
        if isinstance(self.exclude, str):
            raise DataError(
                "exclude is no list of names", found=repr(self.exclude), expected='"bads" or a list'
            )
        return set(sensors.index(list(self.exclude)).tolist()) if len(self.exclude) else set()

    def _members(self, sensors: Sensors) -> dict[str, NDArray[np.int64]]:
        if self.groups is None:
            return {"all": np.arange(len(sensors))}
        if isinstance(self.groups, Mapping):
            members = {name: sensors.index(list(names)) for name, names in self.groups.items()}
            taken = [int(i) for index in members.values() for i in index]
            if twice := sorted({i for i in taken if taken.count(i) > 1}):
                raise DataError(
                    "electrodes are in several groups",
                    found=listing(sensors.names[i] for i in twice),
                )
            return members
        if self.groups != "prefix":
            raise DataError(
                f"there is no grouping {self.groups!r}",
                expected='"prefix", a mapping or None',
                fix=did_you_mean(str(self.groups), ["prefix"]),
            )
        found: dict[str, list[int]] = {}
        for i, name in enumerate(sensors.names):
            found.setdefault(re.sub(r"[\s_-]*\d+\s*$", "", name), []).append(i)
        return {name: np.array(index, dtype=np.int64) for name, index in found.items()}


def _marked(sensors: Sensors) -> Sensors:
    """The sensors with MNE's mark that another reference was applied."""
    if sensors.info is None:
        return sensors
    from mne.io.constants import FIFF

    info = sensors.info.copy()
    with info._unlock():
        info["custom_ref_applied"] = FIFF.FIFFV_MNE_CUSTOM_REF_ON
    return Sensors(sensors.modality, sensors.names, info, sensors.voxels, sensors.affine)

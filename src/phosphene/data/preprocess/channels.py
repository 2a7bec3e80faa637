"""Channels by name: named sets, and the same channels in the same order for every recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene._logging import get_logger
from phosphene._registry import did_you_mean
from phosphene._validation import require_unique
from phosphene.data import _store
from phosphene.data.preprocess._spline import spline_weights
from phosphene.data.preprocess._trialwise import apply_rows
from phosphene.data.recording import Recording
from phosphene.data.sensors import OCCIPITO_PARIETAL, Sensors
from phosphene.errors import DataError, listing

logger = get_logger(__name__)

#: Named sets of channels. The 17 are those of UBP, BVSA, NeuroBridge and SAMGA.
CHANNEL_SETS: dict[str, tuple[str, ...]] = {"occipito-parietal-17": OCCIPITO_PARIETAL}
# Older and newer names of the same places in the 10-20 and 10-10 systems, and mastoids.
ALIASES = (("T3", "T7"), ("T4", "T8"), ("T5", "P7"), ("T6", "P8"), ("A1", "M1"), ("A2", "M2"))


def channel_set(which: str | Sequence[str]) -> list[str]:
    """Names of a set, or the names themselves.

    Raises
    ------
    DataError
        If there is no set of that name.

    Examples
    --------
    >>> len(channel_set("occipito-parietal-17"))
    17
    """
    if not isinstance(which, str):
        return [str(name) for name in which]
    if which not in CHANNEL_SETS:
        raise DataError(
            f"there is no set of channels {which!r}",
            expected=listing(map(repr, CHANNEL_SETS)) + " or a list of names",
            fix=did_you_mean(which, CHANNEL_SETS),
        )
    return list(CHANNEL_SETS[which])


def find_channels(
    available: Sequence[str], wanted: Sequence[str], *, aliases: bool = False
) -> list[int | None]:
    """Position of each wanted channel among those available, None where it is missing.

    Capitals and spaces do not matter where the name then still fits one channel only.

    Raises
    ------
    DataError
        If a name fits several channels.

    Examples
    --------
    >>> find_channels(["OZ", "T3", "F P1"], ["Fp1", "Oz", "T7"])
    [2, 0, None]
    >>> find_channels(["OZ", "T3", "F P1"], ["Fp1", "Oz", "T7"], aliases=True)
    [2, 0, 1]
    """
    exact = {name: i for i, name in enumerate(available)}
    loose: dict[str, list[int]] = {}
    for i, name in enumerate(available):
        loose.setdefault(_key(name), []).append(i)
    other = {_key(a): _key(b) for pair in ALIASES for a, b in (pair, pair[::-1])} if aliases else {}
    found: list[int | None] = []
    for name in wanted:
        if name in exact:
            found.append(exact[name])
            continue
        hits = loose.get(_key(name)) or loose.get(other.get(_key(name), ""), [])
        if len(hits) > 1:
            raise DataError(
                f"the channel {name!r} could be any of several",
                found=listing(available[i] for i in hits),
                fix="say which with rename",
            )
        found.append(hits[0] if hits else None)
    used = [i for i in found if i is not None]
    if twice := sorted({i for i in used if used.count(i) > 1}):
        raise DataError(
            "several of the wanted channels are the same one",
            found=listing(available[i] for i in twice),
            fix="name each channel once, or do without aliases",
        )
    return found


def _key(name: str) -> str:
    return "".join(str(name).split()).lower()


def match_channels(
    recording: Recording,
    names: str | Sequence[str] | Sensors | Recording,
    *,
    missing: Literal["error", "interpolate"] = "error",
    rename: Mapping[str, str] | None = None,
    aliases: bool = False,
) -> Recording:
    """The recording with exactly these channels, in this order and under these names.

    Channels are matched by name, whatever their order; capitals and spaces do not matter. Others
    are dropped. Signals of channels that are there are not changed.

    Parameters
    ----------
    recording : Recording
        Left as it is.
    names : sequence of str, str, Sensors or Recording
        Names, a named set such as "occipito-parietal-17", or the sensors or recording to match.
    missing : {"error", "interpolate"}
        What to do about EEG channels that are not there: raise, or compute them from the others by
        MNE's spherical splines (Perrin 1989, doi 10.1016/0013-4694(89)90180-6), bad channels left
        out. Places that the recording does not know come from ``names`` if these are sensors, else
        from the 10-05 system.
    rename : mapping of str to str, optional
        From names in the recording to names that are wanted.
    aliases : bool
        Take older and newer names for the same: T3 and T7, T4 and T8, T5 and P7, T6 and P8, A1 and
        M1, A2 and M2.

    Returns
    -------
    Recording
        It shares the signals unless channels were interpolated.

    Raises
    ------
    DataError
        Naming the channels that are missing, ambiguous or without a known place.

    Examples
    --------
    >>> x = np.arange(6.0).reshape(1, 3, 2)
    >>> recording = Recording.from_arrays(
    ...     x, {"stimulus": ["a"]}, sfreq=100, channel_names=["Oz", "O1", "T3"])
    >>> done = match_channels(recording, ["T7", "Oz"], aliases=True)
    >>> done.channel_names, done.signals[0, :, 0].tolist()
    (['T7', 'Oz'], [4.0, 0.0])
    """
    if missing not in ("error", "interpolate"):
        raise DataError(
            "there is no such rule", found=repr(missing), expected='"error" or "interpolate"'
        )
    target = names.sensors if isinstance(names, Recording) else names
    wanted = list(target.names) if isinstance(target, Sensors) else channel_set(target)
    if not wanted:
        raise DataError("no channels are wanted", expected="one name or more")
    require_unique(wanted, "channel")
    sensors = recording.sensors
    if isinstance(target, Sensors) and target.modality != sensors.modality:
        raise DataError(
            "these are channels of another kind", found=sensors.modality, expected=target.modality
        )
    current = _renamed(sensors, rename or {})
    where = find_channels(current, wanted, aliases=aliases)
    there = [(i, name) for i, name in zip(where, wanted, strict=True) if i is not None]
    absent = [name for i, name in zip(where, wanted, strict=True) if i is None]
    if absent and (missing == "error" or sensors.modality != "eeg" or not there):
        _refuse(recording, current, absent, interpolate=missing == "interpolate")
    source = np.array([i for i, _ in there], dtype=np.int64)
    dropped = [name for i, name in enumerate(sensors.names) if i not in set(source.tolist())]
    if dropped:
        logger.info("%s: channels left out: %s", recording.name, listing(dropped, 20))
    spelled = {sensors.names[i]: name for i, name in there if sensors.names[i] != name}
    if spelled:
        logger.info("%s: channels renamed: %s", recording.name, spelled)
    op = {
        "op": "match_channels",
        "channels": wanted,
        "dropped": dropped,
        "renamed": spelled,
        "interpolated": absent,
    }
    kept = _named(sensors.pick(source), [name for _, name in there])
    if not absent:
        store = _store.cut(recording.store, _store.contiguous(source), None)
        return _with_store(recording, store, kept, op)
    logger.warning("%s: channels interpolated: %s", recording.name, listing(absent, 20))
    weights, full = spline_weights(kept, absent, target if isinstance(target, Sensors) else None)
    order = np.array([full.names.index(name) for name in wanted])

    def interpolate(block: NDArray[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
        x = block[:, source].astype(np.float64)
        made = np.moveaxis(np.tensordot(x, weights, axes=(1, 1)), -1, 1)
        return np.concatenate([x, made], axis=1)[:, order]

    shape = (len(wanted), *recording.shape[2:])
    return apply_rows(recording, interpolate, op, shape=shape, sensors=full.pick(order))


def _with_store(recording: Recording, store: Any, sensors: Sensors, op: Any) -> Recording:
    return replace(recording, store=store, sensors=sensors, history=(*recording.history, op))


def _renamed(sensors: Sensors, rename: Mapping[str, str]) -> list[str]:
    """Current names after ``rename``."""
    if unknown := [name for name in rename if name not in sensors.names]:
        raise DataError(
            f"channels to rename that are not there: {listing(map(repr, unknown))}",
            found=listing(sensors.names, 10),
            fix=did_you_mean(unknown[0], sensors.names),
        )
    names = [rename.get(name, name) for name in sensors.names]
    require_unique(names, "channel name after renaming")
    return names


def _named(sensors: Sensors, names: Sequence[str]) -> Sensors:
    """The same sensors under other names."""
    info = sensors.info
    if info is not None:
        import mne

        info = info.copy()
        mapping = dict(zip(sensors.names, names, strict=True))
        mne.rename_channels(info, mapping, verbose="error")
    return Sensors(sensors.modality, tuple(names), info, sensors.voxels, sensors.affine)


def _refuse(
    recording: Recording, current: Sequence[str], absent: Sequence[str], *, interpolate: bool
) -> None:
    aliases = {a: b for pair in ALIASES for a, b in (pair, pair[::-1])}
    present = {_key(name) for name in current}
    other = [f"{aliases[n]} for {n}" for n in absent if _key(aliases.get(n, "")) in present]
    near = did_you_mean(absent[0], current)
    if interpolate:
        fix = "only EEG channels can be interpolated, and only from others that are there"
    elif other:
        fix = f"there is {listing(other)}: pass aliases=True"
    else:
        fix = near or 'pass rename={"name in the recording": "name wanted"}'
        if recording.modality == "eeg":
            fix += ', or missing="interpolate"'
    raise DataError(
        f"{recording.name!r} lacks {len(absent)} channels: {listing(absent, 20)}",
        found=listing(current, 70),
        fix=fix,
    )

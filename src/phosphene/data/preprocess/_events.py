"""When something was shown: from a stim channel, annotations, MNE's arrays or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene._registry import did_you_mean
from phosphene._validation import as_ids, require_columns
from phosphene.data.preprocess._raw import mne_errors, source
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

# Columns that may say what happened, in this order; the latter two are those of BIDS.
EVENT_COLUMNS = ("event", "stimulus", "trial_type", "value")


def event_table(raw: mne.io.BaseRaw, events: Any) -> pd.DataFrame:
    """Events in order of time.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        The recording.
    events : None, str, array of int (n, 3) or DataFrame
        See `Epoch.transform`.

    Returns
    -------
    DataFrame
        ``sample`` (int, counted as MNE does, from the start of the acquisition), ``event`` (text)
        and the other columns of a table.

    Raises
    ------
    DataError
        If there are none, or they cannot be understood.
    """
    if events is None:
        table = _found(raw)
    elif isinstance(events, str):
        table = _annotated(raw) if events == "annotations" else _stim(raw, [events])
    elif isinstance(events, pd.DataFrame):
        table = _from_table(raw, events)
    else:
        table = _from_array(events)
    if not len(table):
        raise DataError(
            "there are no events in the recording",
            found=f"{raw.times[-1]:.1f} s, {_contents(raw)}",
            fix="pass events= as an array of MNE or as a table",
        )
    table = table.sort_values("sample", kind="stable", ignore_index=True)
    twice = table["sample"].duplicated()
    if twice.any():
        at = table.loc[twice, "sample"]
        raise DataError(
            f"{int(twice.sum())} events begin at the same sample as another one",
            found=f"samples {listing(at)}",
            fix="keep one of them in the table, or use another channel",
        )
    return table


def _found(raw: mne.io.BaseRaw) -> pd.DataFrame:
    stim = [n for n in raw.ch_names if raw.get_channel_types([n]) == ["stim"]]
    if stim:
        return _stim(raw, stim)
    if len(raw.annotations):
        return _annotated(raw)
    raise DataError(
        "the recording has neither a stim channel nor annotations",
        found=f"{_contents(raw)}: {listing(raw.ch_names, 80)}",
        fix="name the channel (events='TRIGGER'), or pass events= as an array or a table",
    )


def _stim(raw: mne.io.BaseRaw, names: list[str]) -> pd.DataFrame:
    import mne

    if names[0] not in raw.ch_names:
        raise DataError(
            f"there is no channel {names[0]!r} to read events from",
            found=f"{_contents(raw)}: {listing(raw.ch_names, 80)}",
            fix=did_you_mean(names[0], raw.ch_names),
        )
    # Several channels: MNE knows which one systems use for the sum of the others.
    chosen = names[0] if len(names) == 1 else None
    with mne_errors(
        f"events cannot be read from the channel {listing(names)} of {source(raw)}",
        "call mne.find_events with the options that fit, and pass its array",
    ):
        found = mne.find_events(raw, stim_channel=chosen, shortest_event=1, verbose="error")
    return _from_array(found)


def _annotated(raw: mne.io.BaseRaw) -> pd.DataFrame:
    import mne

    # MNE leaves out those whose names begin with BAD or EDGE.
    found, codes = mne.events_from_annotations(raw, verbose="error")
    names = {code: str(name) for name, code in codes.items()}
    table = pd.DataFrame({"sample": found[:, 0].astype(np.int64)})
    return table.assign(event=[names[code] for code in found[:, 2].tolist()])


def _from_array(events: Any) -> pd.DataFrame:
    array = np.asarray(events)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise DataError(
            "events are not in MNE's form",
            found=f"{array.dtype} of shape {array.shape}",
            expected="whole numbers (n, 3): sample, 0, code; or a DataFrame",
        )
    return pd.DataFrame({"sample": array[:, 0].astype(np.int64), "event": as_ids(array[:, 2])})


def _from_table(raw: mne.io.BaseRaw, events: pd.DataFrame) -> pd.DataFrame:
    table = events.reset_index(drop=True)
    if "sample" not in table:
        require_columns(table, ["onset"], "the table of events")
        onset = pd.to_numeric(table["onset"], errors="coerce")
        _require_numbers(onset, "an onset in seconds")
        table["sample"] = raw.first_samp + np.round(onset * raw.info["sfreq"])
    else:
        table["sample"] = pd.to_numeric(table["sample"], errors="coerce")
        _require_numbers(table["sample"], "the number of a sample", whole=True)
    what = next((name for name in EVENT_COLUMNS if name in table), None)
    if what is None:
        raise DataError(
            "the table of events does not say what was shown",
            found=listing(map(repr, events.columns), 20),
            expected="one of the columns " + ", ".join(EVENT_COLUMNS),
        )
    table["event"] = as_ids(table[what]).astype("str")
    table["sample"] = table["sample"].astype(np.int64)
    return table.drop(columns="onset", errors="ignore")


def _require_numbers(values: pd.Series[Any], what: str, *, whole: bool = False) -> None:
    numbers = values.to_numpy(dtype=np.float64)
    right = np.isfinite(numbers)
    if whole:
        right &= np.round(numbers) == numbers
    if not right.all():
        rows = np.flatnonzero(~right).tolist()
        raise DataError(f"events without {what}", found=f"rows {listing(rows)}")


def _contents(raw: mne.io.BaseRaw) -> str:
    kinds = raw.get_channel_types()
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))

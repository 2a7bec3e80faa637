"""Is a recording fit for decoding? What is wrong with it, what is suspicious, what is still to do.

Three levels. ``error``: decoding would be wrong or impossible. ``warning``: look at it. ``step``:
something that is usually done before decoding and was not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene._manifest import row_chunks
from phosphene._validation import require_columns
from phosphene.data._ids import parts_of
from phosphene.data._trials import KEY_COLUMNS
from phosphene.data.blocks import confounded_blocks
from phosphene.data.overlaps import overlap_table, parts_of_column
from phosphene.data.recording import Recording
from phosphene.errors import listing

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet

Level = Literal["error", "warning", "step"]
LEVELS: tuple[Level, ...] = ("error", "warning", "step")
CHUNK = 64 * 2**20
# A channel is extreme if its spread is this many robust deviations, and this factor, off.
DEVIATIONS, FACTOR = 6.0, 4.0
FEWEST_CHANNELS = 8
WHITENING = ("whitening",)
STANDARDISING = ("detrend_zscore", "standardise", "zscore", "baseline_zscore")


@dataclass(frozen=True)
class Finding:
    """Something about a recording that a user should know.

    Attributes
    ----------
    level : {"error", "warning", "step"}
        Whether decoding would be wrong, whether to look at it, or what is to be done first.
    what : str
        What is the case.
    evidence : str
        What it was seen by: names, numbers.
    fix : str
        What to do.
    """

    level: Level
    what: str
    evidence: str = ""
    fix: str = ""


@dataclass(frozen=True, eq=False)
class Scan:
    """What one pass over the signals showed.

    Attributes
    ----------
    bad : dict of str to list of str
        Names of channels by defect: "not finite", "constant", "extreme spread".
    digests : tuple of bytes
        One per trial, of its values.
    """

    bad: dict[str, list[str]]
    digests: tuple[bytes, ...]


def scan_signals(recording: Recording) -> Scan:
    """Read all signals once, in pieces: defects of channels, and a digest of every trial."""
    n, names = recording.shape[1], np.array(recording.sensors.names)
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    broken = np.zeros(n, dtype=bool)
    power, n_trials = np.zeros(n), 0
    digests: list[bytes] = []
    for chunk in row_chunks(recording.source, CHUNK):
        digests += [
            blake2b(np.ascontiguousarray(row).data, digest_size=16).digest() for row in chunk
        ]
        values = chunk.reshape(len(chunk), n, -1).astype(np.float32, copy=False)
        finite = np.isfinite(values)
        if not finite.all():
            broken |= ~finite.all(axis=(0, 2))
            values = np.where(finite, values, np.nan)
        with np.errstate(all="ignore"):
            low = np.fmin(low, np.nanmin(values, axis=(0, 2), initial=np.inf))
            high = np.fmax(high, np.nanmax(values, axis=(0, 2), initial=-np.inf))
            # Within trials where there is time: offsets and drifts of the amplifier do not count.
            spread = (
                values.var(axis=2, dtype=np.float64) if values.shape[2] > 1 else values[..., 0] ** 2
            )
            power += np.nansum(spread, axis=0)
        n_trials += len(chunk)
    constant = (low == high) & ~broken
    bad = {"not finite": names[broken].tolist(), "constant": names[constant].tolist()}
    if recording.modality != "fmri" and n_trials:
        judged = ~broken & ~constant
        bad["extreme spread"] = names[
            _extreme(power / n_trials, judged, _kinds(recording))
        ].tolist()
    return Scan({kind: found for kind, found in bad.items() if found}, tuple(digests))


def channel_findings(recording: Recording, scan: Scan) -> list[Finding]:
    """Findings about channels or voxels, each by name."""
    unit = recording.sensors.unit_name
    total = len(recording.sensors)
    found = []
    for kind, level, what, fix in (
        ("not finite", "error", "NaN or infinite values", "drop or interpolate them"),
        ("constant", "error", "constant values", "drop them"),
        ("extreme spread", "warning", "a spread far from that of the others",
         "look at them; drop or interpolate them if they are broken"),
    ):  # fmt: skip
        if names := scan.bad.get(kind):
            evidence = f"{len(names)} of {total}: {listing(names, 10)}"
            found.append(Finding(_level(level), f"{unit} with {what}", evidence, fix))
    info = recording.sensors.info
    if info is not None and (marked := [n for n in info["bads"] if n in recording.sensors.names]):
        found.append(
            Finding(
                "warning",
                "channels that the file marks as bad",
                f"{len(marked)} of {total}: {listing(marked, 10)}",
                "drop or interpolate them",
            )
        )
    return found


def duplicate_findings(trials: pd.DataFrame, digests: Sequence[bytes]) -> list[Finding]:
    """Trials whose values are the same to the bit, and keys that occur twice."""
    found = []
    keys = trials.duplicated(list(KEY_COLUMNS), keep=False)
    if keys.any():
        rows = trials.loc[keys, list(KEY_COLUMNS)].drop_duplicates()
        names = ["/".join(map(str, row)) for row in rows.itertuples(index=False)]
        found.append(
            Finding(
                "error",
                "several trials have the same key",
                f"{int(keys.sum())} trials; {'/'.join(KEY_COLUMNS)} = {listing(names, 3)}",
                "give each file its subject, session and run",
            )
        )
    code = pd.Series(digests).groupby(list(digests), sort=False).ngroup().to_numpy()
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    if not (counts > 1).any():
        return found
    place = (trials["subject"] + "/" + trials["session"] + "/" + trials["run"]).to_numpy()
    again = np.flatnonzero(first[code] != np.arange(len(code)))
    pairs = pd.Series(
        [f"{place[first[code[row]]]} = {place[row]}" for row in again.tolist()]
    ).value_counts()
    many = {str(pair): int(n) for pair, n in pairs.items()}
    across = [f"{pair} ({n} trials)" for pair, n in many.items() if _differ(pair)]
    if across:
        what = "the same signals in several recordings (subject/session/run)"
        fix = "a file was copied under another name: leave the copy out"
        found.append(Finding("error", what, listing(across), fix))
    inside = [
        f"{pair.partition(' = ')[0]} ({n} trials)" for pair, n in many.items() if not _differ(pair)
    ]
    if inside:
        what = "trials of one run whose signals are the same to the bit"
        found.append(Finding("error", what, listing(inside), "look for copied or empty trials"))
    return found


def design_findings(trials: pd.DataFrame, label: str = "concept") -> list[Finding]:
    """Classes that are confounded with sessions or runs (Li et al. 2021)."""
    require_columns(trials, [label], "the trial table")
    fix = "no split can tell them apart: use another label, or decode within sessions or runs"
    for block in ("session", "run"):
        if said := _coincide(trials, label, block):
            return [Finding("error", f"{label}: labels coincide with {block}s", said, fix)]
    found: list[Finding] = []
    fix = 'split by block, e.g. split_leave_one_out(recording, "run"), and read with care'
    # Side by side: that test concepts come in test sessions only is as it should be.
    for part, mine in trials.groupby("split", sort=False):
        table = confounded_blocks(mine, label)
        for (level, problem), rows in table.groupby(["level", "problem"], sort=False):
            names = rows["subject"] + ":" + rows["block"] + " " + rows["value"].astype(str)
            per_class = problem == "class in a single session"
            total = _distinct(mine, label if per_class else str(level))
            where = f"{len(rows)} of {total} {'classes' if per_class else f'{level}s'}"
            where += f" in {part!s}" if part else ""
            what = f"block design, {label}: {problem}"
            found.append(Finding("warning", what, f"{where}: {listing(names, 3)}", fix))
    return found


def overlap_findings(
    trials: pd.DataFrame, hashes: Mapping[str, str] | None = None
) -> list[Finding]:
    """What training and test share, where the column ``split`` tells them apart."""
    parts = parts_of_column(trials)
    if not len(parts["test"]) or not len(parts["train"]):
        return []
    table = overlap_table(trials, parts, hashes)
    if without_images(trials):
        return []
    found = []
    for row in table[table["parts"].isin(["train/test", "validation/test"])].itertuples():
        evidence = f"{row.n_shared} in {row.parts}: {row.examples}"
        if not row.n_shared or row.what not in ("stimulus", "image content", "concept"):
            continue
        if row.what == "concept":
            fix = "drop the training trials of these concepts for zero-shot decoding"
            found.append(Finding("warning", "test concepts are trained on", evidence, fix))
        else:
            what = "test images are trained on" + (
                " under another name" if row.what == "image content" else ""
            )
            fix = "drop these training trials, or split by session or run"
            found.append(Finding("error", what, evidence, fix))
    return found


def image_findings(trials: pd.DataFrame, stimuli: StimulusSet) -> list[Finding]:
    """Stimuli that have no picture."""
    names = list(dict.fromkeys(trials["stimulus"]))
    missing = missing_images(names, stimuli.ids)
    if not missing:
        return []
    return [
        Finding(
            "error",
            "stimuli without a picture",
            f"{len(missing)} of {len(names)}: {listing(missing)}; "
            f"{len(stimuli)} pictures such as {listing(stimuli.ids, 2)}",
            "give the folder that the ids are relative to, or add the pictures",
        )
    ]


def missing_images(wanted: Iterable[str], available: Iterable[str]) -> list[str]:
    """Ids that no picture fits, whether in full or by the end of its path.

    Examples
    --------
    >>> missing_images(["images/dog/1.png", "cat/1.png"], ["dog/1.png"])
    ['cat/1.png']
    """
    known = set(available)
    by_file: dict[str, list[tuple[str, ...]]] = {}
    for name in known:
        if parts := parts_of(name):
            by_file.setdefault(parts[-1], []).append(parts)
    missing = []
    for name in wanted:
        parts = parts_of(name)
        near = by_file.get(parts[-1], []) if parts else []
        if name not in known and not any(_same_end(parts, other) for other in near):
            missing.append(name)
    return missing


def steps_left(trials: pd.DataFrame, recordings: Sequence[Recording]) -> list[Finding]:
    """What is usually done before decoding and was not done to these recordings."""
    found = []
    first = recordings[0]
    done = {str(entry.get("op", "")) for recording in recordings for entry in recording.history}
    volumes = "volume" in trials and first.modality == "fmri"
    if volumes and not done & set(STANDARDISING):
        what, fix = "detrend and standardise each run", "DetrendZScore().transform(recording)"
        found.append(Finding("step", what, "trials are volumes of an fMRI series", fix))
    if volumes:
        fix = "BlockAverage(shift_trs=2).transform(recording)"
        found.append(Finding("step", "average the volumes of a block", "", fix))
    whitened = {str(e["whitening"]) for r in recordings for e in r.history if "whitening" in e}
    if any("training and test" in text for text in whitened):
        what = "the noise was whitened with test trials"
        fix = "results are transductive in this step: say so, or prepare the raw data"
        found.append(Finding("warning", what, listing(whitened), fix))
    done |= {"whitening"} if whitened - {"none"} else set()
    scaled = {*WHITENING, *(STANDARDISING if first.modality == "meg" else ())}
    if first.modality in ("eeg", "meg") and not done & scaled:
        both = " or standardise by the baseline" if first.modality == "meg" else ""
        evidence, fix = "not in the history", "MVNN().fit(train), then transform both"
        found.append(Finding("step", f"whiten the noise (MVNN){both}", evidence, fix))
    low, middle, high = repetitions(trials)
    if not volumes and high > 1:
        evidence = f"{low} to {high} trials per subject and image, median {middle:g}"
        found.append(Finding("step", "average repetitions", evidence, "recording.average()"))
    if (trials["concept"] == "").any():
        n = int((trials["concept"] == "").sum())
        fix = "name the concept of every stimulus, or drop these trials"
        found.append(Finding("step", "name the concepts", f"{n} trials without", fix))
    if not (trials["split"] == "test").any():
        if without_images(trials):
            what, fix = "hold out runs", 'split_leave_one_out(recording, "run")'
            evidence = "stimuli are classes, not images"
        else:
            what, fix = "hold out concepts for the test", "ph.split_concepts(recording)"
            evidence = f"no trial is marked as test; {trials['concept'].nunique()} concepts"
        found.append(Finding("step", what, evidence, fix))
    return found


def without_images(trials: pd.DataFrame) -> bool:
    """Whether stimuli are names of classes: as many of them as concepts, one for one."""
    pairs = trials[["stimulus", "concept"]].drop_duplicates()
    many = len(trials) > 2 * len(pairs)
    return bool(
        many
        and (pairs["stimulus"].map(lambda s: "/" not in s and "." not in s)).all()
        and pairs["concept"].nunique() == len(pairs)
    )


def repetitions(trials: pd.DataFrame) -> tuple[int, float, int]:
    """Fewest, median and most trials of an image per subject, averages counted in full."""
    weights = trials["n_averaged"] if "n_averaged" in trials else pd.Series(1, index=trials.index)
    counts = weights.groupby([trials["subject"], trials["stimulus"]]).sum()
    return int(counts.min()), float(np.median(counts.to_numpy())), int(counts.max())


def _level(text: str) -> Level:
    return next(level for level in LEVELS if level == text)


def _differ(pair: str) -> bool:
    one, _, other = pair.partition(" = ")
    return one != other


def _distinct(trials: pd.DataFrame, column: str) -> int:
    """Sessions, runs or classes, those of each person counted by themselves."""
    keys = {"session": ["subject", "session"], "run": ["subject", "session", "run"]}
    return int(trials.groupby(keys.get(column, ["subject", column])).ngroups)


def _coincide(trials: pd.DataFrame, label: str, level: str) -> str:
    """Evidence that a class is shown in one block only and every block shows one class only."""
    block = trials["subject"] + "/" + trials["session"]
    if level == "run":
        block = block + "/" + trials["run"]
    value = trials["subject"] + "/" + trials[label].astype(str)
    n_blocks, n_values = block.nunique(), value.nunique()
    pairs = pd.DataFrame({"block": block, "value": value}).drop_duplicates()
    per_person = trials.assign(block=block).groupby("subject")["block"].nunique()
    if len(pairs) != n_blocks or n_values != n_blocks or (per_person < 2).any():
        return ""
    if len(trials) <= n_blocks:
        return ""
    examples = [f"{v.split('/', 1)[1]} in {b}" for b, v in pairs.itertuples(index=False)]
    return f"{n_values} classes, {n_blocks} {level}s: {listing(examples, 3)}"


def _same_end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return one[-length:] == other[-length:]


def _kinds(recording: Recording) -> NDArray[Any]:
    """Type of each channel: magnetometers and gradiometers have units of their own."""
    info = recording.sensors.info
    if info is None:
        return np.full(len(recording.sensors), recording.modality)
    return np.array(info.get_channel_types())


def _extreme(
    power: NDArray[np.float64], judged: NDArray[np.bool_], kinds: NDArray[Any]
) -> NDArray[np.int64]:
    """Positions of channels whose power is far from the median of their kind."""
    out: list[int] = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(judged & (kinds == kind) & (power > 0))
        if len(rows) < FEWEST_CHANNELS:
            continue
        logs = 0.5 * np.log(power[rows])
        away = np.abs(logs - np.median(logs))
        limit = max(DEVIATIONS * 1.4826 * float(np.median(away)), float(np.log(FACTOR)))
        out += rows[away > limit].tolist()
    return np.array(sorted(out), dtype=np.int64)

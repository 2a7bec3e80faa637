"""What ``phosphene data check`` does: what is there, what is wrong with it, what is left to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import progress
from phosphene.data.finding import Source, find_sources
from phosphene.errors import DataError, PhospheneError, listing
from phosphene.runs.reading import read_source

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.data.checking import Finding, Scan
    from phosphene.data.recording import Recording


@dataclass(frozen=True, eq=False)
class DataReport:
    """What was found at a path.

    Attributes
    ----------
    path : str
        What was looked at.
    reader : str
        Which readers read it.
    facts : dict
        Modality, subjects, sessions, runs, trials, stimuli, concepts, repetitions, channels, rate,
        window and so on; empty if nothing could be read.
    findings : tuple of Finding
        Errors first, then warnings, then steps that are left.
    overlaps : tuple of dict
        What training and test share, where the trials say which they are.
    """

    path: str
    reader: str
    facts: dict[str, Any]
    findings: tuple[Finding, ...]
    overlaps: tuple[dict[str, Any], ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether nothing was found that would make decoding wrong or impossible."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain form, for JSON."""
        return {
            "path": self.path,
            "passed": self.passed,
            "reader": self.reader,
            "facts": self.facts,
            "findings": [asdict(finding) for finding in self.findings],
            "overlaps": list(self.overlaps),
        }


def check_data(
    path: str | Path,
    *,
    reader: str | None = None,
    subjects: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    images: str | Path | None = None,
    label: str = "concept",
    show: bool = True,
) -> DataReport:
    """Read whatever lies at a path and examine it.

    Parameters
    ----------
    path : path
        A saved Recording or a folder of them, ``-epo.fif`` or ``.npz`` files, a BIDS folder, a
        NIfTI series with mask and labels, or files of a known data set.
    reader : str, optional
        Registered name of a reader, where the files could be several things.
    subjects : sequence of str, optional
        Only these.
    options : mapping, optional
        Further arguments of the reader, such as ``stim_column``.
    images : path, optional
        Folder or CSV list of pictures; stimuli without one are named.
    label : str
        Trial column that is to be decoded, for the check of block designs.
    show : bool
        Show a bar when someone is watching.

    Returns
    -------
    DataReport
        Files that cannot be read are findings, not errors.

    Raises
    ------
    DataError
        If there is nothing at the path that phosphene reads.
    UnknownNameError
        If there is no such reader.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from phosphene.data.recording import Recording
    >>> x = np.random.default_rng(0).normal(size=(6, 3, 5))
    >>> x[:, 1] = 0
    >>> trials = {"stimulus": ["a/1.png", "b/1.png", "c/1.png"] * 2}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Recording.from_arrays(x, trials, sfreq=100, check=False).save(f"{folder}/r")
    ...     report = check_data(f"{folder}/r")
    >>> report.passed, report.findings[0].what, report.findings[0].evidence
    (False, 'channels with constant values', '1 of 3: ch1')
    """
    from phosphene.data import checking
    from phosphene.data.overlaps import overlap_table

    sources = find_sources(path, reader=reader, subjects=subjects, options=options)
    recordings: list[Recording] = []
    scans: list[Scan] = []
    findings: list[Finding] = []
    for source in progress(sources, total=len(sources), desc="reading", enabled=show):
        recording, found = _read(source)
        findings += [_named(finding, source, sources) for finding in found]
        if recording is None:
            continue
        scan = checking.scan_signals(recording)
        recordings.append(recording)
        scans.append(scan)
        findings += [
            _named(finding, source, sources)
            for finding in checking.channel_findings(recording, scan)
        ]
    kinds = listing(dict.fromkeys(source.reader for source in sources))
    if not recordings:
        return DataReport(str(path), kinds, {}, _sorted(findings))
    trials = _table(recordings)
    findings += _mixture(recordings)
    findings += checking.duplicate_findings(trials, [d for scan in scans for d in scan.digests])
    labelled = not any(f.what == UNLABELLED for f in findings)
    hashes = None
    if images is not None and labelled:
        from phosphene.runs.banks import read_stimuli

        stimuli = read_stimuli(str(images))
        missing = checking.image_findings(trials, stimuli)
        findings += missing
        has_test = (trials["split"] == "test").any()
        hashes = dict(stimuli.hashes()) if has_test and not missing else None
    overlaps: tuple[dict[str, Any], ...] = ()
    if labelled:
        if label not in trials:
            raise DataError(
                f"the trials have no column {label!r}",
                found=listing(trials.columns, 20),
                fix="name another column with --label",
            )
        findings += checking.design_findings(trials, label)
        findings += checking.overlap_findings(trials, hashes)
        findings += checking.steps_left(trials, recordings)
        table = overlap_table(trials, None, hashes)
        overlaps = tuple({str(k): v for k, v in row.items()} for row in table.to_dict("records"))
    facts = _facts(recordings, trials)
    own = all(source.reader == "recording" for source in sources)
    facts["verified"] = own or _vouched(recordings)
    return DataReport(str(path), kinds, facts, _sorted(findings), overlaps)


UNLABELLED = "the trials do not say what was seen"


def _read(source: Source) -> tuple[Recording | None, list[Finding]]:
    """The recording, or what keeps it from being read; without labels if that is all."""
    from phosphene.data.checking import Finding

    try:
        return read_source(source, check=False), []
    except PhospheneError as error:
        evidence = "" if error.found is None else str(error.found)
        if error.expected is not None:
            evidence = "; ".join(filter(None, [evidence, f"expected: {error.expected}"]))
        found = Finding("error", error.what, evidence, error.fix or "")
    if source.reader in ("epochs", "npz"):
        try:
            bare = {k: v for k, v in source.arguments.items() if k != "concept"}
            bare["labelled"] = False
            recording = read_source(replace(source, arguments=bare), check=False)
        except PhospheneError:
            return None, [found]
        fix = found.fix or "add a column 'stimulus' with the image of every trial"
        return recording, [replace(found, what=UNLABELLED, evidence=found.what, fix=fix)]
    return None, [found]


def _named(finding: Finding, source: Source, sources: Sequence[Source]) -> Finding:
    """Say which of several files a finding is about."""
    if len(sources) == 1:
        return finding
    return replace(finding, evidence=f"{source.label}: {finding.evidence}")


def _table(recordings: Sequence[Recording]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([r.trials for r in recordings], ignore_index=True)


def _mixture(recordings: Sequence[Recording]) -> list[Finding]:
    """Recordings that cannot be put together, with the channels that differ."""
    from phosphene.data.checking import Finding

    first = recordings[0]
    found = []
    for other in recordings[1:]:
        mine, theirs = first.sensors.names, other.sensors.names
        if first.modality != other.modality or first.shape[2:] != other.shape[2:]:
            evidence = f"{first.modality} {first.shape[1:]} and {other.modality} {other.shape[1:]}"
            fix = "decode them one by one, or resample and crop them alike"
            found.append(
                Finding("warning", "recordings of different kinds or lengths", evidence, fix)
            )
            break
        if mine != theirs and first.modality != "fmri":
            missing = [n for n in mine if n not in theirs]
            extra = [n for n in theirs if n not in mine]
            said = f"missing {listing(missing) or 'none'}; extra {listing(extra) or 'none'}"
            evidence = said if missing or extra else "the same names in another order"
            fix = "pick the common channels by name from all of them, recording.pick([...])"
            found.append(Finding("warning", "recordings with different channels", evidence, fix))
            break
    return found


def _facts(recordings: Sequence[Recording], trials: pd.DataFrame) -> dict[str, Any]:
    from phosphene.data.checking import repetitions

    first = recordings[0]
    low, middle, high = repetitions(trials)
    rois = list(dict.fromkeys(roi for r in recordings for roi in r.sensors.rois))
    splits = trials["split"].value_counts().to_dict()
    window = None if first.times is None else (float(first.times[0]), float(first.times[-1]))
    per_subject = trials.groupby("subject")
    return {
        "recordings": len(recordings),
        "modality": sorted({r.modality for r in recordings}),
        "subjects": list(dict.fromkeys(trials["subject"])),
        "sessions": int(per_subject["session"].nunique().max()),
        "runs": int(trials.groupby(["subject", "session", "run"]).ngroups),
        "trials": len(trials),
        "trials_by_split": {str(k) or "unmarked": int(v) for k, v in splits.items()},
        "stimuli": int(trials["stimulus"].nunique()),
        "concepts": int(trials["concept"].nunique()),
        "repetitions": {"min": low, "median": middle, "max": high},
        first.sensors.unit_name: sorted({len(r.sensors) for r in recordings}),
        "regions": rois,
        "sfreq": first.sfreq,
        "times": None if window is None else {"first": window[0], "last": window[1]},
        "samples": None if first.times is None else len(first.times),
        "dtype": str(first.dtype),
        "megabytes": round(sum(r.nbytes for r in recordings) / 1e6, 1),
        "positions_known": _positions(recordings),
        "history": [str(entry.get("op", "")) for entry in first.history],
    }


def _vouched(recordings: Sequence[Recording]) -> bool:
    """Whether checksums vouch for all files: those of a manifest, or known ones of a data set."""
    return all(
        any(entry.get("op") == "read" and entry.get("verified") for entry in recording.history)
        for recording in recordings
    )


def _positions(recordings: Sequence[Recording]) -> int:
    """Channels or voxels of the first recording whose place is known."""
    import numpy as np

    sensors = recordings[0].sensors
    if sensors.voxels is not None and not {"x", "y", "z"} <= set(sensors.voxels.columns):
        return 0
    return int(np.isfinite(sensors.positions()).all(axis=1).sum())


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    from phosphene.data.checking import LEVELS

    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))

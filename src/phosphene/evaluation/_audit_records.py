"""Checks of what is on record: trials, pictures, histories and protocol of training and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from phosphene.data.blocks import confounded_blocks
from phosphene.data.checking import design_findings
from phosphene.data.recording import Recording
from phosphene.data.sketches import (
    content_digests,
    copied_recordings,
    sketch,
    sketch_trials,
)
from phosphene.errors import listing
from phosphene.evaluation._audit_protocol import missing, protocol_checks, verdict
from phosphene.evaluation._audit_verdicts import Verdict
from phosphene.evaluation._provenance import shared_content, step_records, where
from phosphene.evaluation.protocol import Protocol

# A test picture this near to a training picture is a copy in all but its bytes.
NEAR = 0.995


@dataclass(frozen=True, eq=False)
class Records:
    """What is known of an evaluation, as far as it is.

    Parameters
    ----------
    train, test : Recording, optional
        Single trials.
    hashes : mapping of str to str
        Content hash of the pictures by stimulus.
    protocol : Protocol, optional
        How a score came about.
    openings : int, optional
        How often the test data were opened.
    zero_shot : bool
        Whether test concepts must be new.
    nearest : DataFrame, optional
        `phosphene.evaluation.guards.nearest_training_image` of the test pictures.
    steps : sequence of object
        Fitted steps outside the recordings' histories, such as a scaler of scikit-learn.
    label : str
        Trial column with the class.
    seen : mapping
        What a decoder remembers of its training trials, where ``train`` is not at hand.
    """

    train: Recording | None = None
    test: Recording | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    protocol: Protocol | None = None
    openings: int | None = None
    zero_shot: bool = True
    nearest: pd.DataFrame | None = None
    steps: Sequence[Any] = ()
    label: str = "concept"
    seen: Mapping[str, Any] = field(default_factory=dict)


def record_checks(records: Records) -> Iterator[Verdict]:
    """Verdicts on the records, "not checkable" where one is missing."""
    yield from _shared(records)
    yield _recordings(records)
    yield _fitted(records)
    yield _design(records)
    yield _blocks(records)
    if records.nearest is not None:
        yield _nearest(records.nearest)
    yield from protocol_checks(records.protocol, records.openings)


def array_checks(
    protocol: Protocol | None, steps: Sequence[Any], n_train: int | None
) -> Iterator[Verdict]:
    """What is on record of a callable on arrays: little, and the audit says so."""
    yield missing("what it was fitted on", "a callable does not say; audit the whole analysis")
    for step in steps:
        check = f"fitted step {type(step).__name__}"
        found = _counted(check, step, n_train)
        yield found or verdict(check, "pass", "fitted on no more trials than training has")
    if protocol is not None:
        yield from protocol_checks(protocol)


# ------------------------------------------------------------------ what was shown
def _shared(records: Records) -> Iterator[Verdict]:
    names = ("test stimuli in training", "test pictures in training", "test concepts in training")
    train = _trained_on(records)
    if train is None or records.test is None:
        for name in names:
            yield missing(name, "training and test trials are not both at hand")
        return
    test = records.test.trials
    fix = "split by concept, e.g. phosphene.split_concepts"
    shown = set(test["stimulus"]) - {""}
    yield _overlap(names[0], "stimuli", set(train["stimulus"]), shown, records.zero_shot, fix)
    hashes = dict(zip(train["stimulus"], train["sha256"], strict=True))
    hashes |= {name: str(records.hashes.get(name) or "") for name in shown}
    if any(hashes[name] for name in shown) and train["sha256"].astype(bool).any():
        yield _pictures(names[1], hashes, set(train["stimulus"]), shown)
    else:
        yield missing(names[1], "no content hash of the pictures")
    concepts = [set(table["concept"].astype(str)) - {""} for table in (train, test)]
    if not concepts[1]:
        yield missing(names[2], "the test trials name no concept")
    else:
        trained, tested = concepts
        yield _overlap(names[2], "concepts", trained, tested, records.zero_shot, fix)


def _trained_on(records: Records) -> pd.DataFrame | None:
    """Stimuli of training with their concepts and hashes, as far as anyone knows."""
    if records.train is not None:
        table = records.train.trials[["stimulus", "concept"]].drop_duplicates()
        return table.assign(sha256=[str(records.hashes.get(s) or "") for s in table["stimulus"]])
    if "stimuli" not in records.seen:
        return None
    stimuli = pd.Series(list(records.seen["stimuli"]), dtype="str")
    hashes = list(records.seen.get("hashes", ())) or [""] * len(stimuli)
    known = pd.DataFrame({"stimulus": stimuli, "sha256": hashes, "concept": ""})
    concepts = pd.DataFrame({"concept": list(records.seen.get("concepts", ()))})
    return pd.concat([known, concepts.assign(stimulus="", sha256="")], ignore_index=True)


def _overlap(
    check: str, what: str, train: set[str], test: set[str], zero_shot: bool, fix: str
) -> Verdict:
    shared = sorted(train & test)
    evidence = f"{len(shared)} of {len(test)} test {what} are in training"
    if shared:
        evidence += f": {listing(shared, 3)}"
    if shared and not zero_shot:
        return verdict(check, "pass", f"{evidence}; the protocol says so", shared=len(shared))
    return verdict(
        check, "fail" if shared else "pass", evidence, fix if shared else "", shared=len(shared)
    )


def _pictures(check: str, hashes: Mapping[str, str], train: set[str], test: set[str]) -> Verdict:
    by_content = {hashes[name]: name for name in sorted(train, reverse=True) if hashes.get(name)}
    twins = [
        f"{name} = {by_content[hashes[name]]}"
        for name in sorted(test - train)
        if hashes[name] in by_content
    ]
    unknown = sum(not hashes[name] for name in test)
    evidence = f"{len(twins)} of {len(test)} test pictures are in training under another name"
    evidence += f": {listing(twins, 3)}" if twins else ""
    evidence += f"; {unknown} without a hash" if unknown else ""
    return verdict(
        check,
        "fail" if twins else "pass",
        evidence,
        "drop these pictures from training" if twins else "",
        shared=len(twins),
    )


def _nearest(table: pd.DataFrame) -> Verdict:
    first = table.iloc[0]
    near = int((table["cosine"] >= NEAR).sum())
    return verdict(
        "nearest training picture",
        "warn" if near else "pass",
        f"{near} of {len(table)} test pictures have a training picture at a cosine of {NEAR} or "
        f"more; nearest: {first['stimulus']} to {first['nearest']} ({first['cosine']:.3f})",
        "look at the pairs: almost the same picture under two names" if near else "",
        near=near,
        highest=float(first["cosine"]),
    )


# ------------------------------------------------------------------ what was recorded
def _recordings(records: Records) -> Verdict:
    check = "copied recordings"
    if records.test is None:
        return missing(check, "no test trials")
    test = records.test
    digests = content_digests(test)
    tables = [copied_recordings(test.trials, digests)]
    if records.train is not None:
        train_digests = content_digests(records.train)
        known = sketch(train_digests)
        tables.insert(0, copied_recordings(records.train.trials, train_digests))
    elif "content" in records.seen:
        known = records.seen["content"]
    else:
        return missing(check, "no training trials")
    rows = shared_content(known, digests)
    if rows:
        return verdict(
            check,
            "fail",
            f"the signals of {len(rows)} of {test.n_trials} test trials are in training to the "
            f"bit: {listing(where(test.trials, rows), 3)}",
            "look for a file that was copied under another name",
            shared=len(rows),
        )
    for table in tables:
        if len(table):
            row = table.iloc[0]
            return verdict(
                check,
                "fail",
                f"{len(table)} recordings hold trials of another one: {row['copy']} = "
                f"{row['recording']} ({row['n_shared']} trials)",
                "a file was copied under another name: leave the copy out",
                shared=float(table["n_shared"].sum()),
            )
    return verdict(
        check, "pass", f"none of {test.n_trials} test trials has the signals of another", shared=0
    )


def _fitted(records: Records) -> Verdict:
    check = "fitted steps"
    if records.test is None:
        return missing(check, "no test trials")
    names = records.seen.get("names", {})
    n_train = None
    if records.train is not None:
        names, n_train = sketch_trials(records.train.trials), records.train.n_trials
    found = step_records(records.test.history, names, records.test.trials)
    wrong = [s for s in found if s.n_seen]
    if wrong:
        one = wrong[0]
        return verdict(
            check,
            "fail",
            f"{one.step} was fitted on {one.n_seen} of {one.n_looked_up} test trials (told apart "
            f"by {one.level})",
            "split first; fit the step on the training part and transform both",
            seen=one.n_seen,
            looked_up=one.n_looked_up,
        )
    for step in records.steps:
        if (found_out := _foreign(check, step, n_train, names, records.test)) is not None:
            return found_out
    said = [str(entry.get("whitening", "")) for entry in records.test.history]
    if any("training and test" in text for text in said):
        return verdict(
            check,
            "warn",
            "the data came whitened with training and test trials",
            "say that this step is transductive, or prepare the raw data",
        )
    if unknown := [s.step for s in found if not s.level]:
        return missing(check, f"what {listing(unknown)} was fitted on, trial by trial")
    if not found and not records.steps:
        return verdict(check, "pass", "no step learned from trials")
    told = [f"{s.step} (0 of {s.n_looked_up} by {s.level})" for s in found]
    told += [type(step).__name__ for step in records.steps]
    return verdict(check, "pass", "fitted without test trials: " + listing(told), seen=0)


def _foreign(
    check: str, step: Any, n_train: int | None, names: Mapping[str, Any], test: Recording
) -> Verdict | None:
    """A verdict on a fitted object that is at hand itself, or None if it saw no test trial."""
    what = type(step).__name__
    if (seen := getattr(step, "fitted_trials_", None)) is not None:
        entry = {"op": what, "fitted_trials": seen}
        for one in step_records([entry], names, test.trials):
            if not one.level:
                return missing(check, f"what {what} was fitted on, trial by trial")
            if one.n_seen:
                return verdict(
                    check,
                    "fail",
                    f"{what} was fitted on {one.n_seen} of {one.n_looked_up} test trials",
                    "fit it on the training part",
                    seen=one.n_seen,
                )
        return None
    return _counted(check, step, n_train)


def _counted(check: str, step: Any, n_train: int | None) -> Verdict | None:
    """A verdict on a fitted object of another library, by how many trials it says it saw."""
    what = type(step).__name__
    counted = getattr(step, "n_samples_seen_", getattr(step, "n_samples_", None))
    if counted is None or n_train is None:
        return missing(check, f"{what} does not say how many trials it was fitted on")
    n = int(pd.Series(counted).max())
    if n > n_train:
        return verdict(
            check,
            "fail",
            f"{what} was fitted on {n} trials; training has {n_train}",
            "fit it on the training part",
            seen=n - n_train,
        )
    return None


# ------------------------------------------------------------------ design
def _design(records: Records) -> Verdict:
    check = "class and block"
    parts = [r.trials for r in (records.train, records.test) if r is not None]
    if records.test is None or records.label not in parts[-1]:
        return missing(check, f"the trials have no {records.label}")
    # Classes that are new at test are judged among themselves: training has others by design.
    together = pd.concat(parts, ignore_index=True) if not records.zero_shot else parts[-1]
    named = together[together[records.label].astype(str) != ""].reset_index(drop=True)
    if not len(named):
        return missing(check, f"the trials have no {records.label}")
    named = named.assign(split="")
    for finding in design_findings(named, records.label):
        if finding.level == "error":
            return verdict(check, "fail", f"{finding.what}: {finding.evidence}", finding.fix)
    table = confounded_blocks(named, records.label)
    if len(table):
        first = table.iloc[0]
        return verdict(
            check,
            "warn",
            f"{len(table)} cases of {first['problem']}, such as {first['level']} "
            f"{first['block']}: {first['value']}",
            "slow drifts can pass for the class: hold out whole blocks and read with care",
            cases=len(table),
        )
    return verdict(check, "pass", "classes and blocks are not confounded", cases=0)


def _blocks(records: Records) -> Verdict:
    check = "runs on both sides"
    if records.train is None or records.test is None:
        return missing(check, "training and test trials are not both at hand")
    train, test = records.train.trials, records.test.trials
    columns = ["subject", "session", "run"]
    if any((table[columns] == "").to_numpy().any() for table in (train, test)):
        return missing(check, "averaged trials do not say their run")
    runs = [set(where(table, range(len(table)))) for table in (train, test)]
    shared = sorted(runs[0] & runs[1])
    evidence = f"{len(shared)} of {len(runs[1])} test runs are in training too"
    known = set(test[records.label]) & set(train[records.label])
    if not shared or not known:
        if shared:
            evidence += "; the test's classes are in none of them"
        return verdict(check, "pass", evidence, shared=len(shared))
    neighbours = records.test.modality == "fmri" and "volume" in test
    return verdict(
        check,
        "fail" if neighbours else "warn",
        evidence + ("; neighbouring volumes have almost the same signals" * neighbours),
        'hold out whole runs, e.g. split_leave_one_out(recording, "run")',
        shared=len(shared),
    )

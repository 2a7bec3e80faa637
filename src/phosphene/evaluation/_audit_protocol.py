"""Checks of what the protocol of a result says."""

from __future__ import annotations

from collections.abc import Iterator

from phosphene.evaluation._audit_verdicts import Mark, Verdict
from phosphene.evaluation.protocol import Protocol


def protocol_checks(protocol: Protocol | None, openings: int | None = None) -> Iterator[Verdict]:
    """Verdicts on selection, transductive steps, test labels and openings of the test data.

    Parameters
    ----------
    protocol : Protocol, optional
        Nothing can be said without one.
    openings : int, optional
        How often the test data were opened; by default what the protocol says.
    """
    if protocol is None:
        for check in ("selection", "transductive steps", "test labels in the score"):
            yield missing(check, "no protocol")
    else:
        yield _selection(protocol)
        yield _transductive(protocol)
        yield _oracle(protocol)
        openings = protocol.test_openings if openings is None else openings
    yield _openings(openings)


def verdict(check: str, mark: Mark, evidence: str, fix: str = "", **numbers: float) -> Verdict:
    """A verdict by provenance."""
    return Verdict(check, mark, evidence, "provenance", fix, numbers)


def missing(check: str, what: str) -> Verdict:
    """The verdict where a record is missing."""
    return verdict(check, "not checkable", f"no record: {what}")


def _selection(protocol: Protocol) -> Verdict:
    rule = protocol.selection
    if rule is None:
        return missing("selection", "the protocol does not say how the model was chosen")
    return verdict(
        "selection",
        "fail" if rule == "test" else "pass",
        f"the model was chosen by: {rule}",
        "choose on held-out training concepts, or train a fixed number of epochs"
        if rule == "test"
        else "",
    )


def _transductive(protocol: Protocol) -> Verdict:
    steps = protocol.transductive
    if steps is None:
        return missing("transductive steps", "the protocol does not say")
    return verdict(
        "transductive steps",
        "warn" if steps else "pass",
        "scores use the other queries: " + ", ".join(steps) if steps else "none on record",
        "not comparable with inductive scores" if steps else "",
    )


def _oracle(protocol: Protocol) -> Verdict:
    uses = protocol.uses_test_labels
    if uses is None:
        return missing("test labels in the score", "the protocol does not say")
    return verdict(
        "test labels in the score",
        "fail" if uses else "pass",
        "the true answers entered the scores" if uses else "none on record",
        "leave the step that reads labels out" if uses else "",
    )


def _openings(count: int | None) -> Verdict:
    if count is None:
        return missing("test openings", "the test data do not stand behind a handle that counts")
    return verdict(
        "test openings",
        "warn" if count > 1 else "pass",
        f"the test data were opened {count} times",
        "who looks more than once can choose: report the first score" if count > 1 else "",
        openings=count,
    )

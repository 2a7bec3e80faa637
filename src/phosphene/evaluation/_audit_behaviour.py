"""Checks of what a fitted decoder does with its queries and candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from phosphene import _random
from phosphene.evaluation._audit_chance import (
    ALPHA,
    Floats,
    p_of_answers,
    p_of_candidates,
    top1,
    two_way,
)
from phosphene.evaluation._audit_probe import Probe
from phosphene.evaluation._audit_verdicts import Mark, Verdict

# Scores may change by rounding: this share of their spread over the candidates.
TOLERANCE = 1e-3
SINGLE_QUERIES = 8
SHUFFLES = 5
# Below so many candidates no order of them is improbable enough to speak of chance.
FEWEST_CANDIDATES = 7
_CANNOT: Mark = "not checkable"


def behaviour(
    probe: Probe, *, transductive: Sequence[str] = (), seed: int = 0
) -> Iterator[Verdict]:
    """Verdicts on one decoder.

    Parameters
    ----------
    probe : Probe
        The decoder with queries and candidates.
    transductive : sequence of str
        Steps that are known to use the other queries.
    seed : int
        Seed of orders and permutations.
    """
    plain = probe.scores()
    if not np.isfinite(plain).all():
        yield Verdict(
            "scores", "fail", f"{int((~np.isfinite(plain)).sum())} scores are NaN or infinite",
            "behaviour", "no order of the candidates follows from them",
        )  # fmt: skip
        return
    compare = _Comparison(plain, probe.scores())
    yield compare.repeatable()
    yield _gallery_order(probe, plain, compare, seed)
    yield _query_order(probe, plain, compare, seed)
    yield _single_query(probe, plain, compare, transductive, seed)
    if probe.labelled:
        yield _labels(probe, plain, compare, seed)
    yield _shuffled_responses(probe, plain, seed)
    yield _ties(probe, plain)


class _Comparison:
    """How far two sets of scores are apart, next to how far the same question twice is."""

    def __init__(self, first: Floats, again: Floats) -> None:
        self.spread = float(first.std()) or 1.0
        self.noise = float(np.abs(first - again).max()) / self.spread
        self.limit = max(TOLERANCE, 3 * self.noise)

    def change(self, one: Floats, other: Floats) -> float:
        """Largest change, in standard deviations of the scores; infinite where one is NaN."""
        return float(np.nan_to_num(np.abs(one - other), nan=np.inf).max()) / self.spread

    def repeatable(self) -> Verdict:
        same = self.noise <= TOLERANCE
        return Verdict(
            "same question twice",
            "pass" if same else "warn",
            f"scores asked for twice differ by {self.noise:.2g} of their spread",
            "behaviour",
            "" if same else "scores are random: switch off dropout and augmentation at test",
            {"change": self.noise},
        )

    def verdict(self, check: str, change: float, what: str, fix: str) -> Verdict:
        good = change <= self.limit
        return Verdict(
            check,
            "pass" if good else "fail",
            f"{what} by {change:.2g} of their spread",
            "behaviour",
            "" if good else fix,
            {"change": change, "limit": self.limit},
        )


def _attempt(check: str, ask: Callable[[], Verdict]) -> Verdict:
    """A decoder may refuse what a check asks of it; that is no verdict on its scores."""
    try:
        return ask()
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Verdict(check, _CANNOT, f"the decoder refused: {said}", "behaviour")


def _gallery_order(probe: Probe, plain: Floats, compare: _Comparison, seed: int) -> Verdict:
    def ask() -> Verdict:
        rng = _random.generator(seed, "audit", "gallery order")
        orders = [np.arange(probe.n_gallery)[::-1], rng.permutation(probe.n_gallery)]
        change = max(compare.change(probe.scores(columns=o), plain[:, o]) for o in orders)
        return compare.verdict(
            "gallery order",
            change,
            "in another order of the candidates, their scores change",
            "the place of a candidate in the gallery says something about the answer: scores must "
            "follow the candidate",
        )

    return _attempt("gallery order", ask)


def _query_order(probe: Probe, plain: Floats, compare: _Comparison, seed: int) -> Verdict:
    def ask() -> Verdict:
        order = _random.generator(seed, "audit", "query order").permutation(probe.n_queries)
        return compare.verdict(
            "query order",
            compare.change(probe.scores(order), plain[order]),
            "in another order of the queries, their scores change",
            "the place of a query says something about the answer: scores must follow the response",
        )

    return _attempt("query order", ask)


def _single_query(
    probe: Probe, plain: Floats, compare: _Comparison, steps: Sequence[str], seed: int
) -> Verdict:
    check = "one query alone"
    if probe.n_queries < 2:
        return Verdict(check, _CANNOT, "there is one query only", "behaviour")

    def ask() -> Verdict:
        rng = _random.generator(seed, "audit", "single")
        order = rng.permutation(probe.n_queries)
        # Halves, for a decoder that refuses single queries.
        half = max(1, probe.n_queries // 2)
        batches = [[row] for row in order[:SINGLE_QUERIES]] + [order[:half], order[half:]]
        changes, refusals = [], []
        for rows in batches:
            try:
                changes.append(compare.change(probe.scores(rows), plain[rows]))
            except Exception as error:
                refusals.append(error)
        if not changes:
            raise refusals[0]
        what = f"scored alone or in halves of the batch ({len(changes)} parts"
        what += f", {len(refusals)} refused" if refusals else ""
        found = compare.verdict(
            check,
            max(changes),
            f"{what}), queries' scores change",
            "scores use the other test queries (batch statistics, whitening, matching): score each "
            "alone, or name the step and report the result as transductive",
        )
        if found.verdict == "fail" and steps:
            return Verdict(
                check,
                "warn",
                f"{found.evidence}; declared: {', '.join(steps)}",
                "behaviour",
                "not comparable with inductive scores",
                found.numbers,
            )
        return found

    return _attempt(check, ask)


def _labels(probe: Probe, plain: Floats, compare: _Comparison, seed: int) -> Verdict:
    def ask() -> Verdict:
        order = _random.generator(seed, "audit", "labels").permutation(probe.n_queries)
        return compare.verdict(
            "labels replaced",
            compare.change(probe.scores(labels=order), plain),
            "with the labels of other queries, scores change",
            "the true answer enters the score: let it see responses and candidates only",
        )

    return _attempt("labels replaced", ask)


def _shuffled_responses(probe: Probe, plain: Floats, seed: int) -> Verdict:
    check = "shuffled responses"
    if probe.answers is None or len(np.unique(probe.answers)) < 2 or probe.n_queries < 7:
        return Verdict(
            check, _CANNOT, "too few queries, or their answers are not known", "behaviour"
        )
    answers = probe.answers

    def ask() -> Verdict:
        rng = _random.generator(seed, "audit", "shuffled")
        tables, hits = [], []
        for _ in range(SHUFFLES):
            order = np.arange(probe.n_queries)
            for block in np.unique(probe.blocks):
                own = np.flatnonzero(probe.blocks == block)
                order[own] = rng.permutation(own)
            scores = probe.scores(responses=order)
            tables.append(two_way(scores))
            hits.append(top1(scores, answers))
        mean, p = p_of_answers(tables, answers, probe.blocks, seed)
        paired = float(two_way(plain)[np.arange(probe.n_queries), answers].mean())
        bad = p <= ALPHA
        return Verdict(
            check,
            "fail" if bad else "pass",
            f"responses shuffled against answers: two-way {mean:.3f} (p = {p:.4f}), "
            f"top-1 {np.mean(hits):.3f}; as they belong: two-way {paired:.3f}",
            "behaviour",
            "answers are right without the response to them: they reach the score by another way"
            if bad
            else "",
            {"two_way": mean, "p": p, "top1": float(np.mean(hits)), "two_way_paired": paired},
        )

    return _attempt(check, ask)


def _ties(probe: Probe, plain: Floats) -> Verdict:
    tied = (plain == plain.max(axis=1, keepdims=True)).sum(axis=1) > 1
    share = float(tied.mean())
    numbers = {"share": share}
    evidence = f"{share:.1%} of the queries have several best candidates"
    if probe.answers is not None:
        first = float((plain.argmax(axis=1) == probe.answers).mean())
        fair = top1(plain, probe.answers)
        numbers |= {"top1_first": first, "top1_expected": fair}
        evidence += f"; top-1 {first:.3f} if the first one counts, {fair:.3f} as expected of ties"
    return Verdict(
        "ties",
        "warn" if share > 0.05 else "pass",
        evidence,
        "behaviour",
        "count ties as their expectation: the order of the gallery must not decide"
        * (share > 0.05),
        numbers,
    )


def untrained(probe: Probe, seed: int) -> Verdict:
    """A decoder that has learned nothing must not know the answers."""
    return _chance("untrained decoder", [probe], seed, "it knows answers that it never learned")


def refitted(
    make: Callable[[Any], Probe], labels: Any, seed: int, refits: int = SHUFFLES
) -> Verdict:
    """Decoders fitted on shuffled labels must not know the answers.

    Parameters
    ----------
    make : callable
        From a permutation of the training trials to the probe of a decoder that was fitted with
        the labels in that order.
    labels : array-like
        Training labels.
    seed : int
        Seed of the permutations.
    refits : int
        How many are fitted.
    """
    rng = _random.generator(seed, "audit", "refit")
    orders = [rng.permutation(len(labels)) for _ in range(refits)]
    check = "refit on shuffled labels"
    return _attempt(
        check,
        lambda: _chance(
            check,
            [make(order) for order in orders],
            seed,
            "fitting sees true labels by another way than its arguments",
        ),
    )


def _chance(check: str, probes: Sequence[Probe], seed: int, fix: str) -> Verdict:
    answers = probes[0].answers
    if answers is None or len(np.unique(answers)) < FEWEST_CANDIDATES:
        few = f"fewer than {FEWEST_CANDIDATES} candidates with known answers"
        return Verdict(check, _CANNOT, few, "behaviour")
    tables = [two_way(probe.scores()) for probe in probes]
    mean, p = p_of_candidates(tables, answers, seed)
    return Verdict(
        check,
        "fail" if p <= ALPHA else "pass",
        f"two-way {mean:.3f} (chance .5, p = {p:.4f})",
        "behaviour",
        fix if p <= ALPHA else "",
        {"two_way": mean, "p": p},
    )

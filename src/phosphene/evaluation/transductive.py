r"""Transductive scoring: steps that look at the other queries of the test.

An inductive score of a query is the same whether it is scored alone or with others. The steps here
are not: they use all queries of a person at once, and what they gain would not be there for a
single new response. So none is applied unless it is asked for by name, each marks the scores as
transductive, and the protocol of the result names them in their order.

- ``whiten(shrinkage=auto)``: centre and whiten the query vectors;
- ``csls(k=10)``: :math:`2 s_{ij} - r_i - r_j` with r the mean of the k highest scores of a row and
  of a column, which lowers candidates that are near to everything (hubs);
- ``sinkhorn(temperature=0.05,iterations=200)``: scale :math:`\exp(s_{ij} / \tau)` until rows sum to
  1 and columns to queries / candidates; the scores are the logarithms;
- ``hungarian``: the one-to-one assignment of the highest total score.

Every step acts within the queries of one person (column ``subject``); where the queries name
nobody, they count as one person's.

CSLS: Conneau et al., Word translation without parallel data, ICLR 2018, arXiv:1710.04087. Sinkhorn:
Cuturi, Sinkhorn distances, NeurIPS 2013, arXiv:1306.0895. Assignment: scipy's
``linear_sum_assignment``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError, listing
from phosphene.evaluation.embeddings import Embeddings
from phosphene.evaluation.similarity import Similarity

Wide = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Step:
    """A step with a name; its fields are its parameters."""

    word: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The step as the protocol writes it, e.g. ``csls(k=10)``."""
        values = ",".join(f"{item.name}={getattr(self, item.name)}" for item in fields(self))
        return f"{self.word}({values})" if values else self.word


@dataclass(frozen=True)
class Whiten(_Step):
    r"""Centre and whiten the query vectors of each person.

    With the centred queries :math:`X` (n x d), their covariance :math:`C = X^T X / n` and
    :math:`S = (1 - \lambda) C + \lambda \frac{\mathrm{tr}\, C}{d} I`, the queries become
    :math:`X S^{-1/2}`. The symmetric root leaves the axes in place, so that the vectors can still
    be compared with the gallery, which is not touched.

    Parameters
    ----------
    shrinkage : float or "auto"
        :math:`\lambda` in [0, 1]; "auto" is Ledoit and Wolf's estimate from the queries. 0 needs
        more queries than dimensions.

    Examples
    --------
    >>> Whiten().name, Whiten(0.5).name
    ('whiten(shrinkage=auto)', 'whiten(shrinkage=0.5)')
    """

    shrinkage: float | Literal["auto"] = "auto"
    word: ClassVar[str] = "whiten"

    def __post_init__(self) -> None:
        value = self.shrinkage
        if value == "auto" or (_is_number(value) and 0 <= value <= 1):
            return
        raise DataError("no such shrinkage", found=repr(value), expected='"auto" or 0 to 1')

    def apply(self, embeddings: Embeddings) -> Embeddings:
        """The embeddings with whitened vectors.

        Raises
        ------
        DataError
            If a person has one query only, or ``shrinkage=0`` meets too few queries.
        """
        vectors = np.empty(embeddings.vectors.shape, dtype=np.float64)
        for who, rows in _people(embeddings.trials):
            vectors[rows] = self._whitened(embeddings.vectors[rows].astype(np.float64), who)
        return replace(
            embeddings,
            vectors=vectors,
            normalised=False,
            operations=(*embeddings.operations, self.name),
        )

    def _whitened(self, x: Wide, who: str) -> Wide:
        n, d = x.shape
        if n < 2 or (self.shrinkage == 0 and n <= d):
            raise DataError(
                f"too few queries to whiten{who}",
                found=f"{n} queries of {d} dimensions",
                expected="at least 2" if n < 2 else f"more than {d} for shrinkage=0",
                fix='leave whitening out, or use shrinkage="auto"',
            )
        x = x - x.mean(axis=0)
        # Queries lie in their own span, so the d x d matrices need not be formed.
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        share = ledoit_wolf_shrinkage(x) if self.shrinkage == "auto" else self.shrinkage
        variance = (1 - share) * s**2 / n + share * (s**2).sum() / (n * d)
        empty = s <= s.max() * max(n, d) * np.finfo(np.float64).eps
        scale = np.where(empty, 0.0, s / np.sqrt(np.where(empty, 1.0, variance)))
        whitened: Wide = (u * scale) @ vt
        return whitened


class _ScoreStep(_Step):
    """A step that changes scores."""

    def apply(self, similarity: Similarity) -> Similarity:
        """The scores after the step, marked as transductive."""
        self._check(similarity)
        matrix = np.empty(similarity.matrix.shape, dtype=np.float64)
        for who, rows in _people(similarity.queries):
            matrix[rows] = self._changed(similarity.matrix[rows].astype(np.float64), who)
        return replace(
            similarity,
            matrix=matrix,
            transductive=True,
            operations=(*similarity.operations, self.name),
        )

    def _check(self, similarity: Similarity) -> None:
        """Refuse scores that the step is not for."""

    def _changed(self, scores: Wide, who: str) -> Wide:
        """Scores (queries, candidates) of one person after the step."""
        raise TypeError(f"{type(self).__name__} does not say what it does")


@dataclass(frozen=True)
class CSLS(_ScoreStep):
    r"""Cross-domain similarity local scaling: :math:`2 s_{ij} - r_i - r_j`.

    :math:`r_i` is the mean of the ``k`` highest scores of query i over the candidates, :math:`r_j`
    that of candidate j over the queries of the person. Only the second changes the order within a
    row; it lowers hubs, which are near to many queries.

    Parameters
    ----------
    k : int
        Neighbours, on both sides.

    Examples
    --------
    >>> queries = pd.DataFrame({"stimulus": ["a", "b"]})
    >>> scores = Similarity([[0.5, 0.1], [0.5, 0.4]], queries, ["a", "b"])  # "a" is a hub
    >>> CSLS(k=1).apply(scores).matrix.round(2)
    array([[ 0. , -0.7],
           [ 0. , -0.1]], dtype=float32)
    """

    k: int = 10
    word: ClassVar[str] = "csls"

    def __post_init__(self) -> None:
        _positive_int("csls", "k", self.k)

    def _changed(self, scores: Wide, who: str) -> Wide:
        if self.k > min(scores.shape):
            raise DataError(
                f"csls needs k queries and k candidates{who}",
                found=f"{scores.shape[0]} queries, {scores.shape[1]} candidates",
                expected=f"at least k={self.k} of both",
                fix=f"csls(k={min(scores.shape)}) or less",
            )
        rows = np.partition(scores, -self.k, axis=1)[:, -self.k :].mean(axis=1)
        columns = np.partition(scores, -self.k, axis=0)[-self.k :].mean(axis=0)
        changed: Wide = 2 * scores - rows[:, None] - columns[None, :]
        return changed


@dataclass(frozen=True)
class Sinkhorn(_ScoreStep):
    r"""Scale the scores to a transport plan; what comes out is its logarithm.

    :math:`P_{ij} = \exp(s_{ij}/\tau + f_i + g_j)` with row sums 1 and column sums n / m for n
    queries and m candidates: doubly stochastic where these are as many. All in logarithms, columns
    and rows in turn, rows last, so that rows sum to 1 exactly and columns in the limit. For m > n
    the rule takes every candidate to be the answer equally often, which is untrue of a gallery
    with candidates that were never shown.

    Parameters
    ----------
    temperature : float
        :math:`\tau`; towards 0 the plan of as many queries as candidates becomes the Hungarian
        assignment, and needs more iterations. The default is ours and not fitted to anything.
    iterations : int
        Pairs of scalings.

    Examples
    --------
    >>> queries = pd.DataFrame({"stimulus": ["a", "b"]})
    >>> scores = Similarity([[0.5, 0.1], [0.5, 0.4]], queries, ["a", "b"])
    >>> np.exp(Sinkhorn(temperature=0.1).apply(scores).matrix).round(2)
    array([[0.82, 0.18],
           [0.18, 0.82]], dtype=float32)
    """

    temperature: float = 0.05
    iterations: int = 200
    word: ClassVar[str] = "sinkhorn"

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 < self.temperature < np.inf):
            raise DataError(
                "sinkhorn needs a temperature", found=repr(self.temperature), expected="above 0"
            )
        _positive_int("sinkhorn", "iterations", self.iterations)

    def _changed(self, scores: Wide, who: str) -> Wide:
        plan = scores / self.temperature
        for _ in range(self.iterations):
            # Columns to one common sum; which one, n / m, follows from the rows.
            plan = plan - logsumexp(plan, axis=0, keepdims=True)
            plan = plan - logsumexp(plan, axis=1, keepdims=True)
        return plan


@dataclass(frozen=True)
class Hungarian(_ScoreStep):
    """Assign every query of a person to a candidate of its own, for the highest total score.

    The assigned candidate comes first and the others keep their scores behind it: top-1 is the
    assignment, and lower ranks are those without it. It takes for granted that no candidate was
    seen twice, so that repeated queries of a stimulus are refused. (Where queries have no labels,
    whoever calls must know.)

    Examples
    --------
    >>> queries = pd.DataFrame({"stimulus": ["a", "b"]})
    >>> scores = Similarity([[0.5, 0.1], [0.5, 0.4]], queries, ["a", "b"])
    >>> Hungarian().apply(scores).top(1)["item"].tolist()
    ['a', 'b']
    """

    word: ClassVar[str] = "hungarian"

    def _check(self, similarity: Similarity) -> None:
        table = similarity.queries
        if similarity.match not in table:
            return
        keys = [name for name in ("subject", similarity.match) if name in table]
        twice = table.duplicated(keys)
        if twice.any():
            raise DataError(
                f"one-to-one assignment, but queries of a {similarity.match} are repeated",
                found=listing(sorted(set(table.loc[twice, similarity.match].astype(str)))),
                expected=f"one query per subject and {similarity.match}",
                fix="average the repetitions, or use csls or sinkhorn",
            )

    def _changed(self, scores: Wide, who: str) -> Wide:
        n, m = scores.shape
        if n > m:
            raise DataError(
                f"one-to-one assignment needs a candidate for every query{who}",
                found=f"{n} queries, {m} candidates",
                fix="use csls or sinkhorn",
            )
        rows, columns = linear_sum_assignment(scores, maximize=True)
        changed = scores.copy()
        # Above the best by as much as the scores span, which single precision keeps apart.
        changed[rows, columns] = scores.max(axis=1) + (np.ptp(scores) or 1.0)
        return changed


Step = Whiten | CSLS | Sinkhorn | Hungarian
STEPS: dict[str, type[Step]] = {step.word: step for step in (Whiten, CSLS, Sinkhorn, Hungarian)}


def get_step(spec: str | Step) -> Step:
    """The step that a text names, e.g. ``"csls(k=10)"``; a step is returned as it is.

    Raises
    ------
    UnknownNameError
        If no step or parameter has the name; the nearest are listed.
    DataError
        If the text cannot be read or a value is out of range.

    Examples
    --------
    >>> get_step("csls(k=5)"), get_step("hungarian")
    (CSLS(k=5), Hungarian())
    """
    if isinstance(spec, Whiten | CSLS | Sinkhorn | Hungarian):
        return spec
    word, given = _parsed(str(spec))
    if word not in STEPS:
        raise UnknownNameError(
            f"there is no transductive step named {word!r}",
            expected="one of " + ", ".join(STEPS),
            fix=_registry.did_you_mean(word, STEPS),
        )
    known = [item.name for item in fields(STEPS[word])]
    for name in given:
        if name not in known:
            raise UnknownNameError(
                f"{word} has no parameter {name!r}",
                expected="one of " + ", ".join(known) if known else "no parameter",
                fix=_registry.did_you_mean(name, known),
            )
    return STEPS[word](**given)


def get_steps(specs: str | Step | Iterable[str | Step] | None) -> tuple[Step, ...]:
    """Steps in their order; whitening, which changes vectors and not scores, comes first.

    Examples
    --------
    >>> [step.name for step in get_steps(["whiten", "csls(k=5)", "hungarian"])]
    ['whiten(shrinkage=auto)', 'csls(k=5)', 'hungarian']
    """
    if specs is None:
        return ()
    if isinstance(specs, str | Whiten | CSLS | Sinkhorn | Hungarian):
        specs = [specs]
    steps = tuple(get_step(spec) for spec in specs)
    if any(isinstance(step, Whiten) for step in steps[1:]):
        raise DataError(
            "whitening changes the query vectors: it is the first step, or none",
            found=" -> ".join(step.name for step in steps),
        )
    return steps


def whiten_queries(
    embeddings: Embeddings, *, shrinkage: float | Literal["auto"] = "auto"
) -> Embeddings:
    """Centre and whiten the query vectors of each person; see :class:`Whiten`."""
    return Whiten(shrinkage).apply(embeddings)


def csls(similarity: Similarity, *, k: int = 10) -> Similarity:
    """Scores by cross-domain similarity local scaling; see :class:`CSLS`."""
    return CSLS(k).apply(similarity)


def sinkhorn(
    similarity: Similarity, *, temperature: float = 0.05, iterations: int = 200
) -> Similarity:
    """Logarithm of the transport plan of the scores; see :class:`Sinkhorn`."""
    return Sinkhorn(temperature, iterations).apply(similarity)


def hungarian(similarity: Similarity) -> Similarity:
    """Scores with the one-to-one assignment in front; see :class:`Hungarian`."""
    return Hungarian().apply(similarity)


def _people(table: pd.DataFrame) -> list[tuple[str, Rows]]:
    """Rows of every person, with what to call the person in an error."""
    if "subject" not in table:
        return [("", np.arange(len(table)))]
    names = table["subject"].astype(str)
    groups = names.groupby(names).indices
    return [(f" (subject {who})" if who else "", np.asarray(rows)) for who, rows in groups.items()]


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """Word and parameters of a text such as ``csls(k=10)``."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        head: ast.expr = node if call is None else call.func
        named: Sequence[ast.keyword] = () if call is None else call.keywords
        if not isinstance(head, ast.Name) or (call is not None and call.args):
            raise ValueError
        values = {str(item.arg): _literal(item.value) for item in named}
    except (SyntaxError, ValueError):
        raise DataError(
            f"{text!r} does not name a transductive step",
            expected="a form like 'hungarian' or 'csls(k=10)'",
        ) from None
    return head.id, values


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _positive_int(step: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise DataError(f"{step}: {name} is no number of things", found=repr(value), expected="1..")

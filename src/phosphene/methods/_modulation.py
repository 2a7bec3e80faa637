"""How similarities to the names of candidates change similarities to their pictures.

Pure functions of M (brain to pictures) and X (brain to names), both (queries, candidates) cosines:

    none           M
    product        M + M X
    gate_max       product for queries with max_j X_ij >= threshold, else M
    gate_margin    the same with the largest minus the second largest X_ij
    gate_expected  the same with sum_j softmax(M_i / tau)_j X_ij
    log_fusion     log softmax(M_i / tau_v) + beta log softmax(X_i / tau_t)
    per_candidate  M_ij (1 + relu(X_ij - threshold))

These read one query at a time and no answers. Two more are there to reproduce published numbers
only; with t(i) the true candidate of query i, m_i = X_it(i) >= limit, which is the answer:

    oracle_row     product for queries with m_i = 1; limit = mean - 1.96 sd / sqrt(n)
    oracle_outer   M + (m m^T) M X; limit = mean - 1.645 sd, m_j that of the queries of candidate j
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch

from phosphene.errors import DataError

LABEL_FREE = (
    "none",
    "product",
    "gate_max",
    "gate_margin",
    "gate_expected",
    "log_fusion",
    "per_candidate",
)
ORACLE = ("oracle_row", "oracle_outer")
FITTED = LABEL_FREE[2:]

_TAUS = (0.02, 0.05, 0.1, 0.2)
_BETAS = (0.0, 0.1, 0.3, 1.0)


def check_rule(rule: str) -> None:
    """Refuse a rule that does not exist."""
    if rule not in (*LABEL_FREE, *ORACLE):
        raise DataError(
            "unknown text_modulation",
            found=repr(rule),
            expected=", ".join((*LABEL_FREE, *ORACLE)),
        )


def modulate(
    rule: str, m: torch.Tensor, x: torch.Tensor, values: Mapping[str, float]
) -> torch.Tensor:
    """Scores (queries, candidates) by a rule that reads no answers.

    Parameters
    ----------
    rule : str
        One of ``LABEL_FREE``.
    m, x : torch.Tensor, shape (queries, candidates)
        Similarity to pictures and to names.
    values : mapping
        ``threshold``, ``tau``, ``tau_v``, ``tau_t``, ``beta``: what the rule asks for.

    Examples
    --------
    >>> m, x = torch.tensor([[0.4, 0.5]]), torch.tensor([[0.5, 0.0]])
    >>> modulate("product", m, x, {})
    tensor([[0.6000, 0.5000]])
    """
    if rule == "none":
        return m
    if rule == "product":
        return m + m * x
    if rule == "log_fusion":
        pictures = torch.log_softmax(m / values["tau_v"], dim=1)
        return pictures + values["beta"] * torch.log_softmax(x / values["tau_t"], dim=1)
    if rule == "per_candidate":
        return m * (1 + torch.relu(x - values["threshold"]))
    certain = gate_statistic(rule, m, x, values) >= values["threshold"]
    return torch.where(certain[:, None], m + m * x, m)


def gate_statistic(
    rule: str, m: torch.Tensor, x: torch.Tensor, values: Mapping[str, float]
) -> torch.Tensor:
    """What a gate compares with its threshold, one number per query."""
    if rule == "gate_max":
        return x.amax(dim=1)
    if rule == "gate_margin":
        if x.shape[1] < 2:
            return torch.zeros_like(x[:, 0])
        best = x.topk(2, dim=1).values
        return best[:, 0] - best[:, 1]
    return (torch.softmax(m / values["tau"], dim=1) * x).sum(dim=1)


def fit_values(rule: str, m: torch.Tensor, x: torch.Tensor, true: torch.Tensor) -> dict[str, float]:
    """The values of a rule with the largest mean reciprocal rank on held-out training concepts.

    Of equal ones the first is taken. Thresholds are tried at the deciles of what they limit.

    Parameters
    ----------
    rule : str
        One of ``FITTED``.
    m, x : torch.Tensor, shape (trials, stimuli)
        Similarities of the held-out trials.
    true : torch.Tensor of int, shape (trials,)
        Column of what was seen.
    """
    tried = _grid(rule, m, x)
    scores = [_reciprocal_rank(modulate(rule, m, x, values), true) for values in tried]
    return tried[max(range(len(tried)), key=scores.__getitem__)]


def _grid(rule: str, m: torch.Tensor, x: torch.Tensor) -> list[dict[str, float]]:
    if rule == "log_fusion":
        return [
            {"tau_v": v, "tau_t": t, "beta": b}
            for v, t, b in itertools.product(_TAUS, _TAUS, _BETAS)
        ]
    if rule == "per_candidate":
        return [{"threshold": value} for value in _deciles(x.flatten())]
    if rule == "gate_expected":
        return [
            {"tau": tau, "threshold": value}
            for tau in _TAUS
            for value in _deciles(gate_statistic(rule, m, x, {"tau": tau}))
        ]
    return [{"threshold": value} for value in _deciles(gate_statistic(rule, m, x, {}))]


def _deciles(values: torch.Tensor) -> list[float]:
    # Sorting instead of torch.quantile, which refuses more than 16 million values.
    ordered = values.sort().values
    return [float(ordered[round(k * (len(ordered) - 1) / 10)]) for k in range(11)]


def _reciprocal_rank(scores: torch.Tensor, true: torch.Tensor) -> float:
    own = scores.gather(1, true[:, None])
    return float((1.0 / (scores >= own).sum(dim=1)).mean())


def modulate_oracle(
    rule: str, m: torch.Tensor, x: torch.Tensor, true: torch.Tensor
) -> torch.Tensor:
    """Scores by a rule that reads the answers; ``true`` (queries,) is the column seen."""
    own = x.gather(1, true[:, None])[:, 0]
    sd = own.std() if len(own) > 1 else torch.zeros_like(own[0])
    row = rule == "oracle_row"
    limit = own.mean() - (1.96 * sd / len(own) ** 0.5 if row else 1.645 * sd)
    sure = (own >= limit).to(m.dtype)
    gate = sure[:, None]
    if not row:
        columns = torch.zeros(m.shape[1], dtype=m.dtype).index_add_(0, true, sure).clamp_(max=1)
        gate = gate * columns
    return m + gate * m * x

"""Rules of text modulation against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from phosphene.errors import DataError
from phosphene.methods._modulation import check_rule, fit_values, modulate, modulate_oracle

M = torch.tensor([[0.4, 0.5, 0.0], [0.2, 0.6, 0.4], [0.1, 0.0, 0.8]], dtype=torch.float64)
X = torch.tensor([[0.5, 0.0, 0.1], [0.2, 0.3, 0.2], [0.0, -0.5, 0.6]], dtype=torch.float64)
PRODUCT = torch.tensor([[0.6, 0.5, 0.0], [0.24, 0.78, 0.48], [0.1, 0.0, 1.28]]).double()


def test_rules_by_hand() -> None:
    assert torch.equal(modulate("none", M, X, {}), M)
    torch.testing.assert_close(modulate("product", M, X, {}), PRODUCT, atol=1e-7, rtol=0)
    gated = PRODUCT.clone()
    gated[1] = M[1]  # largest names .5, .3, .6; margins .4, .1, .6
    for rule, threshold in (("gate_max", 0.5), ("gate_margin", 0.35)):
        found = modulate(rule, M, X, {"threshold": threshold})
        torch.testing.assert_close(found, gated, atol=1e-7, rtol=0)
    # At a tau of .001 the expectation is X at the largest M: 0, .3, .6.
    found = modulate("gate_expected", M, X, {"tau": 0.001, "threshold": 0.25})
    torch.testing.assert_close(
        found, torch.stack([M[0], PRODUCT[1], PRODUCT[2]]), atol=1e-7, rtol=0
    )
    found = modulate("per_candidate", M, X, {"threshold": 0.2})
    by_hand = torch.tensor([[0.52, 0.5, 0.0], [0.2, 0.66, 0.4], [0.1, 0.0, 1.12]]).double()
    torch.testing.assert_close(found, by_hand, atol=1e-7, rtol=0)
    fused = modulate("log_fusion", M, X, {"tau_v": 1.0, "tau_t": 0.5, "beta": 2.0})
    by_hand = torch.log(torch.softmax(M, 1)) + 2 * torch.log(torch.softmax(2 * X, 1))
    torch.testing.assert_close(fused, by_hand)


def test_oracle_rules_by_hand() -> None:
    true = torch.arange(3)  # own .5, .3, .6: mean .4667, sd .1528
    row = modulate_oracle("oracle_row", M, X, true)  # limit .294: all
    torch.testing.assert_close(row, PRODUCT, atol=1e-7, rtol=0)
    x = X.clone()
    x[1, 1] = -0.9  # own .5, -.9, .6: mean .0667, sd .8386, row limit -.882
    assert torch.equal(modulate_oracle("oracle_row", M, x, true)[1], M[1])
    far = torch.eye(8, dtype=torch.float64)
    far[7, 7] = -5.0  # mean .25, sd 2.12, limit -3.24
    ones = torch.ones_like(far)
    outer = modulate_oracle("oracle_outer", ones, far, torch.arange(8))
    assert outer.diagonal().tolist() == [2.0] * 7 + [1.0]


def test_values_are_those_that_rank_best() -> None:
    # Names help where they are certain and mislead where they are not.
    m = torch.tensor([[0.5, 0.6], [0.6, 0.5]], dtype=torch.float64)
    x = torch.tensor([[0.9, 0.0], [0.0, 0.4]], dtype=torch.float64)
    values = fit_values("gate_max", m, x, torch.tensor([0, 0]))
    assert 0.4 < values["threshold"] <= 0.9
    assert modulate("gate_max", m, x, values).argmax(1).tolist() == [0, 0]


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(DataError, match="text_modulation"):
        check_rule("gate")

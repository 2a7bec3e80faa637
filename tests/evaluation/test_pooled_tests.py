"""Pooled tests against hand-worked values; the crossed one against its interval and coverage."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from phosphene.errors import DataError
from phosphene.evaluation.pooled_tests import anova, crossed_test, signed_ranks, t_test, tukey
from phosphene.evaluation.statistics import group_interval

GROUPS = {"a": [6.0, 8.0, 4.0, 5.0, 3.0, 4.0], "b": [8.0, 12.0, 9.0, 11.0, 6.0, 8.0],
          "c": [13.0, 9.0, 11.0, 8.0, 7.0, 12.0]}  # fmt: skip


def test_anova_by_hand() -> None:
    # Means 5, 9, 10, grand mean 8: between 6 (9 + 1 + 4) = 84; within 16 + 24 + 28 = 68.
    found = anova(GROUPS)
    assert found.statistic == pytest.approx((84 / 2) / (68 / 15))
    assert found.df == (2.0, 15.0)
    assert found.p_value == pytest.approx(stats.f.sf(42 / (68 / 15), 2, 15))
    assert found.n == 18


def test_tukey_by_hand() -> None:
    table = tukey(GROUPS).set_index(["first", "second"])
    assert list(table.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table["difference"].tolist() == pytest.approx([-4.0, -5.0, -1.0])
    # Studentised range: |difference| / sqrt(mean square within / n), three groups, 15 df.
    q = 4 / np.sqrt(68 / 15 / 6)
    expected = stats.studentized_range.sf(q, 3, 15)
    assert table.loc[("a", "b"), "p_value"] == pytest.approx(expected, rel=1e-6)
    half = stats.studentized_range.ppf(0.95, 3, 15) * np.sqrt(68 / 15 / 6)
    assert table.loc[("a", "b"), "low"] == pytest.approx(-4 - half, rel=1e-6)
    assert table.loc[("a", "b"), "high"] == pytest.approx(-4 + half, rel=1e-6)


def test_t_by_hand() -> None:
    found = t_test(GROUPS["b"], GROUPS["a"])  # 4 / sqrt(pooled variance 4 (1/6 + 1/6))
    assert found.statistic == pytest.approx(4 / np.sqrt(4 / 3))
    assert found.df == (10.0,)
    assert found.p_value == pytest.approx(2 * stats.t.sf(4 / np.sqrt(4 / 3), 10))


def test_signed_ranks_by_hand() -> None:
    # Differences 1, 2, -3, 4, 5 and one of zero, left out: ranks against are 3 of 15. Sums of 3 or
    # less come from {}, {1}, {2}, {3}, {1, 2}: five of 32, twice.
    found = signed_ranks([1.0, 2.0, 0.0, 4.0, 5.0, 7.0], [0.0, 0.0, 3.0, 0.0, 0.0, 7.0])
    assert found.statistic == 3.0
    assert found.p_value == pytest.approx(10 / 32)
    assert found.n == 5
    assert signed_ranks([1.0, 2.0], [1.0, 2.0]).p_value == 1.0


def gaps(shift: float, seed: int, people: int = 5, stimuli: int = 20) -> pd.DataFrame:
    """A mean, effects of people and of stimuli, and noise."""
    rng = np.random.default_rng(seed)
    value = shift + 0.5 * rng.standard_normal((people, 1)) + rng.standard_normal((1, stimuli))
    value = value + rng.standard_normal((people, stimuli))
    who, what = np.indices(value.shape)
    table = pd.DataFrame({"subject": who.ravel().astype(str), "stimulus": what.ravel().astype(str)})
    return table.assign(gap=value.ravel())


def test_the_interval_is_the_group_interval_and_p_is_its_level_at_zero() -> None:
    table = gaps(0.8, 1)
    found = crossed_test(table, "gap")
    assert (found.low, found.high) == pytest.approx(group_interval(table, "gap"))
    assert found.mean == pytest.approx(table["gap"].mean())
    assert 1e-6 < found.p_value < 0.999
    low, high = group_interval(table, "gap", level=1 - found.p_value)
    assert min(abs(low), abs(high)) == pytest.approx(0.0, abs=1e-6)
    mirrored = crossed_test(table.assign(gap=-table["gap"]), "gap")
    assert mirrored.p_value == pytest.approx(found.p_value)
    assert (found.subjects, found.stimuli) == (5, 20)


def test_pooling_finds_differences_where_there_are_none_and_the_crossed_test_does_not() -> None:
    pooled, crossed = [], []
    for seed in range(60):
        table = gaps(0.0, 100 + seed)
        values = table["gap"].to_numpy()
        pooled.append(t_test(values, -values).p_value < 0.05)
        crossed.append(crossed_test(table, "gap", n=300).p_value < 0.05)
    assert np.mean(pooled) > 0.3
    assert np.mean(crossed) < 0.15  # .05 within three standard errors of 60 draws


def test_one_person_or_stimulus_and_no_difference() -> None:
    table = gaps(2.0, 3)
    one = table[table["subject"] == "0"]
    found = crossed_test(one, "gap")
    assert (found.low, found.high) == pytest.approx(group_interval(one, "gap"))
    assert found.p_value < 0.01
    single = crossed_test(table[table["stimulus"] == "0"], "gap")
    assert np.isnan([single.low, single.p_value]).all()
    assert np.isfinite(single.mean)
    assert crossed_test(table.assign(gap=0.0), "gap").p_value == 1.0
    assert crossed_test(table.assign(gap=3.0), "gap").p_value < 1e-6


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="two or more values"):
        anova({"a": [1.0, 2.0], "b": [3.0]})
    with pytest.raises(DataError, match="two or more"):
        tukey({"a": [1.0, 2.0]})
    with pytest.raises(DataError, match="NaN"):
        t_test([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(DataError, match="two values each"):
        signed_ranks([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="NaN"):
        crossed_test(gaps(0.0, 0).assign(gap=np.inf), "gap")

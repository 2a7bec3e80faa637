from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from phosphene.errors import DataError
from phosphene.evaluation.statistics import (
    bootstrap_interval,
    chance_by_permutation,
    group_interval,
)


def test_interval_of_a_mean_against_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    low, high = bootstrap_interval(values, n=8000)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert low == pytest.approx(oracle.low, abs=0.015)
    assert high == pytest.approx(oracle.high, abs=0.015)


def test_interval_of_a_median_against_scipys_bootstrap() -> None:
    values = np.random.default_rng(2).integers(1, 30, size=61).astype(float)
    low, high = bootstrap_interval(values, statistic="median", n=4000)
    oracle = stats.bootstrap(
        (values,), np.median, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert low == pytest.approx(oracle.low, abs=1.0)
    assert high == pytest.approx(oracle.high, abs=1.0)


def test_median_of_an_even_sample_is_the_middle() -> None:
    # Two stimuli: each replicate is (0, 0), (0, 1) or (1, 1), with medians 0, .5, 1.
    from phosphene.evaluation.statistics import _resampled

    weights = np.array([[2, 0], [1, 1], [0, 2]])
    found = _resampled(np.array([0.0, 1.0]), np.array([0, 1]), weights, "median")
    assert found.tolist() == [0.0, 0.5, 1.0]


def test_trials_of_one_stimulus_go_together() -> None:
    rng = np.random.default_rng(3)
    per_stimulus = rng.normal(size=25)
    values, stimuli = np.repeat(per_stimulus, 40), np.repeat([f"s{i}" for i in range(25)], 40)
    together = bootstrap_interval(values, stimuli)
    alone = bootstrap_interval(per_stimulus)
    as_if_independent = bootstrap_interval(values)
    assert np.diff(together)[0] == pytest.approx(np.diff(alone)[0], rel=0.1)
    assert np.diff(as_if_independent)[0] < 0.25 * np.diff(alone)[0]


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, random_state=1)


def test_all_right_is_not_certainty() -> None:
    low, high = bootstrap_interval(np.ones(20), bounds=(0, 1))
    exact = stats.binomtest(20, 20).proportion_ci(0.95)
    assert (low, high) == (pytest.approx(exact.low), 1.0)
    low, high = bootstrap_interval(np.zeros(20), bounds=(0, 1))
    assert (low, high) == (0.0, pytest.approx(1 - exact.low))


def test_one_stimulus_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval([1.0])).all()
    assert np.isnan(bootstrap_interval([1.0, 0.0], ["a", "a"])).all()


def test_nan_and_emptiness_are_errors() -> None:
    with pytest.raises(DataError, match="1 of 2"):
        bootstrap_interval([1.0, np.nan])
    with pytest.raises(DataError, match="one score per query"):
        bootstrap_interval([])


def study(
    rng: np.random.Generator, n_subjects: int, n_stimuli: int, sd: tuple[float, float, float]
) -> pd.DataFrame:
    people, images, rest = sd
    values = (
        people * rng.normal(size=(n_subjects, 1))
        + images * rng.normal(size=(1, n_stimuli))
        + rest * rng.normal(size=(n_subjects, n_stimuli))
    )
    return pd.DataFrame(
        {
            "subject": np.repeat([f"{i:02d}" for i in range(n_subjects)], n_stimuli),
            "stimulus": np.tile([f"s{i}" for i in range(n_stimuli)], n_subjects),
            "value": values.ravel(),
        }
    )


@pytest.mark.parametrize("n_subjects", [4, 10])
def test_coverage_of_the_crossed_interval(n_subjects: int) -> None:
    rng = np.random.default_rng(n_subjects)
    covered = 0
    for _ in range(120):
        low, high = group_interval(study(rng, n_subjects, 30, (0.3, 0.5, 1.0)), "value", n=300)
        covered += low <= 0 <= high
    # 95 % aimed at; the binomial margin of 120 studies is about 4 points.
    assert covered / 120 >= 0.9


def test_images_alone_understate_the_interval() -> None:
    table = study(np.random.default_rng(7), 8, 60, (0.5, 0.3, 1.0))
    crossed = np.diff(group_interval(table, "value"))[0]
    images = np.diff(bootstrap_interval(table.groupby("stimulus")["value"].mean().to_numpy()))[0]
    assert crossed > 1.5 * images


def test_group_of_one_is_the_interval_over_stimuli() -> None:
    table = study(np.random.default_rng(8), 1, 40, (0, 1, 1))
    assert group_interval(table, "value") == bootstrap_interval(
        table["value"], table["stimulus"].to_numpy()
    )


def test_subjects_with_different_stimuli_are_accepted() -> None:
    table = study(np.random.default_rng(9), 3, 6, (0.2, 0.2, 1))
    table["stimulus"] = table["subject"] + table["stimulus"]
    low, high = group_interval(table, "value")
    assert low < table.groupby("subject")["value"].mean().mean() < high


def test_bounds_are_kept() -> None:
    rng = np.random.default_rng(10)
    table = study(rng, 3, 20, (0, 0, 0)).assign(value=(rng.random(60) < 0.97).astype(float))
    low, high = group_interval(table, "value", bounds=(0, 1))
    assert 0 <= low < high <= 1


def test_chance_by_permutation(make_similarity) -> None:  # type: ignore[no-untyped-def]
    good = chance_by_permutation(make_similarity(40, ("01", "02"), signal=3.0), n=300)
    assert good.mean == pytest.approx(1 / 40, abs=0.004)
    assert good.p_value == pytest.approx(1 / 301)
    assert good.observed > good.upper(0.999)
    nothing = chance_by_permutation(make_similarity(40, signal=0.0, seed=1), "two_way", n=300)
    assert nothing.p_value > 0.01
    assert nothing.mean == pytest.approx(0.5, abs=0.01)
    for metric, exact in (("top5", 5 / 40), ("reciprocal_rank", (1 / np.arange(1, 41)).mean())):
        null = chance_by_permutation(make_similarity(40), metric, n=400)
        assert null.mean == pytest.approx(exact, abs=0.01)
    with pytest.raises(DataError, match="top1"):
        chance_by_permutation(make_similarity(4), "mAP", n=2)


def test_permutation_stays_within_the_subject(make_similarity) -> None:  # type: ignore[no-untyped-def]
    scores = make_similarity(10, ("01", "02"))
    # Subject 02 scores everything alike, so its expected score is the same in every pairing.
    matrix = scores.matrix.copy()
    matrix[10:] = 0.0
    flat = type(scores)(matrix, scores.queries, scores.gallery_ids)
    null = chance_by_permutation(flat, n=50).null
    own = chance_by_permutation(flat.select(np.arange(10)), n=50).null
    assert (null - 0.05) * 20 == pytest.approx(np.round((null - 0.05) * 20))
    assert own.std() > 0

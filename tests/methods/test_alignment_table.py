"""The table of an aligned space and its controls, in worlds where the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from phosphene import BrainAligner
from phosphene.errors import DataError, LeakError
from phosphene.evaluation.identification import identification
from phosphene.evaluation.rsm import similarity_matrix, upper
from phosphene.methods._alignment_controls import maps_without_brain
from phosphene.methods.alignment_table import (
    ROWS,
    AlignmentTable,
    alignment_table,
    ridge_decoder,
)
from phosphene.simulation.rsm_world import RSMWorld, rsm_world

PAPER: dict[str, Any] = {"variant": "autoencoder", "alpha": 0.01}


def table_of(world: RSMWorld, settings: dict[str, Any], **options: Any) -> AlignmentTable:
    rsms = {s: similarity_matrix(x) for s, x in world.responses.items()}
    return alignment_table(
        BrainAligner(**settings),
        world.vectors,
        rsms,
        train=world.train,
        test=world.test,
        categories=world.categories,
        decode=ridge_decoder(world.responses, world.train, world.test),
        candidates=world.candidate_vectors,
        **({"subjects": ["subject1"]} | options),
    )


def identification_gains(
    seeds: range, settings: dict[str, Any], controls: tuple[str, ...], structure: Any = "shared"
) -> dict[str, np.ndarray]:
    """Aligned less control in the mean identification of every data seed."""
    found: dict[str, list[float]] = {control: [] for control in controls}
    for seed in seeds:
        world = rsm_world(0.7, 1.5, structure=structure, seed=seed)
        means = table_of(world, settings | {"random_state": seed}).means()["identification"]
        for control in controls:
            found[control].append(means["aligned"] - means[control])
    return {control: np.array(values) for control, values in found.items()}


def low(gains: np.ndarray) -> float:
    """Lower end of the 95 % interval of the mean over data seeds."""
    half = scipy.stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean() - half)


@pytest.fixture(scope="module")
def small() -> RSMWorld:
    return rsm_world(n_train=40, n_test=12, n_candidates=30, n_subjects=3)


def test_scores_by_hand(small: RSMWorld) -> None:
    settings = {"alpha": 0.01, "penalty": 0.1}
    table = table_of(small, settings, subjects=None, draws=2)
    assert set(table.subjects["row"]) == set(ROWS)
    assert (table.subjects["row"] == "shuffled").sum() == 2 * 3
    rsms = {s: similarity_matrix(x) for s, x in small.responses.items()}
    mean = small.vectors[:40].mean(axis=0, dtype=float)
    centred = similarity_matrix(small.vectors - mean)
    rows = table.subjects.set_index(["row", "subject"])
    expected = scipy.stats.spearmanr(upper(centred[40:, 40:]), upper(rsms["subject2"][40:, 40:]))[0]
    assert rows.loc[("centred", "subject2"), "rsa_test"] == pytest.approx(expected, abs=1e-6)
    queries = table.queries.set_index(["row", "subject"])
    profile = identification(rsms["subject2"][40:, :40], centred[40:, :40])
    np.testing.assert_allclose(queries.loc[("centred", "subject2"), "profile"], profile)
    alone = BrainAligner(**settings).fit(
        small.vectors[:40],
        {s: rsm[:40, :40] for s, rsm in rsms.items()},
        leave_out="subject2",
    )
    z = alone.transform(small.vectors).astype(float)
    x = small.responses["subject2"].astype(float)
    x = (x - x[:40].mean(axis=0)) / x[:40].std(axis=0)
    weights = np.linalg.solve(x[:40].T @ x[:40] + 100 * np.eye(300), x[:40].T @ (z[:40] - z[:40].mean(axis=0)))  # fmt: skip  # noqa: E501
    predicted = x[40:] @ weights + z[:40].mean(axis=0)
    expected = identification(predicted, z[40:], alone.transform(small.candidate_vectors))
    np.testing.assert_allclose(
        queries.loc[("aligned", "subject2"), "identification"], expected, atol=0.05
    )
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted, z[40:], strict=True)]
    np.testing.assert_allclose(queries.loc[("aligned", "subject2"), "correlation"], r, atol=1e-3)


def test_maps_that_know_no_brain(small: RSMWorld) -> None:
    train = small.vectors[:40].astype(float)
    maps = maps_without_brain(train, 10, 0.5)
    centred = train - train.mean(axis=0)
    gram = centred @ centred.T
    inverse = np.linalg.inv(gram + 0.5 * np.trace(gram) / 39 * np.eye(40))
    # A linear aligner whose target has all categories equally far from one another.
    whitened = maps["whitened"](train)
    np.testing.assert_allclose(whitened @ whitened.T, gram @ inverse @ inverse @ gram, atol=1e-9)
    pca = maps["pca"](train)
    np.testing.assert_allclose(np.square(pca).sum(axis=0), np.linalg.eigvalsh(gram)[:-11:-1])
    np.testing.assert_array_equal(maps["original"](train), train)


def test_summaries(small: RSMWorld) -> None:
    table = table_of(small, {"alpha": 0.01, "penalty": 0.1}, subjects=None, draws=1)
    means, gains = table.means(), table.gains("whitened").set_index("score")
    assert list(means.index) == list(ROWS)
    gap = means.loc["aligned"] - means.loc["whitened"]
    np.testing.assert_allclose(gains["gain"], gap[gains.index], atol=1e-9)
    assert (gains["low"] < gains["gain"]).all()
    assert (gains["gain"] < gains["high"]).all()
    kinds = {name: "ab"[i % 2] for i, name in enumerate(small.categories)}
    by = table.gain_by(kinds)
    assert by["identification"].mean() == pytest.approx(
        means.loc["aligned", "identification"] - means.loc["original", "identification"]
    )
    with pytest.raises(DataError, match="unknown control"):
        table.gains("better")


def test_test_categories_never_reach_the_aligner(small: RSMWorld) -> None:
    """Aligners, and so all controls, are the same whatever the test categories look like."""
    first = table_of(small, {"alpha": 0.01}, draws=0).aligners["subject1"]
    changed = {s: x.copy() for s, x in small.responses.items()}
    for x in changed.values():
        x[small.test] = np.random.default_rng(0).normal(size=x[small.test].shape)
    rsms = {s: similarity_matrix(x) for s, x in changed.items()}
    second = alignment_table(
        BrainAligner(alpha=0.01), small.vectors, rsms, train=small.train, test=small.test,
        subjects=["subject1"], draws=0,
    ).aligners["subject1"]  # fmt: skip
    np.testing.assert_array_equal(first.arrays_["map"], second.arrays_["map"])
    with pytest.raises(LeakError):
        alignment_table(
            BrainAligner(), small.vectors, rsms, train=range(40), test=range(39, 52)
        )  # fmt: skip


def test_default_gains_over_every_control_in_the_shared_world_only() -> None:
    """A quick version of the slow test below; margins are half of what twelve seeds measured."""
    settings = {"alpha": 0.001, "penalty": 0.01}
    shared = identification_gains(range(3), settings, ("original", "whitened", "shuffled"))
    assert shared["original"].min() > 0.2
    assert shared["whitened"].mean() > 0.008
    assert shared["shuffled"].mean() > 0.025


@pytest.mark.slow
def test_acceptance_in_the_shared_world() -> None:
    seeds = range(12)
    paper = identification_gains(seeds, PAPER, ("original", "shuffled"))
    assert paper["original"].mean() >= 0.03
    assert paper["shuffled"].mean() >= 0.02
    assert low(paper["original"]) > 0
    assert low(paper["shuffled"]) > 0
    default = identification_gains(seeds, {}, ("original", "whitened", "shuffled"))
    assert default["original"].mean() >= paper["original"].mean()
    assert low(default["whitened"]) > 0
    assert low(default["shuffled"]) > 0


@pytest.mark.slow
def test_an_unrelated_brain_gains_nothing_beyond_the_controls() -> None:
    for settings in (PAPER, {}):
        gains = identification_gains(range(12), settings, ("shuffled",), "unrelated")["shuffled"]
        # No sign of a gain: the interval does not lie above zero by more than a hair.
        assert low(gains) < 0.005
        assert gains.mean() < 0.02


def test_other_aligners_are_rows_that_are_no_controls(small: RSMWorld) -> None:
    brain = {s: similarity_matrix(x) for s, x in small.responses.items()}
    names, learn = list(small.categories), np.arange(small.n_train)
    left = {s: {k: r[np.ix_(learn, learn)] for k, r in brain.items() if k != s} for s in brain}
    y = small.vectors.astype(float)
    fitted = BrainAligner(alpha=0.1, penalty=3.0).fit_each(
        y[learn], left, categories=names[: small.n_train]
    )
    options: dict[str, Any] = {
        "train": small.train, "test": small.test, "categories": names, "draws": 1,
        "decode": ridge_decoder(small.responses, small.train, small.test),
    }  # fmt: skip
    aligner = BrainAligner(alpha=0.01, penalty=0.1)
    table = alignment_table(aligner, y, brain, others={"smooth": fitted}, **options)
    assert table.rows == ["aligned", "smooth", *ROWS[1:]]
    assert list(table.means().index) == table.rows
    # The row is that of a table whose own aligner it is.
    own = alignment_table(BrainAligner(alpha=0.1, penalty=3.0), y, brain, **options)
    np.testing.assert_allclose(table.means().loc["smooth"], own.means().loc["aligned"], rtol=1e-6)
    gap = table.means().loc["aligned"] - table.means().loc["smooth"]
    gains = table.gains("smooth").set_index("score")["gain"]
    np.testing.assert_allclose(gains, gap[gains.index])
    # What tests need: z of the truth, of another query's, and the mean over all others.
    mine = table.queries[
        (table.queries["row"] == "original") & (table.queries["subject"] == "subject1")
    ]
    z = np.arctanh(mine["correlation"].to_numpy())
    np.testing.assert_allclose(mine["z_truth"], z)
    predicted = options["decode"]("subject1", y[learn])
    every = np.arctanh(np.corrcoef(predicted, y[small.test])[: len(z), len(z) :])
    np.fill_diagonal(every, np.nan)
    np.testing.assert_allclose(mine["z_others"], np.nanmean(every, axis=1))
    places = [
        int(np.nanargmin(np.abs(row - v))) for row, v in zip(every, mine["z_shuffled"], strict=True)
    ]
    assert sorted(places) == list(range(len(z)))  # each truth once, never the own
    with pytest.raises(DataError, match="names of their own"):
        alignment_table(aligner, y, brain, others={"pca": fitted}, **options)
    with pytest.raises(DataError, match="no aligner for subject1"):
        alignment_table(aligner, y, brain, others={"smooth": {}}, **options)
    knowing = {
        s: BrainAligner(alpha=0.1, penalty=3.0).fit(y, brain, categories=names) for s in brain
    }
    with pytest.raises(LeakError, match="fitted on test categories"):
        alignment_table(aligner, y, brain, others={"smooth": knowing}, **options)

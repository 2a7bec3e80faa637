"""Scores of reconstructed pictures: rows, bounds, gains."""

from __future__ import annotations

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.evaluation.image_networks import Network
from phosphene.runs.picture_scores import SHUFFLED, PictureScores, derangement, score_pictures

N = 12
NETWORKS = {"small": Network.from_callable(lambda x: x, id="pixels", image_size=8)}
IDS = [f"c{i:02d}/1.png" for i in range(N)]


def make_scores(subject: str = "01") -> PictureScores:
    rng = np.random.default_rng(int(subject))
    truths = np.random.default_rng(9).random((N, 16, 16, 3))
    rows = {
        "close": (0.8 * truths + 0.2 * rng.random(truths.shape))[:, None],
        "far": (0.1 * truths + 0.9 * rng.random(truths.shape))[:, None],
    }
    return score_pictures(rows, truths, IDS, modality="eeg", subject=subject, networks=NETWORKS,
                          shuffled="close")  # fmt: skip


def test_every_row_is_scored_by_every_metric_and_shuffling_takes_it_away() -> None:
    table = make_scores().table().set_index(["row", "metric"])
    assert {row for row, _ in table.index} == {"close", "far", SHUFFLED}
    assert {metric for _, metric in table.index} == {"PixCorr", "SSIM", "small"}
    assert table.loc[("close", "small"), "value"] > 0.95
    assert table.loc[("close", "PixCorr"), "value"] > table.loc[("far", "PixCorr"), "value"]
    assert table.loc[(SHUFFLED, "small"), "value"] < 0.65
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table.loc[("far", "small"), "chance"] == 0.5


def test_gains_are_positive_for_the_better_row_whichever_direction_is_better() -> None:
    scores = make_scores()
    gains = scores.gains("close", "far", "eeg").set_index("metric")
    assert (gains["gain"] > 0).all()
    assert (gains.loc["PixCorr"][["low"]] > 0).all()
    scores.facts.loc["PixCorr", "better"] = "lower"
    turned = scores.gains("close", "far", "eeg").set_index("metric")
    assert turned.loc["PixCorr", "gain"] == -gains.loc["PixCorr", "gain"]
    assert turned.loc["PixCorr", "low"] == -gains.loc["PixCorr", "high"]
    with pytest.raises(DataError, match="no such row"):
        scores.gains("close", "nothing", "eeg")


def test_people_are_pooled_by_their_means() -> None:
    both = PictureScores.join([make_scores("01"), make_scores("02")])
    table = both.table().set_index(["row", "metric"])
    own = both.per_image[(both.per_image["row"] == "far") & (both.per_image["metric"] == "PixCorr")]
    expected = own.groupby("subject")["value"].mean().mean()
    assert table.loc[("far", "PixCorr"), "value"] == pytest.approx(expected)
    assert table.loc[("far", "PixCorr"), "n_subjects"] == 2
    assert len(both.gains("close", "far", "eeg")) == 3
    with pytest.raises(DataError, match="no scores"):
        PictureScores.join([])


@pytest.mark.parametrize("n", [2, 3, 50])
def test_a_derangement_moves_everything(n: int) -> None:
    order = derangement(n)
    assert sorted(order) == list(range(n))
    assert (order != np.arange(n)).all()


def test_one_query_cannot_be_shuffled() -> None:
    with pytest.raises(DataError, match="two queries"):
        derangement(1)

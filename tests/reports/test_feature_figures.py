"""The contact sheet of views, and what an encoder takes for alike."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, UnknownNameError
from phosphene.reports import neighbours
from phosphene.reports.neighbours import nearest_neighbours, similarity_map
from phosphene.reports.sheets import contact_sheet
from phosphene.stimuli.bank import FeatureBank

IDS = ["cat/1.png", "cat/2.png", "cup/1.png", "cup/2.png", "car/1.png"]


@pytest.fixture
def bank() -> FeatureBank:
    rng = np.random.default_rng(0)
    centres = {"cat": rng.normal(size=20), "cup": rng.normal(size=20), "car": rng.normal(size=20)}
    vectors = np.stack([centres[i.split("/")[0]] + 0.2 * rng.normal(size=20) for i in IDS])
    lengths = rng.uniform(0.1, 10, (len(IDS), 1))  # cosine does not see them
    return FeatureBank.from_arrays(IDS, {"original": lengths * vectors, "other": -vectors})


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def shown(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


def test_the_sheet_shows_one_of_every_kind() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    figure = contact_sheet(image, size=32)
    names = titles(figure)
    assert len(names) == len(shown(figure)) == 14
    kinds = {name.split("\n")[0] for name in names}
    assert kinds == {"original", "gaussian", "noise", "lowres", "mosaic", "fovea"}
    first, *others = shown(figure)
    assert first.shape == (32, 32, 3)
    assert all(np.abs(first - other).max() > 0.05 for other in others)


def test_the_sheet_shows_the_parts_of_a_mean_and_chosen_views() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    figure = contact_sheet(image, ["mean_of", "original", "gaussian(k=15)"], size=8, columns=3)
    assert [name.split("\n")[0] for name in titles(figure)] == [
        "gaussian", "noise", "lowres", "mosaic", "original",
    ]  # fmt: skip


def test_noise_on_the_sheet_follows_the_key() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    sheets = [contact_sheet(image, ["noise"], size=8, key=key) for key in ("a", "a", "b")]
    first, same, other = (shown(sheet)[0] for sheet in sheets)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_neighbours_are_those_of_largest_cosine(bank: FeatureBank) -> None:
    table = nearest_neighbours(bank, ["cat/1.png", "cup/2.png"], k=2)
    firsts = table[table["place"] == 1].set_index("stimulus")
    assert firsts["neighbour"].to_dict() == {"cat/1.png": "cat/2.png", "cup/2.png": "cup/1.png"}
    assert firsts["concept"].to_dict() == {"cat/1.png": "cat", "cup/2.png": "cup"}
    vectors = bank.vectors("original")
    a, b = vectors[0], vectors[1]
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert firsts.loc["cat/1.png", "similarity"] == pytest.approx(expected, rel=1e-5)
    assert (table["stimulus"] != table["neighbour"]).all()
    assert nearest_neighbours(bank, ["cat/1.png"], k=99)["place"].max() == 4
    with pytest.raises(DataError, match="dog"):
        nearest_neighbours(bank, ["dog/1.png"])
    with pytest.raises(DataError, match="two stimuli"):
        nearest_neighbours(bank.select(["cat/1.png"]), ["cat/1.png"])


def test_the_map_orders_alike_stimuli_next_to_one_another(bank: FeatureBank) -> None:
    figure = similarity_map(bank.select([IDS[i] for i in (0, 2, 4, 1, 3)]), probes=["cat/1.png"])
    matrix = shown(figure)[0]
    assert matrix.shape == (5, 5)
    # two pairs: each member's best neighbour stands beside it
    beside = sum(matrix[i, i + 1] > 0.9 for i in range(4))
    assert beside == 2
    with pytest.raises(UnknownNameError, match="original"):
        similarity_map(bank, view="originel")


def test_pictures_are_shown_where_there_are_some(bank: FeatureBank) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    stimuli = StimulusSet.from_arrays(IDS[:4], images)
    figure = similarity_map(bank, stimuli=stimuli, probes=["cat/1.png"], k=4)
    pictures = shown(figure)[1:]
    assert len(pictures) == 4  # the probe and three neighbours; the fifth has no picture
    assert np.array_equal(pictures[0], images[0])
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert "car" in texts


def test_large_banks_are_drawn_from(bank: FeatureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST_SHOWN", 3)
    figure = similarity_map(bank, k=2, seed=1)
    assert shown(figure)[0].shape == (3, 3)
    assert any("3 of 5 stimuli" in ax.get_xlabel() for ax in figure.axes)

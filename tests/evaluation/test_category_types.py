"""Clusters of categories are found where they are, and named by what lies in their middle."""

from __future__ import annotations

import numpy as np
import pytest

from phosphene.errors import DataError
from phosphene.evaluation.category_types import category_clusters


def test_clusters_of_directions_by_size_with_their_middle() -> None:
    rng = np.random.default_rng(0)
    sizes = (3, 9, 6)
    centres = 4 * np.linalg.qr(rng.standard_normal((12, 3)))[0].T
    vectors, names = [], []
    for k, (centre, size) in enumerate(zip(centres, sizes, strict=True)):
        noise = 0.2 * rng.standard_normal((size, 12))
        noise[0] = -noise[1:].sum(axis=0) / 50  # nearest to the middle
        vectors.append(centre + noise)
        names += [f"{'abc'[k]}{i}" for i in range(size)]
    found = category_clusters(np.concatenate(vectors), names, 3)
    assert list(found) == names
    by_letter = {letter: {found[n] for n in names if n[0] == letter} for letter in "abc"}
    assert all(len(labels) == 1 for labels in by_letter.values())
    # The largest first.
    assert [by_letter[letter].pop()[:3] for letter in "bca"] == ["1 b", "2 c", "3 a"]
    assert found["b0"] == "1 b0"
    again = category_clusters(3 + 2 * np.concatenate(vectors), names, 3)
    assert again == found


def test_bad_input_is_refused() -> None:
    vectors = np.eye(4)
    with pytest.raises(DataError, match="fewer than categories"):
        category_clusters(vectors, list("abcd"), 4)
    with pytest.raises(DataError, match="fewer than categories"):
        category_clusters(vectors, list("abcd"), 1)
    with pytest.raises(DataError, match="one vector"):
        category_clusters(vectors, list("abc"), 2)
    with pytest.raises(DataError, match="finite"):
        category_clusters(vectors * np.nan, list("abcd"), 2)

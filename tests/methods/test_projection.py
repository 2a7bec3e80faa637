"""Decoders with projectors: what space their vectors are of, and adaptation to a new subject."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from phosphene.errors import DataError, SpaceMismatchError
from phosphene.evaluation.similarity import cosine_similarity, gallery_embeddings
from phosphene.methods._contracts import ContrastiveDecoder
from phosphene.methods.neurobridge import NeuroBridge
from phosphene.methods.samga import SAMGA
from phosphene.methods.shallow_alignment import ShallowAlignment
from phosphene.methods.ssr import SSR
from phosphene.methods.ubp import UBP
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import TinyProblem, tiny_problem

METHODS: list[type[ContrastiveDecoder]] = [NeuroBridge, SSR, ShallowAlignment, SAMGA]
QUICK: dict[str, Any] = {
    "projection": 24,  # as wide as the bank, so that dimensions alone refuse nothing
    "epochs": 3,
    "batch_size": 64,
    "lr": 3e-3,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


@pytest.fixture(scope="module", params=METHODS, ids=lambda method: method.__name__)
def decoder(request: pytest.FixtureRequest, problem: TinyProblem) -> Any:
    return request.param(**QUICK).fit(problem.train, problem.bank, progress=False)


def test_vectors_are_of_the_projected_space_and_refuse_the_banks(
    decoder: Any, problem: TinyProblem
) -> None:
    embeddings = decoder.embed(problem.test)
    assert embeddings.space.startswith(f"projected by {type(decoder).__name__} (")
    assert embeddings.vectors.shape[1] == decoder.n_outputs_ == 24
    assert decoder.space_ == problem.bank.space(decoder.layer_)  # it is still fitted in the bank's
    raw = gallery_embeddings(problem.bank, None, decoder.gallery_view_, decoder.layer_)
    assert raw.vectors.shape[1] == 24
    with pytest.raises(SpaceMismatchError, match=r"embed_gallery[\s\S]*projectors"):
        cosine_similarity(embeddings, raw)


def test_projected_candidates_give_the_scores_of_similarity(
    decoder: Any, problem: TinyProblem
) -> None:
    ids = problem.bank.ids[5:30]
    how = {"subject": "01"} if isinstance(decoder, SAMGA) else {}
    gallery = decoder.embed_gallery(problem.bank, ids=ids, **how)
    assert list(gallery.ids) == ids
    found = cosine_similarity(decoder.embed(problem.test), gallery).matrix
    expected = decoder.similarity(problem.test, problem.bank, ids=ids).matrix
    np.testing.assert_allclose(found, expected, atol=1e-5)
    whitened = decoder.evaluate(problem.test, problem.bank, transductive="whiten")
    assert 0 <= whitened.top1 <= 1


def test_another_bank_is_refused_by_name(decoder: Any, problem: TinyProblem) -> None:
    other = FeatureBank.from_arrays(
        problem.bank.ids,
        {
            (view, layer): problem.bank.vectors(view, layer)
            for view in problem.bank.views
            for layer in problem.bank.layers
        },
        layer=problem.bank.default_layer,
    )
    for ask in (
        decoder.embed_gallery,
        lambda bank: decoder._cosine_parts(problem.test, bank, None),
    ):
        with pytest.raises(SpaceMismatchError):
            ask(other)


def test_the_space_belongs_to_the_weights(
    decoder: Any, problem: TinyProblem, tmp_path: Path
) -> None:
    space = decoder.embed(problem.test).space
    loaded = type(decoder).from_pretrained(decoder.save_pretrained(tmp_path / "model"))
    assert loaded.embed(problem.test).space == space
    assert loaded.n_outputs_ == 24
    again = type(decoder)(**QUICK, random_state=1)
    again.fit(problem.train, problem.bank, progress=False)
    with pytest.raises(SpaceMismatchError):
        cosine_similarity(again.embed(problem.test), decoder.embed_gallery(problem.bank))


def test_without_projectors_the_space_is_the_banks(problem: TinyProblem) -> None:
    settings = {**QUICK, "epochs": 1}
    bridge = NeuroBridge(**(settings | {"projection": None}))
    del settings["projection"]
    for decoder in (bridge, UBP(**settings)):
        decoder.fit(problem.train, problem.bank, progress=False)
        embeddings = decoder.embed(problem.test)
        assert embeddings.space == problem.bank.space()
        raw = gallery_embeddings(problem.bank, None, decoder.gallery_view_, decoder.layer_)
        candidates = decoder.embed_gallery(problem.bank)
        assert candidates.space == raw.space
        np.testing.assert_array_equal(candidates.vectors, raw.vectors)
        expected = decoder.similarity(problem.test, problem.bank).matrix
        np.testing.assert_allclose(cosine_similarity(embeddings, raw).matrix, expected, atol=1e-5)


def test_a_new_subject_is_adapted_to(decoder: Any, problem: TinyProblem) -> None:
    """Channels turned round: what the decoder learned is there, in other places."""
    strong = type(decoder)(**(QUICK | {"epochs": 12, "selection": "fixed_epoch"}))
    strong.fit(problem.train, problem.bank, progress=False)
    new, test = (
        part.with_trials(part.trials.assign(subject="77")) for part in (problem.train, problem.test)
    )

    def turned(part: Any) -> Any:
        values = np.asarray(part.take(slice(None)))[:, ::-1].copy()
        return type(part).from_arrays(
            values, part.trials, sfreq=part.sfreq, modality="eeg", sensors=part.sensors, name="tiny"
        )

    new, test = turned(new), turned(test)
    adapted = strong.adapt(new, problem.bank, epochs=15, progress=False)
    before, after = (d.evaluate(test, problem.bank).two_way for d in (strong, adapted))
    assert after > before + 0.1
    assert adapted.n_outputs_ == 24
    assert adapted.embed(test).space == strong.embed(test).space  # its projectors are the same
    known = problem.test
    np.testing.assert_array_equal(adapted.embed(known).vectors, strong.embed(known).vectors)
    assert not np.allclose(adapted.embed(test).vectors, strong.embed(test).vectors)
    with pytest.raises(DataError, match="knows subject 77"):
        adapted.adapt(new, problem.bank, epochs=1, progress=False)

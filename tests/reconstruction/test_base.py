"""What all generators share: checks of inputs, noise, batches and memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.reconstruction._base import Generator
from phosphene.reconstruction._memory import MemoryShortError, in_batches, is_out_of_memory
from phosphene.reconstruction._noise import Noise


class Paint(Generator):
    """Pictures of one colour, the first three numbers of the embedding, with noise."""

    def __init__(self, batch: int = 8, amount: float = 0.1) -> None:
        self.id, self.licence, self.image_size, self.batch = "paint", "CC0", 4, batch
        self.takes = frozenset({"image_embeds", "init_latents"})
        self.needs = frozenset({"image_embeds"})
        self.shapes = {"image_embeds": (5,), "init_latents": (2, 3)}
        self.source, self.amount = "folder of paint", amount
        self.batches: list[int] = []

    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        self.batches.append(len(noise))
        colour = inputs["image_embeds"][:, None, None, :3]
        return colour + self.amount * noise.normal((4, 4, 3), "paint").numpy()

    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> Any:
        value = np.array([float(i[0]) for i in ids])
        return value.reshape(-1, 1, 1) * np.ones((1, *self.shapes[name]))


class Copy(Paint):
    stochastic: ClassVar[bool] = False

    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        self.batches.append(len(noise))
        return np.broadcast_to(inputs["image_embeds"][:, None, None, :3], (len(noise), 4, 4, 3))


EMBEDS = np.linspace(0.2, 0.8, 35).reshape(7, 5)


def test_pictures_follow_query_and_sample() -> None:
    found = Paint().generate(EMBEDS, n=3, seed=1, ids=list("abcdefg"))
    assert found.shape == (7, 3, 4, 4, 3)
    for query, sample in ((0, 0), (4, 2), (6, 1)):
        noise = Noise(1, ["abcdefg"[query]], [sample]).normal((4, 4, 3), "paint").numpy()[0]
        expected = np.clip(EMBEDS[query, :3] + 0.1 * noise, 0, 1)
        np.testing.assert_allclose(found[query, sample], expected, atol=1e-6)


def test_copies_of_a_generator_without_noise_are_made_once() -> None:
    generator = Copy(batch=3)
    found = generator.generate(EMBEDS, n=2)
    assert generator.batches == [3, 3, 1]
    np.testing.assert_allclose(found[:, 0, 0, 0], EMBEDS[:, :3], atol=1e-6)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_change_no_bit_of_the_noise(batch: int) -> None:
    whole = Paint(batch=100).generate(EMBEDS, n=2, seed=5)
    np.testing.assert_array_equal(whole, Paint(batch=batch).generate(EMBEDS, n=2, seed=5))


def test_resuming_at_a_query_gives_its_picture() -> None:
    ids = [f"q{i}" for i in range(7)]
    whole = Paint().generate(EMBEDS, seed=2, ids=ids)
    np.testing.assert_array_equal(whole[3:], Paint().generate(EMBEDS[3:], seed=2, ids=ids[3:]))
    assert not np.array_equal(whole[3:], Paint().generate(EMBEDS[3:], seed=2))


def test_streams_of_different_purpose_seed_and_sample_differ() -> None:
    noise = Noise(0, ["a", "a"], [0, 1])
    one = noise.normal((50,), "one")
    others = [noise.normal((50,), "two"), Noise(1, ["a", "a"], [0, 1]).normal((50,), "one")]
    assert all(abs(float((one * other).mean())) < 0.5 for other in others)
    assert not torch.equal(one[0], one[1])
    many = Noise(0, [str(i) for i in range(400)], [0] * 400).normal((10,), "x")
    assert abs(float(many.mean())) < 0.06
    assert abs(float(many.std()) - 1) < 0.05


def test_results_are_clipped_and_float32() -> None:
    found = Copy().generate(EMBEDS * 3 - 1)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"image_embeds": EMBEDS[:, :4]},
            r"found: 4 numbers.*expected: 5 numbers.*folder of paint",
        ),
        ({"image_embeds": EMBEDS[0]}, "array of shape"),
        ({"image_embeds": EMBEDS, "text_embeds": EMBEDS}, "does not take text_embeds"),
        ({"init_latents": np.zeros((7, 2, 3))}, "needs image_embeds"),
        ({}, "needs image_embeds"),
        ({"image_embeds": EMBEDS, "init_latents": np.zeros((6, 2, 3))}, "init_latents: 6"),
        ({"image_embeds": EMBEDS, "init_latents": np.zeros((7, 3, 2))}, "3 x 2.*2 x 3"),
        ({"image_embeds": np.where(EMBEDS > 0.7, np.nan, EMBEDS)}, "queries 5, 6"),
        ({"image_embeds": np.where(EMBEDS < 0.25, np.inf, EMBEDS)}, "queries 0"),
        ({"image_embeds": [["a"] * 5]}, "not an array of numbers"),
        ({"image_embeds": EMBEDS, "n": 0}, "number of samples"),
        ({"image_embeds": EMBEDS, "ids": ["a"]}, "1 ids"),
    ],
)
def test_bad_inputs(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"(?s){message}"):
        Paint().generate(**inputs)


def test_ids_are_named_in_errors() -> None:
    bad = EMBEDS.copy()
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match="queries cat/1"):
        Paint().generate(bad, ids=["a", "b", "cat/1", "d", "e", "f", "g"])


def test_pictures_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(DataError, match=r"(?s)not finite.*queries 0, 1.*fp32"):
        Paint(amount=np.nan).generate(EMBEDS[:2])


def test_pictures_of_a_wrong_shape_are_an_error() -> None:
    generator = Paint()
    generator.image_size = 5
    with pytest.raises(DataError, match="wrong shape"):
        generator.generate(EMBEDS)


def test_no_queries_give_no_pictures() -> None:
    assert Paint().generate(EMBEDS[:0]).shape == (0, 1, 4, 4, 3)


def test_targets_of_repeated_ids_are_made_once() -> None:
    asked: list[Sequence[str]] = []

    class Counting(Paint):
        def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> Any:
            asked.append(ids)
            return super()._targets(name, stimuli, ids)

    stimuli = StimulusSet.from_arrays(["1", "2"], np.zeros((2, 4, 4, 3), np.uint8))
    found = Counting().targets("init_latents", stimuli, ["2", "1", "2"])
    np.testing.assert_array_equal(found[:, 0, 0], [2, 1, 2])
    assert found.dtype == np.float32
    assert asked == [["2", "1"]]
    with pytest.raises(DataError, match=r"does not take text_embeds"):
        Paint().targets("text_embeds", stimuli, ["1"])


def test_repr_shows_the_licence() -> None:
    assert "licence: CC0" in repr(Paint())


# ------------------------------------------------------------------------------------- memory
def failing(at_least: int, error: Callable[[], BaseException]) -> type[Paint]:
    class Failing(Paint):
        def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
            if len(noise) >= at_least:
                self.batches.append(-len(noise))
                raise error()
            return super()._pictures(inputs, noise)

    return Failing


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        lambda: MemoryError(),
    ],
)
def test_too_little_memory_halves_the_batch(
    error: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    generator = failing(3, error)(batch=7)
    with caplog.at_level(logging.WARNING, logger="phosphene"):
        found = generator.generate(EMBEDS, seed=3)
    np.testing.assert_array_equal(found, Paint().generate(EMBEDS, seed=3))
    # 7 and 3 fail, and what was learned stays: no large batch is tried again.
    assert generator.batches == [-7, -3, 1, 1, 1, 1, 1, 1, 1]
    assert [r.levelname for r in caplog.records] == ["WARNING"] * 2
    assert "batches of 3 instead of 7" in caplog.text


def test_no_memory_for_one_picture_is_our_error() -> None:
    generator = failing(1, lambda: RuntimeError("CUDA out of memory"))()
    with pytest.raises(MemoryShortError, match=r"(?s)one at a time.*CUDA.*what to do"):
        generator.generate(EMBEDS)
    assert generator.batches == [-7, -3, -1]


def test_other_errors_are_not_taken_for_memory() -> None:
    generator = failing(1, lambda: RuntimeError("shapes cannot be multiplied"))()
    with pytest.raises(RuntimeError, match="multiplied"):
        generator.generate(EMBEDS)
    assert generator.batches == [-7]
    assert not is_out_of_memory(ValueError("out of memory"))


def test_batches_cover_all_rows_once() -> None:
    seen = [list(rows) for rows, _ in in_batches(len, 7, 3, "do", "less")]
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]

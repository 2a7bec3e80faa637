"""The checks of generators find generators that are broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from phosphene.data.stimuli import StimulusSet
from phosphene.reconstruction._base import Generator
from phosphene.reconstruction._noise import Noise
from phosphene.testing import CheckFailure, check_generator


class Plain(Generator):
    """A generator without fault; the broken ones change one thing."""

    def __init__(self) -> None:
        self.id, self.licence, self.image_size = "plain", "CC0-1.0", 4
        self.takes = frozenset({"image_embeds", "init_latents"})
        self.needs = frozenset({"image_embeds"})
        self.shapes = {"image_embeds": (3,), "init_latents": (3,)}

    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        colour = inputs["image_embeds"] / 8 + 0.5
        if "init_latents" in inputs:
            colour = colour + inputs["init_latents"] / 8
        return colour[:, None, None] + 0.2 * noise.normal((4, 4, 3), "grain").numpy()

    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> Any:
        return np.stack([stimuli.image(i).mean((0, 1)) / 255 for i in ids])


class OwnRandomNumbers(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        return super()._pictures(inputs, noise) + 0.1 * np.random.default_rng().random()


class NoiseOfTheBatch(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        rows = [str(row) for row in range(len(noise))]
        return super()._pictures(inputs, Noise(noise.seed, rows, noise.samples))


class MeanOfTheBatch(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        found = super()._pictures(inputs, noise)
        return found - found.mean() + 0.5


class SeedIsIgnored(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        return super()._pictures(inputs, Noise(0, noise.queries, noise.samples))


class SamplesAreTheSame(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        return super()._pictures(inputs, Noise(noise.seed, noise.queries, [0] * len(noise)))


class SaysItHasNoNoise(Plain):
    stochastic: ClassVar[bool] = False


class ChangesItsInput(Plain):
    def generate(self, image_embeds: Any = None, *args: Any, **options: Any) -> Any:
        found = super().generate(image_embeds, *args, **options)
        if image_embeds is not None:
            image_embeds *= 0.5
        return found


class IgnoresLatents(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        return super()._pictures({"image_embeds": inputs["image_embeds"]}, noise)


class AllGrey(Plain):
    def _pictures(self, inputs: Mapping[str, Any], noise: Noise) -> Any:
        return np.full((len(noise), 4, 4, 3), 0.5)


class HidesItsLicence(Plain):
    def __repr__(self) -> str:
        return "a generator"


class NeedsMoreThanItTakes(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.needs = frozenset({"image_embeds", "text_embeds"})


class AcceptsNaN(Plain):
    def generate(self, image_embeds: Any = None, *args: Any, **options: Any) -> Any:
        if image_embeds is not None:
            image_embeds = np.nan_to_num(image_embeds)
        return super().generate(image_embeds, *args, **options)


class TargetsIgnoreTheOrder(Plain):
    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> Any:
        return super()._targets(name, stimuli, sorted(ids))


class TargetsOfNothing(Plain):
    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> Any:
        return np.zeros((len(ids), 3))


def test_a_plain_generator_passes() -> None:
    check_generator(Plain())


@pytest.mark.parametrize(
    ("generator", "finding"),
    [
        (OwnRandomNumbers, "same seed differ"),
        (NoiseOfTheBatch, "follow the order|query alone"),
        (MeanOfTheBatch, "query alone|that of one"),
        (SeedIsIgnored, "seed matters"),
        (SamplesAreTheSame, "samples differ"),
        (SaysItHasNoNoise, "seed matters"),
        (ChangesItsInput, "in place"),
        (IgnoresLatents, "does not depend on init_latents"),
        (AllGrey, "one grey"),
        (HidesItsLicence, "licence"),
        (NeedsMoreThanItTakes, "do not fit together"),
        (AcceptsNaN, "NaN in an input was accepted"),
        (TargetsIgnoreTheOrder, "do not follow the ids"),
        (TargetsOfNothing, "same target"),
    ],
)
def test_broken_generators_are_caught(generator: type[Plain], finding: str) -> None:
    with pytest.raises(CheckFailure, match=finding):
        check_generator(generator())


def test_an_unknown_generator_has_no_example() -> None:
    with pytest.raises(CheckFailure, match="no example for the generator"):
        check_generator(Plain)

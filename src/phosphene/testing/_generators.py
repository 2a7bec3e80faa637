"""Checks of generators: from decoded features to pictures."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene import _random, _registry
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import MissingExtraError, PhospheneError
from phosphene.reconstruction._base import INPUTS, Generator
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder
from phosphene.testing import _tiny_diffusion
from phosphene.testing._runner import Suite, fail, info_of, raise_first

Array = NDArray[np.float32]
Example = Callable[[Path], Mapping[str, Any]]
QUERIES = 3
# A batch of another size adds in another order, and the steps of a diffusion carry that on.
BATCH_TOLERANCE = 2e-3


def tiny_pictures() -> StimulusSet:
    """Six pictures of two patches each, of three concepts, in no common size."""
    stream = _random.generator(0, "check", "generator pictures")
    images = []
    for number in range(6):
        height, width = 24 + 4 * (number % 2), 24 + 4 * (number % 3)
        picture = np.full((height, width, 3), stream.integers(0, 256, 3), np.uint8)
        picture[6:18, 4:14] = stream.integers(0, 256, 3)
        images.append(picture)
    ids = [f"{concept}/{n}.png" for concept in ("cat", "dog", "car") for n in (1, 2)]
    return StimulusSet.from_arrays(ids, images)


def colour_encoder(width: int) -> CallableEncoder:
    """An image encoder of a given width: means of colours over a grid, with their squares."""

    def encode(x: Any) -> Any:
        cells = x.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(1)
        return cells[:, :width]

    return CallableEncoder(encode, id=f"tiny-colours-{width}", image_size=16, dim=width)


def _adapter(folder: Path) -> Mapping[str, Any]:
    encoder = colour_encoder(_tiny_diffusion.IMAGE_WIDTH)
    return {**_tiny_diffusion.tiny_adapter(folder), "encoder": encoder}


def _nearest(folder: Path) -> Mapping[str, Any]:
    stimuli = tiny_pictures()
    bank = FeatureBank.extract(stimuli, colour_encoder(12), progress=False)
    return {"bank": bank, "stimuli": stimuli}


EXAMPLES: dict[str, Example] = {
    "img2img": _tiny_diffusion.tiny_diffusion,
    "ip_adapter": _adapter,
    "linear_pixel": lambda folder: {"size": 16},
    "nearest_image": _nearest,
    "unclip": _tiny_diffusion.tiny_unclip,
}


@dataclass(frozen=True)
class GeneratorPart:
    """A generator under test.

    Parameters
    ----------
    make, example : callable, optional
        The class, and what writes a small model into a folder and returns the arguments; for
        generators that are made from an example.
    """

    name: str
    generator: Generator
    make: Callable[..., Any] | None = None
    example: Example | None = None
    stimuli: StimulusSet = field(default_factory=tiny_pictures)

    def inputs(self, n: int = QUERIES, every: bool = True) -> dict[str, Array]:
        """Random features of some queries: all that it takes, or only what it needs."""
        generator = self.generator
        names = generator.takes if every else generator.needs or generator.takes
        return {
            name: _random.generator(0, "check", "generator", name)
            .normal(size=(n, *generator.shapes[name]))
            .astype(np.float32)
            for name in sorted(names)
        }

    def pictures(self, inputs: Mapping[str, Any], **options: Any) -> Array:
        """Pictures without a bar."""
        return self.generator.generate(**inputs, progress=False, **options)


def prepare(name: str, part: Any) -> GeneratorPart:
    """A registered generator is made from its example; a ready one is used as it is."""
    if isinstance(part, Generator):
        return GeneratorPart(name, part)
    example = info_of("generator", name).get("example") or EXAMPLES.get(name)
    if example is None:
        fail(
            f"there is no example for the generator {name!r}",
            fix="register it with example=function, which writes a small model into a folder and "
            "returns the arguments that read it",
        )
    assert example is not None
    folder = Path(tempfile.mkdtemp())
    try:
        generator = part(**example(folder))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # Weights may be read from the file as they are needed.
    weakref.finalize(generator, shutil.rmtree, folder, ignore_errors=True)
    if not isinstance(generator, Generator):
        fail("a generator is a Generator of phosphene.reconstruction",
             found=type(generator).__name__)  # fmt: skip
    return GeneratorPart(name, generator, part, example)


def describes_itself(part: GeneratorPart) -> None:
    """Id, licence, picture size and inputs are stated, and the licence is shown."""
    generator = part.generator
    for name in ("id", "licence"):
        value = getattr(generator, name, None)
        if not isinstance(value, str) or not value:
            fail(f"a generator says its {name}", found=repr(value), expected="a text")
    if generator.licence not in repr(generator):
        fail("the licence is shown by repr", found=repr(generator), expected=generator.licence)
    if int(generator.image_size) < 1:
        fail("the picture size is a number of pixels", found=generator.image_size)
    takes, needs = set(generator.takes), set(generator.needs)
    if not takes or takes - set(INPUTS) or needs - takes or set(generator.shapes) != takes:
        fail("the inputs do not fit together",
             found=f"takes {sorted(takes)}, needs {sorted(needs)}, shapes of "
             f"{sorted(generator.shapes)}",
             expected=f"some of {', '.join(INPUTS)}; needs among them; a shape each")  # fmt: skip


def inputs_are_not_changed(part: GeneratorPart) -> None:
    """Generation leaves its inputs as they are."""
    inputs = part.inputs()
    before = {name: value.copy() for name, value in inputs.items()}
    part.pictures(inputs)
    for name, value in inputs.items():
        if not np.array_equal(value, before[name]):
            fail(f"the generator changed {name} in place")


def pictures_have_shape_and_range(part: GeneratorPart) -> None:
    """(queries, n, H, W, 3), float32, in [0, 1], with all inputs and with those it needs."""
    size = part.generator.image_size
    for every in (True, False):
        found = part.pictures(part.inputs(every=every), n=2)
        if found.shape != (QUERIES, 2, size, size, 3) or found.dtype != np.float32:
            fail("wrong pictures", found=f"{found.dtype} of shape {found.shape}",
                 expected=f"float32 of shape {(QUERIES, 2, size, size, 3)}")  # fmt: skip
        if not (np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1):
            fail("pictures are in [0, 1]", found=f"{found.min():.3g} to {found.max():.3g}")
        if found.std() < 1e-3:
            fail("pictures of random features are not all one grey", found=float(found.std()))


def same_seed_same_bits(part: GeneratorPart) -> None:
    """The same call gives the same bits; another seed gives other noise, where there is any."""
    inputs = part.inputs()
    first = part.pictures(inputs, seed=3)
    if not np.array_equal(first, part.pictures(inputs, seed=3)):
        fail("two calls with the same seed differ")
    other = part.pictures(inputs, seed=4)
    if np.array_equal(first, other) == part.generator.stochastic:
        fail("stochastic says whether the seed matters", found=part.generator.stochastic,
             expected=not part.generator.stochastic)  # fmt: skip


def samples_differ(part: GeneratorPart) -> None:
    """The samples of a query differ where there is noise, and the first is that of n = 1."""
    inputs = part.inputs()
    found = part.pictures(inputs, n=2)
    if np.array_equal(found[:, 0], found[:, 1]) == part.generator.stochastic:
        fail("stochastic says whether samples differ", found=part.generator.stochastic)
    _alike(found[:, :1], part.pictures(inputs), "the first of two samples is not that of one")


def pictures_do_not_depend_on_the_batch(part: GeneratorPart) -> None:
    """A query alone, and in another order, gives the picture that it gives among others."""
    inputs = part.inputs()
    ids = [f"query {number}" for number in range(QUERIES)]
    together = part.pictures(inputs, ids=ids)
    turned = part.pictures({k: v[::-1] for k, v in inputs.items()}, ids=ids[::-1])
    _alike(together, turned[::-1], "pictures do not follow the order of the queries")
    alone = [
        part.pictures({k: v[row : row + 1] for k, v in inputs.items()}, ids=ids[row : row + 1])
        for row in range(QUERIES)
    ]
    _alike(together, np.concatenate(alone), "a query alone gives another picture")


def inputs_reach_the_picture(part: GeneratorPart) -> None:
    """Every input that is taken changes the picture, with the same noise."""
    inputs = part.inputs(2)
    for name, value in inputs.items():
        swapped = {**inputs, name: value[::-1]}
        gap = np.abs(part.pictures(inputs) - part.pictures(swapped)).max()
        if gap < 10 * BATCH_TOLERANCE:
            fail(f"the picture does not depend on {name}", found=f"largest difference {gap:.3g}")


def bad_inputs_are_refused(part: GeneratorPart) -> None:
    """NaN (naming the query), another width, other numbers of queries, too few or many inputs."""
    inputs = part.inputs()
    ids = ["first", "second", "third"]
    name = sorted(inputs)[0]
    spoilt = inputs[name].copy()
    spoilt[1].flat[0] = np.nan
    _refused(part, {**inputs, name: spoilt}, "NaN in an input", "second", ids=ids)
    narrow = inputs[name][..., :-1]
    _refused(part, {**inputs, name: narrow}, "an input of another width", name)
    _refused(part, inputs, "one id too few", "id", ids=ids[:2])
    _refused(part, inputs, "no sample", "sample", n=0)
    _refused(part, {}, "nothing to start from", part.generator.id)
    if len(inputs) > 1:
        fewer = {**inputs, name: inputs[name][:-1]}
        _refused(part, fewer, "inputs of different numbers of queries", name)
    for other in set(INPUTS) - part.generator.takes:
        surplus = np.zeros((QUERIES, 3), np.float32)
        _refused(part, {**inputs, other: surplus}, "an input that it does not take", other)


def targets_fit_the_inputs(part: GeneratorPart) -> None:
    """Targets have the inputs' shapes, follow the ids, differ, and lead to pictures."""
    ids = part.stimuli.ids
    inputs = {}
    for name in sorted(part.generator.takes):
        found = part.generator.targets(name, part.stimuli, ids)
        expected = (len(ids), *part.generator.shapes[name])
        if found.shape != expected or found.dtype != np.float32 or not np.isfinite(found).all():
            fail(f"wrong targets for {name}", found=f"{found.dtype} of shape {found.shape}",
                 expected=f"finite float32 of shape {expected}")  # fmt: skip
        some = [ids[4], ids[0], ids[4]]
        if not np.allclose(part.generator.targets(name, part.stimuli, some), found[[4, 0, 4]],
                           rtol=1e-4, atol=1e-4):  # fmt: skip
            fail(f"targets for {name} do not follow the ids")
        if np.allclose(found[0], found[4], rtol=1e-3):
            fail(f"two pictures of different concepts have the same target for {name}")
        inputs[name] = found[:QUERIES]
    part.pictures(inputs)
    for other in set(INPUTS) - part.generator.takes:
        try:
            part.generator.targets(other, part.stimuli, ids)
        except PhospheneError:
            continue
        fail(f"targets were made for {other}, which the generator does not take")


def wrong_sources_are_refused(part: GeneratorPart) -> None:
    """A folder that is not there and a truncated UNet are errors of phosphene that name it."""
    if part.make is None or part.example is None:
        return
    with tempfile.TemporaryDirectory() as name:
        arguments = dict(part.example(Path(name)))
        if not isinstance(arguments.get("source"), str):
            return  # made of training data, without weights
        _not_made(part.make, {**arguments, "source": f"{name}/absent"}, "absent")
        path = next(Path(name).rglob("unet/*.safetensors"))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        _not_made(part.make, arguments, path.name)


def _not_made(make: Callable[..., Any], arguments: Mapping[str, Any], named: str) -> None:
    try:
        make(**arguments)
    except MissingExtraError:
        raise
    except PhospheneError as error:
        if named not in str(error):
            fail("the error about a source must name it", found=str(error), expected=named)
        return
    except Exception as error:
        fail("a wrong source must be a PhospheneError", found=f"{type(error).__name__}: {error}")
    fail("a wrong source must be refused", found=named)


def _refused(
    part: GeneratorPart, inputs: Mapping[str, Array], what: str, named: str, **options: Any
) -> None:
    try:
        part.pictures(inputs, **options)
    except PhospheneError as error:
        if named not in str(error):
            fail(f"the error about {what} must name it", found=str(error), expected=named)
        return
    except Exception as error:
        fail(f"{what} must be a PhospheneError", found=f"{type(error).__name__}: {error}")
    fail(f"{what} was accepted")


def _alike(first: Array, second: Array, what: str) -> None:
    gap = float(np.abs(first - second).max())
    if gap > BATCH_TOLERANCE:
        fail(what, found=f"largest difference {gap:.3g}")


SUITE: Suite[GeneratorPart] = Suite(
    "generator",
    prepare,
    (
        describes_itself,
        inputs_are_not_changed,
        pictures_have_shape_and_range,
        same_seed_same_bits,
        pictures_do_not_depend_on_the_batch,
        samples_differ,
        inputs_reach_the_picture,
        bad_inputs_are_refused,
        targets_fit_the_inputs,
        wrong_sources_are_refused,
    ),
)
_registry.add("check", "generator", SUITE)


def check_generator(generator: Any) -> None:
    """Check a generator: a registered name, or a generator that is ready for use.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.
    MissingExtraError
        If a package of the generator is not installed.
    """
    raise_first(SUITE, generator)

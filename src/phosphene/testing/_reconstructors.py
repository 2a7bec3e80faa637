"""Checks of reconstructors: leaks, determinism, files, interrupted calls, chance."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from phosphene import _registry
from phosphene._manifest import sha256_array
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import ArtefactError, DataError, LeakError, NotFittedError
from phosphene.evaluation.identification import identification
from phosphene.methods._reconstruction import Reconstruction
from phosphene.testing import _tiny_diffusion
from phosphene.testing._data import TinyProblem, tiny_images, tiny_problem
from phosphene.testing._decoders import refused, relabelled, same
from phosphene.testing._methods import PICKLES
from phosphene.testing._runner import Suite, fail, raise_first

# What makes a check quick, for constructors that have the parameter.
QUICK: dict[str, Any] = {
    "steps": 4,
    "start": 3,
    "guidance": 2.0,
    "layers": ("block1", "block2"),
    "final": None,
    "grid": 4,
    "iterations": 2,
    "frames": 1,
    "prior_widths": (32, 16),
    "prior_epochs": 4,
    "prior_steps": 4,
    "settings": {"size": 8},
    "batch": 3,
    "precision": "fp32",
    "device": "cpu",
}
SEEN = 5  # queries of the checks that make pictures
LEARNED = 0.65
ZERO_SEEDS = 4
# Two-way identification of 20 queries from noise: .5 with a deviation of about .09.
CHANCE_MARGIN = 0.12
# A batch of another size adds in another order; pictures have 255 steps.
BATCH_TOLERANCE = 2.5 / 255


class ReconstructorPart:
    """A reconstructor under test with what is fitted once and looked at by many checks."""

    def __init__(self, name: str, cls: Any, params: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.cls = cls
        self._targets: dict[tuple[str, ...], Any] = {}
        known = cls().get_params()
        self.params = {k: v for k, v in QUICK.items() if k in known}
        if "source" in known and "source" not in (params or {}):
            folder = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.params["source"] = _tiny_diffusion.tiny_demo(folder)["source"]
        self.params |= dict(params or {})

    def make(self, **changes: Any) -> Any:
        """An unfitted reconstructor with quick settings."""
        return self.cls(**(self.params | changes))

    def fit(self, train: Recording, **changes: Any) -> Any:
        """A reconstructor fitted on some training data of the problem."""
        made = self.make(**changes)
        compute = made._group_targets

        def remembered(stimuli: StimulusSet, ids: Sequence[str]) -> Any:
            if tuple(ids) not in self._targets:
                self._targets[tuple(ids)] = compute(stimuli, ids)
            return self._targets[tuple(ids)]

        # Networks see a picture once, however many fits there are.
        made._group_targets = remembered
        return made.fit(train, self.pictures, self.problem.bank, progress=False)

    @cached_property
    def problem(self) -> TinyProblem:
        """Training and test trials with their bank."""
        return tiny_problem()

    @cached_property
    def pictures(self) -> StimulusSet:
        """What was seen."""
        return tiny_images()

    @cached_property
    def fitted(self) -> Any:
        """A reconstructor fitted on the problem."""
        return self.fit(self.problem.train)

    @cached_property
    def test(self) -> Recording:
        """Test trials of a few stimuli."""
        return self.problem.test.select(stimulus=self.problem.test.stimuli[:SEEN])

    def made(self, model: Any, **options: Any) -> Reconstruction:
        """Pictures of the few test stimuli."""
        found = model.reconstruct(self.test, progress=False, **options)
        assert isinstance(found, Reconstruction)
        return found

    def two_way(self, model: Any, test: Recording) -> dict[str, float]:
        """Two-way identification of every group's decoded features; .5 is chance."""
        queries = test.average(by=("subject", "stimulus"))
        truth = model.encode(self.pictures, queries.trials["stimulus"].astype(str).tolist())
        found = {}
        for group, values in model.decode(queries).items():
            decoder = model.decoders_[group]
            flat = [v.reshape(len(v), -1) - decoder.mean for v in (values, truth[group])]
            # Where nothing can be decoded, ridge answers with the mean: all answers are tied.
            told = bool(np.ptp(flat[0], axis=1).min() > 0)
            found[group] = float(identification(flat[0], flat[1]).mean()) if told else 0.5
        return found


def prepare(name: str, part: Any) -> ReconstructorPart:
    """A class is tried with its defaults, made quick."""
    return part if isinstance(part, ReconstructorPart) else ReconstructorPart(name, part)


# ------------------------------------------------------------------------ scikit-learn manners
def inputs_unmodified(part: ReconstructorPart) -> None:
    """``fit`` and ``reconstruct`` leave signals, trials and parameters as they are."""
    problem = part.problem
    before = [sha256_array(np.asarray(r.signals)) for r in (problem.train, part.test)]
    trials = [r.trials.copy() for r in (problem.train, part.test)]
    model = part.make()
    params = repr(model.get_params())
    fitted = model.fit(problem.train, part.pictures, problem.bank, progress=False)
    part.made(model)
    if fitted is not model:
        fail("fit must return the reconstructor itself")
    if repr(model.get_params()) != params:
        fail("fit changed constructor parameters", found=model.get_params(), expected=params)
    if [sha256_array(np.asarray(r.signals)) for r in (problem.train, part.test)] != before:
        fail("signals were changed in place")
    if not all(r.trials.equals(t) for r, t in zip((problem.train, part.test), trials, strict=True)):
        fail("a table of trials was changed in place")


def constructor_only_stores(part: ReconstructorPart) -> None:
    """Parameters are kept as they are, ``clone`` copies them, nothing is fitted."""
    model = part.make()
    for name, value in part.params.items():
        if model.get_params()[name] is not value and model.get_params()[name] != value:
            fail(f"the constructor changed {name!r}", found=model.get_params()[name])
    copy = clone(part.fitted)
    if repr(copy.get_params()) != repr(part.fitted.get_params()):
        fail("clone gives other parameters", found=copy.get_params())
    if fitted := [name for name in vars(copy) if name.endswith("_")]:
        fail("a clone is fitted", found=", ".join(fitted))
    refused(NotFittedError, "decode before fit", lambda: model.decode(part.test))
    refused(NotFittedError, "reconstruct before fit", lambda: model.reconstruct(part.test))


# ------------------------------------------------------------------------------- determinism
def same_seed_gives_the_same_bits(part: ReconstructorPart) -> None:
    """Two fits and two calls with one seed give the same pictures; what is seen is 8 bits deep."""
    first = part.made(part.fitted, seed=3)
    again = part.made(part.fit(part.problem.train), seed=3)
    same(first.images, again.images, "two fits with the same seed differ", exact=True)
    if first.images.min() < 0 or first.images.max() > 1 or first.images.dtype != np.float32:
        fail("pictures are float32 in [0, 1]", found=first.images.dtype)
    steps = first.images * 255
    if not np.allclose(steps, np.rint(steps), atol=1e-3):
        fail("pictures are scored as they are shown, in 8 bits")
    stochastic = getattr(part.fitted.generator_, "stochastic", True)
    other = part.made(part.fitted, seed=4).images
    if stochastic == np.array_equal(first.images, other):
        fail("the seed of the pictures has the wrong effect", found=f"stochastic: {stochastic}")


def pictures_do_not_depend_on_the_batch(part: ReconstructorPart) -> None:
    """A query alone, or in another order, gets the picture that it gets among others."""
    together = part.made(part.fitted, seed=1)
    names = part.test.stimuli
    for name in (names[0], names[-1]):
        alone = part.fitted.reconstruct(part.test.select(stimulus=name), seed=1, progress=False)
        gap = np.abs(alone.images[0] - together.images[together.ids.index(name)]).max()
        if gap > BATCH_TOLERANCE:
            fail(f"the picture of {name} alone is another", found=f"largest difference {gap:.3f}")


def saved_and_loaded_reconstructors_agree(part: ReconstructorPart) -> None:
    """``from_pretrained`` gives the same bits; no pickles; a changed bit is noticed."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model"
        part.fitted.save_pretrained(path)
        files = {file.name: file for file in path.rglob("*") if file.is_file()}
        if missing := {"config.json", "README.md", "manifest.json"} - set(files):
            fail("save_pretrained did not write all files", found=", ".join(sorted(missing)))
        if pickles := [n for n, file in files.items() if file.suffix in PICKLES]:
            fail("weights are safetensors and JSON", found=", ".join(pickles))
        loaded = part.cls.from_pretrained(path)
        same(part.made(part.fitted).images, part.made(loaded).images,
             "a loaded reconstructor differs", exact=True)  # fmt: skip
        weights = files["model.safetensors"]
        data = bytearray(weights.read_bytes())
        data[-3] ^= 1
        weights.write_bytes(data)
        refused(ArtefactError, "a changed bit", lambda: part.cls.from_pretrained(path),
                weights.name)  # fmt: skip


def interrupted_calls_go_on(part: ReconstructorPart) -> None:
    """Finished pictures are kept in a folder; the next call makes the others, and only those."""
    model = part.fit(part.problem.train, batch=1)
    whole = part.made(model, n=2)
    usual = model._make
    made: list[str] = []

    def counted(features: Any, names: list[str], *rest: Any) -> Any:
        if len(made) == stop:
            raise KeyboardInterrupt
        made.extend(names)
        return usual(features, names, *rest)

    model._make = counted
    try:
        with tempfile.TemporaryDirectory() as name:
            folder, stop = Path(name) / "pictures", 2
            try:
                part.made(model, n=2, folder=folder)
            except KeyboardInterrupt:
                pass
            else:
                fail("the pictures are not made query by query")
            refused(ArtefactError, "an unfinished folder", lambda: Reconstruction.load(folder))
            stop = -1
            went_on = part.made(model, n=2, folder=folder)
            if len(made) != SEEN:
                fail("finished pictures were made again", found=made, expected=f"{SEEN} queries")
            same(whole.images, went_on.images, "an interrupted call gives others", exact=True)
            same(whole.images, Reconstruction.load(folder).images, "the folder differs", exact=True)
            refused(DataError, "the folder of another call",
                    lambda: part.made(model, n=2, seed=9, folder=folder), "seed")  # fmt: skip
    finally:
        del model._make


# ------------------------------------------------------------------------------------- guards
def trials_of_the_test_are_refused(part: ReconstructorPart) -> None:
    """Trials of the test split cannot be fitted on, alone, among others or behind a handle."""
    problem = part.problem
    mixed = Recording.concat([problem.train, problem.test])
    for label, data in (
        ("test trials", problem.test),
        ("training data that holds test trials", mixed),
        ("held-out data", HeldOut(problem.test)),
    ):
        refused(LeakError, label, lambda data=data: part.fit(data))


def what_training_has_seen_is_refused(part: ReconstructorPart) -> None:
    """Pictures of stimuli, concepts and copies of pictures that training has seen are refused."""
    train, test = part.problem.train, part.test
    seen, concept = train.trials["stimulus"].iloc[0], train.trials["concept"].iloc[0]
    once = relabelled(train.select(stimulus=seen), split="test")
    refused(LeakError, "a training stimulus", lambda: part.fitted.reconstruct(once), str(seen))
    known = relabelled(test, concept=concept)
    refused(LeakError, "a training concept", lambda: part.fitted.reconstruct(known), str(concept))
    copied = StimulusSet.from_arrays(test.stimuli, [part.pictures.image(seen)] * SEEN)
    refused(LeakError, "a training picture under another name",
            lambda: part.fitted.reconstruct(test, stimuli=copied), test.stimuli[0])  # fmt: skip
    hidden = relabelled(once, stimulus="new", concept="new")
    refused(LeakError, "training trials under another name",
            lambda: part.fitted.reconstruct(hidden), "trials")  # fmt: skip
    held = HeldOut(test)
    if (found := part.fitted.reconstruct(held, progress=False).protocol.test_openings) != 1:
        fail("the protocol counts openings of the test data", found=found, expected=1)


def other_shapes_are_refused(part: ReconstructorPart) -> None:
    """A missing channel, another time axis, and features of another width are errors."""
    names = list(part.test.sensors.names)
    same(
        part.fitted.decode(part.test)[next(iter(part.fitted.decoders_))],
        part.fitted.decode(part.test.pick(names[::-1]))[next(iter(part.fitted.decoders_))],
        "features change with the order of the channels",
    )
    refused(DataError, "a recording without a channel",
            lambda: part.fitted.reconstruct(part.test.pick(names[1:])), names[0])  # fmt: skip
    shorter = part.test.crop(0.1, 0.5)
    refused(DataError, "another time axis", lambda: part.fitted.reconstruct(shorter), "samples")
    features = part.fitted.decode(part.test.average(by=("subject", "stimulus")))
    for group, values in features.items():
        narrow = {**features, group: values[..., :-1]}
        refused(DataError, "features of another width",
                lambda narrow=narrow: part.fitted.generate(narrow, part.test.stimuli),
                group)  # fmt: skip
        spoilt = {**features, group: np.where(np.ones_like(values), np.nan, values)}
        refused(DataError, "NaN features",
                lambda spoilt=spoilt: part.fitted.generate(spoilt, part.test.stimuli),
                "NaN")  # fmt: skip


# ----------------------------------------------------------------------------------- learning
def decodes_above_chance(part: ReconstructorPart) -> None:
    """What is linear in the signals is decoded well above chance on unseen concepts."""
    easy = tiny_problem(snr=3.0)
    scores = part.two_way(part.fit(easy.train), easy.test)
    if not max(scores.values()) >= LEARNED:
        fail("no group of features is decoded", found=scores, expected=f"{LEARNED} (chance .5)")


def zero_signal_gives_chance(part: ReconstructorPart) -> None:
    """Recordings without signal give decoded features at chance."""
    scores = []
    for seed in range(ZERO_SEEDS):
        problem = tiny_problem(seed, snr=0.0)
        found = part.two_way(part.fit(problem.train), problem.test)
        scores.append(np.mean(list(found.values())))
    if not abs(float(np.mean(scores)) - 0.5) <= CHANCE_MARGIN:
        fail("recordings without signal must give chance: something leaks",
             found=f"{np.mean(scores):.3f}", expected=f"0.5 within {CHANCE_MARGIN}")  # fmt: skip


SUITE: Suite[ReconstructorPart] = Suite(
    "reconstructor",
    prepare,
    (
        inputs_unmodified,
        constructor_only_stores,
        same_seed_gives_the_same_bits,
        pictures_do_not_depend_on_the_batch,
        saved_and_loaded_reconstructors_agree,
        interrupted_calls_go_on,
        trials_of_the_test_are_refused,
        what_training_has_seen_is_refused,
        other_shapes_are_refused,
        decodes_above_chance,
        zero_signal_gives_chance,
    ),
)
_registry.add("check", "reconstructor", SUITE)


def check_reconstructor(reconstructor: Any, params: Mapping[str, Any] | None = None) -> None:
    """Check a reconstructor on a tiny simulated problem with a tiny diffusion model.

    Parameters
    ----------
    reconstructor : str or type
        A registered name, or a class whose parameters all have defaults.
    params : mapping, optional
        Constructor arguments that make the check quick.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.

    Examples
    --------
    >>> check_reconstructor("linear")
    """
    cls = (
        _registry.get("reconstructor", reconstructor)
        if isinstance(reconstructor, str)
        else reconstructor
    )
    name = reconstructor if isinstance(reconstructor, str) else cls.__name__
    raise_first(SUITE, ReconstructorPart(name, cls, params))

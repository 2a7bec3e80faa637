"""Checks of methods: what must not reach training or scores, and what must be learned."""

from __future__ import annotations

import numpy as np

from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.errors import DataError, LeakError, SpaceMismatchError
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._decoders import MethodPart, refused, relabelled
from phosphene.testing._runner import fail

SHUFFLES = 8
# Two-way identification: .5 is chance. Over shuffles its standard deviation is .09 for a linear
# map of 24 dimensions and 20 queries, so .032 for the mean of eight: the margin is nearly four.
CHANCE_MARGIN = 0.12
LEARNED = 0.75


# ------------------------------------------------------------------------------------- guards
def test_rows_are_refused(part: MethodPart) -> None:
    """Trials of the test split cannot be fitted on, alone, among others or behind a handle."""
    problem = part.problem
    mixed = Recording.concat([problem.train, problem.test])
    for label, data in (
        ("test trials", problem.test),
        ("training data that holds test trials", mixed),
        ("held-out data", HeldOut(problem.test)),
    ):
        refused(LeakError, label, lambda data=data: part.fit(data))


def test_concepts_in_training_are_refused(part: MethodPart) -> None:
    """Evaluation refuses stimuli, concepts and copies of pictures that training has seen."""
    problem = part.problem
    ids = problem.bank.ids
    seen = problem.train.trials["stimulus"].iloc[0]
    concept = problem.train.trials["concept"].iloc[0]
    once = relabelled(problem.train.select(stimulus=seen), split="test")
    refused(
        LeakError,
        "a training stimulus in the test",
        lambda: part.fitted.evaluate(once, problem.bank, ids=ids),
        str(seen),
    )
    known = relabelled(problem.test, concept=concept)
    refused(
        LeakError,
        "a training concept in the test",
        lambda: part.fitted.evaluate(known, problem.bank),
        str(concept),
    )
    hashes = problem.bank.stimuli["sha256"].copy()
    hashes[part.candidates[0]] = hashes[seen]
    copied = FeatureBank.from_arrays(
        ids,
        {view: problem.bank.vectors(view) for view in problem.bank.views},
        concepts=problem.bank.stimuli["concept"].tolist(),
        hashes=hashes.tolist(),
        provenance=problem.bank.provenance,
    )
    refused(
        LeakError,
        "a training picture under another name",
        lambda: part.fitted.evaluate(problem.test, copied),
        part.candidates[0],
    )


def bad_banks_are_refused(part: MethodPart) -> None:
    """A bank without a training stimulus, and a gallery of another space, are errors."""
    problem = part.problem
    missing = problem.train.trials["stimulus"].iloc[0]
    partial = problem.bank.select([i for i in problem.bank.ids if i != missing])
    refused(
        DataError,
        "a bank without a training stimulus",
        lambda: part.make().fit(problem.train, partial, progress=False),
        str(missing),
    )
    other = FeatureBank.from_arrays(
        problem.bank.ids,
        {view: problem.bank.vectors(view) for view in problem.bank.views},
        concepts=problem.bank.stimuli["concept"].tolist(),
        provenance={"encoder": {"id": "another"}},
    )
    refused(
        SpaceMismatchError,
        "a gallery of another space",
        lambda: part.fitted.similarity(part.queries, other),
    )


def openings_and_protocol_are_recorded(part: MethodPart) -> None:
    """The result counts openings of the test data and says what was compared with what."""
    held = HeldOut(part.problem.test)
    result = part.fitted.evaluate(held, part.problem.bank)
    protocol = result.protocol
    facts = {
        "test_openings": (protocol.test_openings, held.opened),
        "gallery_size": (protocol.gallery_size, len(part.candidates)),
        "test_repetitions": (protocol.test_repetitions, 4),
        "queries": (len(result.table), len(part.candidates)),
    }
    for name, (found, expected) in facts.items():
        if found != expected:
            fail(f"the protocol is wrong about {name}", found=found, expected=expected)


# ----------------------------------------------------------------------------------- learning
def learns_above_chance(part: MethodPart) -> None:
    """Unseen concepts of an easy linear problem are identified well above chance."""
    score = part.two_way(part.fitted)
    if not score >= LEARNED:
        fail(
            "the method does not learn an easy linear problem",
            found=f"two-way identification {score:.3f}",
            expected=f"at least {LEARNED} (chance .5)",
        )


def shuffled_pairing_gives_chance(part: MethodPart) -> None:
    """Trained on shuffled stimulus labels, the method scores chance on the test."""
    train = part.problem.train
    stimuli = train.trials["stimulus"].astype(str)
    concepts = dict(zip(stimuli, train.trials["concept"].astype(str), strict=True))
    scores = []
    for seed in range(SHUFFLES):
        distinct = list(concepts)
        order = np.random.default_rng(seed).permutation(len(distinct))
        swap = {a: distinct[i] for a, i in zip(distinct, order, strict=True)}
        shown = stimuli.map(swap)
        shuffled = relabelled(train, stimulus=shown, concept=shown.map(concepts))
        # What leaks does so in few epochs, too.
        short = {"random_state": seed, "epochs": 10}
        changes = {name: value for name, value in short.items() if name in part.params}
        scores.append(part.two_way(part.fit(shuffled, **changes)))
    mean = float(np.mean(scores))
    if not abs(mean - 0.5) <= CHANCE_MARGIN:
        fail(
            "shuffled brain-stimulus pairs must give chance: something leaks",
            found=f"two-way identification {mean:.3f} over {SHUFFLES} shuffles",
            expected=f"0.5 within {CHANCE_MARGIN}",
        )

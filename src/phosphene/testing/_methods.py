"""Checks of methods: scikit-learn's manners, determinism, files and invariances."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from phosphene import _registry
from phosphene._manifest import sha256_array
from phosphene.errors import ArtefactError, DataError, NotFittedError
from phosphene.testing import _method_guards as guards
from phosphene.testing._decoders import MethodPart, refused, relabelled, same
from phosphene.testing._runner import Suite, fail, raise_first

PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npz"}


def prepare(name: str, part: Any) -> MethodPart:
    """A class is tried with its defaults, made quick."""
    return part if isinstance(part, MethodPart) else MethodPart(name, part)


# ------------------------------------------------------------------------ scikit-learn manners
def constructor_only_stores(part: MethodPart) -> None:
    """Parameters are kept as they are, ``clone`` copies them, nothing is fitted."""
    decoder = part.make()
    for name, value in part.params.items():
        if decoder.get_params()[name] is not value and decoder.get_params()[name] != value:
            fail(f"the constructor changed {name!r}", found=decoder.get_params()[name])
    before = set(vars(decoder))
    copy = clone(decoder)
    if {k: repr(v) for k, v in copy.get_params().items()} != {
        k: repr(v) for k, v in decoder.get_params().items()
    }:
        fail("clone gives other parameters", found=copy.get_params())
    if fitted := [name for name in before if name.endswith("_") and not name.startswith("_")]:
        fail("the constructor sets fitted attributes", found=", ".join(fitted))
    refused(NotFittedError, "embed before fit", lambda: decoder.embed(part.problem.test))


def fit_returns_the_decoder(part: MethodPart) -> None:
    """``fit`` returns the decoder and leaves its parameters alone."""
    decoder = part.make()
    before = repr(decoder.get_params())
    if decoder.fit(part.problem.train, part.problem.bank, progress=False) is not decoder:
        fail("fit must return the decoder itself")
    if repr(decoder.get_params()) != before:
        fail("fit changed constructor parameters", found=decoder.get_params(), expected=before)


# ------------------------------------------------------------------------------- determinism
def same_seed_gives_the_same_bits(part: MethodPart) -> None:
    """Two fits with one seed decode to the same bits."""
    again = part.fit(part.problem.train).embed(part.queries).vectors
    first = part.fitted.embed(part.queries).vectors
    same(first, again, "two fits with the same seed differ", exact=True)


def saved_and_loaded_decoders_agree(part: MethodPart) -> None:
    """``from_pretrained`` gives the same bits; files hold no pickles; a changed bit is noticed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        part.fitted.save_pretrained(path)
        files = {file.name: file for file in path.rglob("*") if file.is_file()}
        if missing := {"config.json", "README.md", "manifest.json"} - set(files):
            fail("save_pretrained did not write all files", found=", ".join(sorted(missing)))
        if pickles := [name for name, file in files.items() if file.suffix in PICKLES]:
            fail("weights are safetensors and JSON", found=", ".join(pickles))
        loaded = part.cls.from_pretrained(path)
        first = part.fitted.embed(part.queries).vectors
        same(first, loaded.embed(part.queries).vectors, "a loaded decoder differs", exact=True)
        # The scores too: a method may keep state beside its encoder.
        same(part.scores(part.fitted), part.scores(loaded), "a loaded decoder scores otherwise")
        weights = next((f for f in files.values() if f.suffix == ".safetensors"), None)
        if weights is not None:
            data = bytearray(weights.read_bytes())
            data[-3] ^= 1
            weights.write_bytes(data)
            refused(
                ArtefactError,
                "a model file with a changed bit",
                lambda: part.cls.from_pretrained(path),
                weights.name,
            )


# -------------------------------------------------------------------------------- invariances
def gallery_order_does_not_matter(part: MethodPart) -> None:
    """Permuting the candidates permutes the scores and changes no rank."""
    order = np.random.default_rng(0).permutation(len(part.candidates))
    shuffled = [part.candidates[i] for i in order]
    first = part.scores(part.fitted)
    second = part.fitted.similarity(part.queries, part.problem.bank, ids=shuffled).matrix
    same(first[:, order], second, "scores change with the order of the gallery")
    ranks = [
        part.fitted.evaluate(part.problem.test, part.problem.bank, ids=ids).table["rank"]
        for ids in (part.candidates, shuffled)
    ]
    same(ranks[0], ranks[1], "ranks change with the order of the gallery")


def one_query_equals_its_row(part: MethodPart) -> None:
    """A query scored alone gets the scores that it gets among others."""
    together = part.scores(part.fitted)
    for row in (0, len(together) - 1):
        alone = part.scores(part.fitted, part.queries.select([row]))
        same(together[row : row + 1], alone, f"query {row} alone is scored otherwise")


def labels_are_not_read(part: MethodPart) -> None:
    """Hiding what was seen changes neither vectors nor scores; unlabelled trials decode."""
    hidden = relabelled(
        part.queries, stimulus=[f"unknown-{i}" for i in range(part.queries.n_trials)], concept=""
    )
    known = part.fitted.embed(part.queries).vectors
    same(known, part.fitted.embed(hidden).vectors, "vectors change when labels are hidden")
    same(
        part.scores(part.fitted),
        part.scores(part.fitted, hidden),
        "scores change when labels are hidden",
    )


def channels_are_matched_by_name(part: MethodPart) -> None:
    """Channels in another order decode alike; a missing channel is an error that names it."""
    names = list(part.queries.sensors.names)
    known = part.fitted.embed(part.queries).vectors
    turned = part.fitted.embed(part.queries.pick(names[::-1])).vectors
    same(known, turned, "vectors change with the order of the channels")
    refused(
        DataError,
        "a recording without one channel",
        lambda: part.fitted.embed(part.queries.pick(names[1:])),
        names[0],
    )


def inputs_unmodified(part: MethodPart) -> None:
    """``fit``, ``embed`` and ``evaluate`` leave recordings and bank as they are."""
    problem = part.problem

    def state() -> tuple[Any, ...]:
        return (
            sha256_array(np.asarray(problem.train.signals)),
            sha256_array(np.asarray(problem.test.signals)),
            *(sha256_array(problem.bank.vectors(view)) for view in problem.bank.views),
        )

    trials = problem.train.trials.copy(), problem.test.trials.copy()
    before = state()
    decoder = part.fit(problem.train)
    decoder.embed(problem.test)
    decoder.evaluate(problem.test, problem.bank)
    if state() != before:
        fail("signals or vectors were changed in place")
    pd.testing.assert_frame_equal(problem.train.trials, trials[0])
    pd.testing.assert_frame_equal(problem.test.trials, trials[1])


SUITE: Suite[MethodPart] = Suite(
    "method",
    prepare,
    (
        # first, so that other findings are not its consequence
        inputs_unmodified,
        constructor_only_stores,
        fit_returns_the_decoder,
        same_seed_gives_the_same_bits,
        saved_and_loaded_decoders_agree,
        gallery_order_does_not_matter,
        one_query_equals_its_row,
        labels_are_not_read,
        channels_are_matched_by_name,
        guards.test_rows_are_refused,
        guards.test_concepts_in_training_are_refused,
        guards.bad_banks_are_refused,
        guards.openings_and_protocol_are_recorded,
        guards.learns_above_chance,
        guards.shuffled_pairing_gives_chance,
    ),
)
_registry.add("check", "method", SUITE)


def check_method(method: Any, params: Mapping[str, Any] | None = None) -> None:
    """Check a method on a tiny simulated problem.

    Parameters
    ----------
    method : str or type
        A registered name, or a decoder class whose parameters all have defaults.
    params : mapping, optional
        Constructor arguments that make the check quick; ``epochs``, ``batch_size``, ``lr``,
        ``device``, ``precision`` and ``random_state`` are set where they exist.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.

    Examples
    --------
    >>> check_method("ridge")
    """
    cls = _registry.get("method", method) if isinstance(method, str) else method
    name = method if isinstance(method, str) else cls.__name__
    raise_first(SUITE, MethodPart(name, cls, params))

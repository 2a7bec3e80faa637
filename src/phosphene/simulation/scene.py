"""What is shown: pictures of a world, split by concept, with the features that drive the brain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from phosphene import _random
from phosphene._logging import get_logger
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.simulation.components import Features, reduce_features
from phosphene.simulation.early import early_encoder
from phosphene.simulation.pictures import demo_pictures, picture_set
from phosphene.simulation.world import World
from phosphene.stimuli.bank import FeatureBank

_log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class Scene:
    """Pictures with all that follows from them; the same for all subjects and seeds.

    Parameters
    ----------
    table : pandas.DataFrame
        Index stimulus id; columns ``concept``, ``split`` (train or test).
    stimuli : StimulusSet or None
        The pictures, unless only features were given.
    bank : FeatureBank
        Features that decoders may use: the world's target layer.
    text : FeatureBank or None
        Text vectors by concept name, when the world has meaning.
    features : mapping of str to Features
        What drives the components ``early``, ``object`` and ``meaning``.
    """

    table: pd.DataFrame
    stimuli: StimulusSet | None
    bank: FeatureBank
    text: FeatureBank | None
    features: Mapping[str, Features]

    @property
    def train(self) -> np.ndarray:
        """Rows of the training stimuli."""
        return np.flatnonzero(self.table["split"] == "train")

    @property
    def test(self) -> np.ndarray:
        """Rows of the test stimuli."""
        return np.flatnonzero(self.table["split"] == "test")


def make_scene(
    world: World,
    *,
    stimuli: StimulusSet | None = None,
    bank: FeatureBank | None = None,
    early: FeatureBank | None = None,
    text: FeatureBank | None = None,
    progress: bool = True,
) -> Scene:
    """Choose pictures, split them by concept, and compute features that were not given.

    Parameters
    ----------
    world : World
        Numbers of concepts and pictures, encoders, layers and views.
    stimuli : StimulusSet, optional
        Pictures; by default the world's own.
    bank : FeatureBank, optional
        Features in the world's views, driver layer and target layer; extracted by default.
    early : FeatureBank, optional
        Early visual features (view ``original``); computed from the pictures by default, and left
        out when a bank is given without pictures.
    text : FeatureBank, optional
        Text vectors by concept (view ``text``); computed by default.
    progress : bool
        Show bars when someone is watching.
    """
    if stimuli is None and bank is None:
        stimuli = _own_pictures(world)
    if stimuli is not None:
        table = _split_table(world, stimuli.table)
        stimuli = stimuli.select(list(table.index))
    else:
        assert bank is not None
        table = _split_table(world, bank.stimuli)
    ids = list(table.index)
    if bank is None:
        assert stimuli is not None
        layers = tuple(dict.fromkeys((world.driver_layer, world.target_layer)))
        bank = FeatureBank.extract(stimuli, world.encoder, world.views, layers, progress=progress)
    else:
        bank = bank.select(ids)
    if early is None and stimuli is not None and world.early_uv > 0:
        early = FeatureBank.extract(
            stimuli, early_encoder(world.foveation > 0), ("original",), progress=progress
        )
    if text is None and world.meaning_uv > 0:
        names = sorted(set(table["concept"]))
        text = FeatureBank.from_text({name: name for name in names}, world.text_encoder)
    features = _features(world, table, bank, early, text)
    return Scene(table, stimuli, _target_only(bank, world), text, features)


def _own_pictures(world: World) -> StimulusSet:
    names = demo_pictures()
    wanted = world.train_concepts + world.test_concepts
    if len(names) < wanted:
        raise DataError(
            f"world {world.name!r} needs more named pictures than there are",
            found=len(names),
            expected=wanted,
            fix="lower train_concepts or test_concepts, or pass stimuli",
        )
    order = concept_order(world)
    return shown_pictures(
        world, order[len(names) - world.train_concepts :], order[: world.test_concepts]
    )


def concept_order(world: World) -> list[str]:
    """All named pictures in the order in which a world takes them.

    Test concepts come from one end and training concepts from the other: smaller worlds are parts
    of larger ones, and no concept is training in one world and test in another.
    """
    names = [name for name, _ in demo_pictures()]
    rng = _random.generator(world.picture_seed, "simulation", "concepts")
    return [names[place] for place in rng.permutation(len(names))]


def shown_pictures(world: World, train: Sequence[str], test: Sequence[str]) -> StimulusSet:
    """A world's pictures of some concepts: its exemplars in training, one of each in the test."""
    sets = [
        picture_set(sorted(chosen), count, world.picture_seed, world.picture_size)
        for chosen, count in ((train, world.train_exemplars), (test, 1))
    ]
    table = pd.concat([one.table for one in sets])
    table["split"] = np.repeat(["train", "test"], [len(one) for one in sets])
    sources = {id: (lambda s=one, i=id: s.image(i)) for one in sets for id in one.ids}
    return StimulusSet(table, sources)


def _split_table(world: World, table: pd.DataFrame) -> pd.DataFrame:
    """Stimuli that are shown, with their split: as given, or by concept."""
    if "split" in table:
        shown = table.loc[table["split"].isin(["train", "test"]), ["concept", "split"]]
        both = set(shown.loc[shown["split"] == "train", "concept"])
        both &= set(shown.loc[shown["split"] == "test", "concept"])
        if both:
            raise DataError(
                "concepts are both training and test: " + listing(sorted(both)),
                fix="give every concept one split",
            )
        missing = {"train", "test"} - set(shown["split"])
        if missing:
            raise DataError("the stimuli have no " + " and no ".join(sorted(missing)) + " part")
        return shown.astype(str)
    concepts = np.asarray(sorted(set(table["concept"].astype(str))), dtype=object)
    if len(concepts) <= world.test_concepts:
        raise DataError(
            f"world {world.name!r} tests {world.test_concepts} concepts; none is left to train on",
            found=f"{len(concepts)} concepts",
            fix="lower test_concepts or pass more stimuli",
        )
    order = _random.generator(world.picture_seed, "simulation", "concepts").permutation(
        len(concepts)
    )
    test = set(concepts[order[: world.test_concepts]])
    train = set(concepts[order[world.test_concepts :][: world.train_concepts]])
    shown = table[["concept"]].astype(str)
    number = shown.groupby("concept").cumcount()
    is_test = shown["concept"].isin(test) & (number == 0)
    is_train = shown["concept"].isin(train) & (number < world.train_exemplars)
    shown = shown.assign(split=np.where(is_test, "test", "train"))
    return shown[is_test | is_train]


def _features(
    world: World,
    table: pd.DataFrame,
    bank: FeatureBank,
    early: FeatureBank | None,
    text: FeatureBank | None,
) -> dict[str, Features]:
    ids, fit_on = list(table.index), np.flatnonzero(table["split"] == "train")
    found: dict[str, Features] = {}
    if early is not None and world.early_uv > 0:
        raw = early.vectors("original", ids=ids)[None]
        found["early"] = reduce_features(raw, fit_on, world.early_dims, world.whitening)
    if world.object_uv > 0:
        layer = world.driver_layer
        raw = bank.vectors("original", layer, ids)[None]
        if world.foveation > 0:
            seen = np.stack([bank.vectors(view, layer, ids) for view in world.seen])
            raw = (1.0 - world.foveation) * raw + world.foveation * seen
        found["object"] = reduce_features(raw, fit_on, world.object_dims, world.whitening)
    if text is not None and world.meaning_uv > 0:
        raw = text.vectors("text", ids=[str(c) for c in table["concept"]])[None]
        found["meaning"] = reduce_features(raw, fit_on, world.meaning_dims, world.whitening)
    return found


def _target_only(bank: FeatureBank, world: World) -> FeatureBank:
    # The driver layer belongs to the generator; decoding it would be undoing what was just done.
    arrays = {key: value for key, value in bank.arrays.items() if key[1] == world.target_layer}
    return replace(bank, arrays=arrays, default_layer=world.target_layer)

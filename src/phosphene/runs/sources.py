"""From a recipe to what it trains and tests on: recordings, a feature bank, and folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phosphene.config import Recipe, reconstructs
from phosphene.runs.data import load_recordings
from phosphene.runs.features import make_bank, make_pictures
from phosphene.runs.folds import Fold, make_folds, split_rule

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet
    from phosphene.simulation.scene import Scene
    from phosphene.stimuli.bank import FeatureBank


@dataclass(frozen=True, eq=False)
class Sources:
    """Everything that a recipe trains and tests on.

    Parameters
    ----------
    folds : tuple of Fold
        A decoder is trained for each.
    bank : FeatureBank
        Vectors of all stimuli.
    fingerprint : dict of str to str
        Digests of recordings and features; an unfinished run refuses to go on with others.
    facts : dict
        Fields of the protocol that only the recipe knows.
    stimuli : StimulusSet, optional
        The pictures, for methods that make pictures.
    """

    folds: tuple[Fold, ...]
    bank: FeatureBank
    fingerprint: dict[str, str]
    facts: dict[str, Any]
    stimuli: StimulusSet | None = None


def load_sources(recipe: Recipe, *, scene: Scene | None = None, progress: bool = True) -> Sources:
    """Load what a recipe asks for.

    Parameters
    ----------
    recipe : Recipe
        The sections ``data``, ``features`` and ``split`` are used.
    scene : Scene, optional
        Pictures and features of the recipe's simulated world, when they are made already.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Sources

    Raises
    ------
    DataError
        If files are missing or unreadable, or their ids do not fit together.
    RecipeError
        If the sections do not fit together.
    """
    from phosphene._saving import sha256_json

    loaded = load_recordings(recipe, scene, progress)
    pictures = make_pictures(recipe, loaded) if reconstructs(recipe.method.name) else None
    bank = make_bank(recipe, loaded, progress)
    folds = tuple(make_folds(recipe, loaded))
    prints = [recording.fingerprint for recording in loaded.recordings]
    return Sources(
        folds,
        bank,
        {
            "recording": prints[0] if len(prints) == 1 else sha256_json(prints),
            "features": bank.hash,
        },
        {**loaded.facts, "split_rule": split_rule(recipe)},
        pictures,
    )

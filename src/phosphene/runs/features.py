"""Feature banks from the section ``features`` of a recipe, and of new galleries."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _registry
from phosphene.config import (
    BankFeatures,
    ImageFeatures,
    OneHotFeatures,
    ReaderData,
    Recipe,
    TextFeatures,
    method_class,
    reconstructs,
)
from phosphene.errors import DataError, RecipeError, listing
from phosphene.runs.banks import read_stimuli
from phosphene.runs.data import Loaded

if TYPE_CHECKING:
    from phosphene.data.stimuli import StimulusSet
    from phosphene.simulation.scene import Scene
    from phosphene.stimuli.bank import FeatureBank


def method_views(recipe: Recipe) -> list[str] | None:
    """Views that the recipe's features prescribe to the method; None where the method chooses."""
    if isinstance(recipe.features, TextFeatures):
        return ["text"]
    if isinstance(recipe.features, OneHotFeatures):
        return ["onehot"]
    return None


def make_bank(recipe: Recipe, loaded: Loaded, progress: bool) -> FeatureBank:
    """Vectors of every stimulus of a recipe's recordings, with those of the concepts' names.

    Raises
    ------
    RecipeError
        If pictures are not named, or the method needs names that the recipe has no vectors of.
    DataError
        If there are no pictures, or some that were shown are not among them.
    """
    features = recipe.features
    named = isinstance(features, (ImageFeatures, BankFeatures))
    captions = getattr(features, "captions", None)
    if captions is not None and not reconstructs(recipe.method.name):
        raise RecipeError(
            f"{recipe.method.name} retrieves and reads no captions (features.captions)",
            found=captions,
            fix="leave features.captions out",
        )
    constructor = method_class(recipe.method.name)
    needed = bool(getattr(constructor, "needs_text", False))
    if needed and (not named or (isinstance(features, ImageFeatures) and features.text is None)):
        raise _names_missing(recipe)  # before hours of extraction
    bank = with_names(_vectors(recipe, loaded, progress), recipe)
    if needed and bank.text is None:
        raise _names_missing(recipe)
    return bank


def make_pictures(recipe: Recipe, loaded: Loaded) -> StimulusSet:
    """The pictures that were shown, for methods that make pictures.

    Raises
    ------
    RecipeError
        If pictures are not named.
    DataError
        If some that were shown are not among them.
    """
    features = recipe.features
    if not isinstance(features, ImageFeatures):
        raise RecipeError(
            f"{recipe.method.name} learns from pictures (features.folder)",
            found=f"features of kind {features.kind!r}",
            expected="features of kind images",
        )
    if loaded.scene is not None and features.folder is None:
        if loaded.scene.stimuli is None:
            raise RecipeError("this simulated world has features only, and no pictures")
        return loaded.scene.stimuli
    pictures = _pictures(recipe, features, _shown(loaded))
    return pictures if features.captions is None else with_captions(pictures, features.captions)


def with_captions(stimuli: StimulusSet, path: Path) -> StimulusSet:
    """The pictures with captions from a CSV file.

    Raises
    ------
    DataError
        If the file is missing, lacks a column, or has no caption for a picture.
    """
    import pandas as pd

    from phosphene.data._ids import resolve_ids
    from phosphene.data.stimuli import StimulusSet

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"features.captions: cannot read {path}", found=error) from error
    if missing := [name for name in ("stimulus", "caption") if name not in table]:
        raise DataError(
            f"features.captions: {path} has no column {', '.join(missing)}",
            found=", ".join(table.columns),
            expected="stimulus, caption",
        )
    rows = resolve_ids(stimuli.ids, list(table["stimulus"]), what="caption")
    captions = [table["caption"][row].strip() for row in rows]
    if empty := [name for name, text in zip(stimuli.ids, captions, strict=True) if not text]:
        raise DataError(f"features.captions: {path} has no words for {listing(empty)}")
    return StimulusSet(stimuli.table.assign(caption=captions), stimuli.sources)


def with_names(bank: FeatureBank, recipe: Recipe) -> FeatureBank:
    """The bank with vectors of its concepts' names, where the recipe asks for them."""
    text = getattr(recipe.features, "text", None)
    return bank if text is None else bank.with_text(text.encoder, text.prompt)


def _names_missing(recipe: Recipe) -> RecipeError:
    kind = recipe.features.kind
    return RecipeError(
        f"{recipe.method.name} needs vectors of the concepts' names (features.text)",
        found=f"features of kind {kind!r} without any",
        fix="features.text: {encoder: use, prompt: photo}"
        + ("" if kind in ("images", "bank") else ", in features of kind images or bank"),
    )


def _vectors(recipe: Recipe, loaded: Loaded, progress: bool) -> FeatureBank:
    from phosphene.stimuli.bank import FeatureBank

    features = recipe.features
    if isinstance(features, BankFeatures):
        if not (features.path / "bank.json").is_file():
            raise DataError(
                f"features.path: there is no saved FeatureBank in {features.path}",
                fix="FeatureBank.save(folder) writes one",
            )
        return FeatureBank.load(features.path)
    if isinstance(features, ImageFeatures):
        views = features.views or _default_views(recipe)
        if loaded.scene is not None and features.folder is None:
            return _scene_bank(loaded.scene, recipe, features, views, progress)
        return FeatureBank.extract(
            _pictures(recipe, features, _shown(loaded)),
            features.encoder,
            views,
            features.layers,
            progress=progress,
        )
    shown = _shown(loaded)
    if isinstance(features, TextFeatures):
        from phosphene.data.recording import concept_text

        texts = {stimulus: concept_text(concept) for stimulus, concept in shown.items()}
        bank = FeatureBank.from_text(texts, features.encoder, features.prompt)
        return _with_concepts(bank, shown)
    return onehot_bank(shown)


def _pictures(recipe: Recipe, features: ImageFeatures, shown: Mapping[str, str]) -> StimulusSet:
    """The pictures that were shown: of ``features.folder``, else from below the data's root."""
    from phosphene.data._ids import resolve_ids

    folder = features.folder
    if folder is None and isinstance(recipe.data, ReaderData):
        root = recipe.data.root
        folder = root if root.is_dir() else root.parent
    if folder is None:
        raise RecipeError(
            "features.folder is missing: where are the pictures?",
            fix="features.folder: path/to/images",
        )
    try:
        stimuli = read_stimuli(folder)
        rows = resolve_ids(list(shown), stimuli.ids, what="stimulus")
    except DataError as error:
        if features.folder is not None:
            raise
        raise DataError(
            f"the pictures that were shown are not below data.root, {folder}",
            found=" ".join(str(error).split()),
            expected=f"{len(shown)} pictures such as {next(iter(shown))}",
            fix="features.folder: path/to/images",
        ) from error
    return stimuli.select([stimuli.ids[row] for row in rows])


def _default_views(recipe: Recipe) -> list[str]:
    """Views that the method asks for."""
    constructor = method_class(recipe.method.name)
    parameter = inspect.signature(constructor).parameters.get("views")
    views = recipe.method.params.get("views", getattr(parameter, "default", None))
    if views is None:
        return ["original"]
    return [views] if isinstance(views, str) else [str(view) for view in views]


def union_views(recipes: Iterable[Recipe]) -> list[str]:
    """Views that any of some recipes on the same pictures asks for, so that one bank serves all."""
    views: list[str] = []
    for recipe in recipes:
        if isinstance(recipe.features, ImageFeatures):
            views += recipe.features.views or []
        views += _default_views(recipe)
    return list(dict.fromkeys(views))


def _scene_bank(
    scene: Scene, recipe: Recipe, features: ImageFeatures, views: list[str], progress: bool
) -> FeatureBank:
    """Features of a simulated world: those it has, if they are what is asked for."""
    from phosphene.stimuli.bank import FeatureBank
    from phosphene.stimuli.views import expand_views

    bank = scene.bank
    there = (bank.provenance.get("encoder") or {}).get("id") == features.encoder
    there = there and {view.name for view in expand_views(views)} <= set(bank.views)
    if there and (features.layers is None or set(features.layers) <= set(bank.layers)):
        return bank
    if scene.stimuli is None:
        raise RecipeError("this simulated world has features only, no pictures to extract from")
    return FeatureBank.extract(
        scene.stimuli, features.encoder, views, features.layers, progress=progress
    )


def _shown(loaded: Loaded) -> dict[str, str]:
    """Every stimulus that was shown, with its concept."""
    shown: dict[str, str] = {}
    for recording in loaded.recordings:
        table = recording.trials.drop_duplicates("stimulus")
        shown |= dict(zip(table["stimulus"], table["concept"], strict=True))
    return shown


def _with_concepts(bank: FeatureBank, concepts: Mapping[str, str]) -> FeatureBank:
    table = bank.stimuli.assign(concept=[concepts[name] for name in bank.ids])
    return dataclasses.replace(bank, stimuli=table)


def onehot_bank(concepts: Mapping[str, str]) -> FeatureBank:
    """One-hot vectors of concepts: the nearest of them is the class that a decoder names.

    Parameters
    ----------
    concepts : mapping of str to str
        Concept of every stimulus.

    Returns
    -------
    FeatureBank
        View ``onehot``; as many dimensions as there are concepts.
    """
    import numpy as np

    from phosphene.stimuli.bank import FeatureBank

    classes = sorted(set(concepts.values()))
    vectors = np.zeros((len(concepts), len(classes)), dtype=np.float32)
    vectors[np.arange(len(concepts)), [classes.index(c) for c in concepts.values()]] = 1.0
    return FeatureBank.from_arrays(
        list(concepts),
        {"onehot": vectors},
        concepts=list(concepts.values()),
        provenance={"encoder": {"id": "onehot", "classes": classes}},
    )


def gallery_bank(gallery: Any, recipe: Recipe, decoder: Any, *, progress: bool) -> FeatureBank:
    """Vectors of a gallery, in the space and the view that a decoder compares with.

    Parameters
    ----------
    gallery : FeatureBank or path
        A bank, the folder of a saved one, a folder of pictures, or a text file with one name per
        line.
    recipe : Recipe
        Says which encoder the decoder's targets came from.
    decoder : Decoder
        Fitted.
    progress : bool
        Show a bar when someone is watching.
    """
    from phosphene.data.stimuli import StimulusSet
    from phosphene.stimuli.bank import FeatureBank

    if isinstance(gallery, FeatureBank):
        return gallery
    path = Path(gallery)
    if (path / "bank.json").is_file():
        return FeatureBank.load(path)
    if path.is_file() and path.suffix == ".txt":
        if not isinstance(recipe.features, TextFeatures):
            raise DataError(
                f"{path} holds names, but the decoder was trained on {recipe.features.kind}",
                fix="pass a folder of pictures or a saved FeatureBank",
            )
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        names = list(dict.fromkeys(name for name in names if name))
        return FeatureBank.from_text(names, recipe.features.encoder, recipe.features.prompt)
    if not path.is_dir():
        raise DataError(
            f"there is no gallery {path}",
            expected="a folder of pictures or a saved FeatureBank",
        )
    encoder = _image_encoder(recipe, path)
    bank = FeatureBank.extract(
        StimulusSet.from_folder(path),
        encoder,
        [decoder.gallery_view_],
        [decoder.layer_],
        progress=progress,
    )
    return with_names(bank, recipe)


def _image_encoder(recipe: Recipe, gallery: Path) -> str:
    """Name of the encoder that new pictures must go through to be in the run's space."""
    features = recipe.features
    if isinstance(features, ImageFeatures):
        return features.encoder
    name = ""
    if isinstance(features, BankFeatures):
        from phosphene.stimuli.bank import FeatureBank

        provenance = FeatureBank.load(features.path).provenance
        name = str((provenance.get("encoder") or {}).get("id", ""))
        kind, colon, _ = name.partition(":")
        if kind in _registry.names("image_encoder"):
            revision = provenance.get("revision") if colon else None
            return f"{name}@{revision}" if revision else name
    raise DataError(
        f"pictures of {gallery} cannot be brought into the space of this run",
        found=f"features of kind {features.kind!r}" + (f", encoder {name!r}" if name else ""),
        expected="features of a registered image encoder",
        fix="pass the gallery as a saved FeatureBank of the same encoder",
    )

"""Recipes: what is trained on what and how it is scored, as a YAML file checked field by field.

A recipe has the sections ``data``, ``features``, ``split``, ``method`` and ``evaluation``. Unknown
keys are errors that name the nearest valid one. Paths may be relative to the recipe's folder and
may hold ``~`` and environment variables.
"""

from __future__ import annotations

import inspect
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
)

from phosphene import _registry
from phosphene.errors import RecipeError, listing


def _expand(path: Path, info: ValidationInfo) -> Path:
    """Make a recipe's path absolute: environment variables, ``~``, then the recipe's folder."""
    text = os.path.expandvars(str(path))
    if missing := re.findall(r"\$\{?(\w+)\}?", text):
        raise ValueError(f"the environment variable {listing(missing)} is not set")
    base = Path((info.context or {}).get("folder", "."))
    return Path(os.path.normpath(base.absolute() / Path(text).expanduser()))


RecipePath = Annotated[Path, AfterValidator(_expand)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Signals(_Section):
    """What every kind of data can be cut to.

    Parameters
    ----------
    channels : list of str, or str, optional
        Names, or ``occipito-parietal`` for the 17 channels over visual cortex.
    roi : str, optional
        Region of interest (voxels).
    window : two floats, optional
        First and last time, seconds.
    """

    channels: list[str] | Literal["occipito-parietal"] | None = None
    roi: str | None = None
    window: tuple[float, float] | None = None


class SimulatedData(Signals):
    """A recording from a named simulated world.

    Parameters
    ----------
    world : str
        Registered name (``phosphene list worlds``).
    params : dict
        Parameters of the world that differ from its definition, e.g. ``{signal: 0}``.
    subjects : int or list of str
        How many people, or their names ("01", "02", ...).
    seed : int, optional
        Seed of people, trials and noise; the recipe's own by default.
    averaged : bool
        One average per stimulus instead of single trials.
    train_repetitions, test_repetitions : int
        Trials per stimulus.
    """

    kind: Literal["simulated"]
    world: str = "standard"
    params: dict[str, Any] = Field(default_factory=dict)
    subjects: PositiveInt | list[str] = 1
    seed: int | None = Field(default=None, ge=0)
    averaged: bool = True
    train_repetitions: PositiveInt = 4
    test_repetitions: PositiveInt = 80


class RecordingData(Signals):
    """Recordings that were saved by phosphene, ``-epo.fif`` files of MNE or ``.npz`` archives.

    Parameters
    ----------
    path : path or list of paths
        One file or folder per part; parts are joined.
    stimulus, concept : str
        Columns of the metadata of ``-epo.fif`` files; the concept follows from the stimulus's path
        when its column is not named.
    """

    kind: Literal["recording"]
    path: RecipePath | list[RecipePath]
    stimulus: str = "stimulus"
    concept: str | None = None


class BlockAverage(_Section):
    """One average per block of volumes, labels moved later by the delay of the blood response.

    Parameters
    ----------
    shift_trs : int
        Delay in volumes.
    drop : list of str
        Labels that are no stimulus.
    """

    shift_trs: int = Field(default=2, ge=0)
    drop: list[str] = Field(default_factory=lambda: ["rest"])


class NiftiPreprocess(_Section):
    """What is done to the voxels; every step works within one run and learns from none.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend.
    zscore : "run" or None
        Divide by the standard deviation of the run.
    block_average : BlockAverage or None
        Average blocks; single volumes otherwise.
    """

    detrend: bool = True
    zscore: Literal["run"] | None = "run"
    block_average: BlockAverage | None = BlockAverage()


class NiftiData(Signals):
    """A 4-D NIfTI image with a mask and a table of labels (one row per volume).

    Parameters
    ----------
    bold, mask, labels : path
        The files.
    subject : str
        Who it is.
    tr : float, optional
        Seconds between volumes; from the header by default.
    concepts : dict of str to str
        Words for labels, where a label is no word.
    preprocess : NiftiPreprocess
        What is done to the voxels.
    """

    kind: Literal["nifti"]
    bold: RecipePath
    mask: RecipePath
    labels: RecipePath
    subject: str = "01"
    tr: float | None = Field(default=None, gt=0)
    concepts: dict[str, str] = Field(default_factory=dict)
    preprocess: NiftiPreprocess = NiftiPreprocess()


class ImageFeatures(_Section):
    """Vectors of an image encoder, for the pictures of a folder or of the simulated world.

    Parameters
    ----------
    folder : path, optional
        Pictures; a simulated world has its own.
    encoder : str
        Registered image encoder.
    views : list of str, optional
        Views of the pictures; those that the method asks for by default.
    layers : list of str, optional
        Layers of the encoder; its default layer by default.
    """

    kind: Literal["images"]
    folder: RecipePath | None = None
    encoder: str = "efficientnet-lite0"
    views: list[str] | None = Field(default=None, min_length=1)
    layers: list[str] | None = Field(default=None, min_length=1)


class BankFeatures(_Section):
    """Vectors that are ready: the folder of a saved ``FeatureBank``."""

    kind: Literal["bank"]
    path: RecipePath


class TextFeatures(_Section):
    """Vectors of the concepts' names."""

    kind: Literal["text"]
    encoder: str = "use"
    prompt: str = "{concept}"


class OneHotFeatures(_Section):
    """One dimension per concept: retrieval among these vectors is plain classification."""

    kind: Literal["onehot"]


class ColumnSplit(_Section):
    """The column ``split`` of the trials says which are for training and which for the test."""

    kind: Literal["column"]


class ConceptSplit(_Section):
    """Hold out whole concepts, drawn from the recipe's seed."""

    kind: Literal["concept"]
    test: PositiveInt | float | list[str] = 50
    seed: int | None = None


class LeaveOneOutSplit(_Section):
    """One fold per run (or session, or subject), which is left out."""

    kind: Literal["leave_one_run_out"]
    column: str = "run"


class ConceptPairsSplit(_Section):
    """One fold per pair of concepts, both left out."""

    kind: Literal["concept_pairs"]


class MethodChoice(_Section):
    """A registered method and its hyper-parameters."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class Evaluation(_Section):
    """How the test data are scored.

    Parameters
    ----------
    repetitions : "all" or int
        Test repetitions averaged into one query.
    zero_shot : bool
        Refuse test concepts that occur in training.
    shuffle_labels : int, optional
        Shuffle which training trial belongs to which stimulus, from this seed: the accuracy must
        then fall to chance.
    """

    repetitions: Literal["all"] | PositiveInt = "all"
    zero_shot: bool = True
    shuffle_labels: int | None = None


Data = Annotated[SimulatedData | RecordingData | NiftiData, Field(discriminator="kind")]
Features = Annotated[
    ImageFeatures | BankFeatures | TextFeatures | OneHotFeatures, Field(discriminator="kind")
]
SplitChoice = Annotated[
    ColumnSplit | ConceptSplit | LeaveOneOutSplit | ConceptPairsSplit,
    Field(discriminator="kind"),
]


class Recipe(_Section):
    """A whole experiment.

    Parameters
    ----------
    name : str
        Printed in tables and reports.
    seed : int
        The one seed of the run.
    data, features, split, method, evaluation
        The sections; see their classes.
    per_subject : bool
        Train one decoder per person (the field's intra-subject protocol) instead of one for all.

    Examples
    --------
    >>> recipe = Recipe.model_validate({
    ...     "name": "example", "data": {"kind": "simulated"}, "features": {"kind": "images"},
    ...     "split": {"kind": "column"}, "method": {"name": "ridge"}})
    >>> recipe.data.world, recipe.evaluation.repetitions
    ('standard', 'all')
    """

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    data: Data
    features: Features
    split: SplitChoice
    method: MethodChoice
    evaluation: Evaluation = Evaluation()
    per_subject: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, every default filled in."""
        return self.model_dump(mode="json")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check it to the last key.

    Parameters
    ----------
    path : path
        A YAML file.
    overrides : sequence of str
        Changes such as ``"method.params.epochs=3"``; the value is read as YAML.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If the file is missing or not YAML, or a key or value is not valid; names the key by its
        dotted path and the nearest valid name.
    """
    path = Path(path)
    values = _read(path)
    for override in overrides:
        _override(values, override)
    return parse_recipe(values, folder=path.parent, origin=str(path))


def parse_recipe(
    values: Mapping[str, Any], *, folder: str | Path = ".", origin: str = "recipe"
) -> Recipe:
    """Check the values of a recipe; ``folder`` is what its relative paths start from.

    Raises
    ------
    RecipeError
        As in :func:`load_recipe`.
    """
    try:
        recipe = Recipe.model_validate(dict(values), context={"folder": str(folder)})
    except ValidationError as error:
        # Unknown keys first: other problems often follow from a misspelt one.
        found = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        problems = [_problem(item) for item in found]
        hints = [hint.strip() for _, hint in problems if hint]
        raise RecipeError(
            f"{origin}: {listing(dict.fromkeys(what for what, _ in problems), limit=8)}",
            fix="; ".join(list(dict.fromkeys(hints))[:8]) or None,
        ) from None
    _check_method(recipe.method, origin)
    return recipe


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise RecipeError(
            f"there is no recipe {path}",
            found=f"in that folder: {listing(near)}" if near else None,
            expected="a YAML file, such as recipes/simulated/ridge.yaml",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}", found=error) from None
    try:
        values = yaml.load(text, Loader=_unique_loader())
    except yaml.YAMLError as error:
        raise RecipeError(
            f"{path} is not valid YAML",
            found=" ".join(str(error).split()),
            fix="mind the indentation, and quote values that hold a colon",
        ) from None
    if not isinstance(values, dict):
        raise RecipeError(
            f"{path} does not hold a recipe",
            found="an empty file" if values is None else type(values).__name__,
            expected="a mapping with " + ", ".join(Recipe.model_fields),
        )
    return values


def _unique_loader() -> Any:
    """Return a SafeLoader that refuses a key given twice (YAML would keep the last silently)."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            if twice := [key for n, key in enumerate(keys) if key in keys[:n]]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {twice[0]!r} is given twice", node.start_mark
                )
            return super().construct_mapping(node, deep=deep)

    return Loader


def _override(values: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(
            f"cannot understand the override {override!r}",
            expected="a.b=value, e.g. method.params.epochs=3",
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            f"the value in the override {override!r} is not valid YAML",
            found=" ".join(str(error).split()),
        ) from None
    section: Any = values
    for depth, part in enumerate(parts[:-1]):
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise RecipeError(
                f"the override {override!r} cannot be applied",
                found=f"{'.'.join(parts[: depth + 1])} is {section!r}",
                expected="a section",
            )
    section[parts[-1]] = value


def _problem(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """One finding of pydantic as (what is wrong, what to do), with the dotted path of the key."""
    path, beside, below = _located(error["loc"])
    where = ".".join(path) or "the recipe"
    kind = error["type"]
    if kind == "extra_forbidden":
        section = ".".join(path[:-1]) or "the recipe"
        near = _registry.did_you_mean(path[-1], beside)
        return f"unknown key {where!r}", f"{near or ''} valid in {section}: {', '.join(beside)}"
    if kind == "missing":
        return f"the key {where!r} is missing", f"add {where!r}"
    tags = [tag for model in below for tag in _tags(model)]
    if kind == "union_tag_not_found":
        return f"the key '{where}.kind' is missing", f"{where}.kind is one of {', '.join(tags)}"
    if kind == "union_tag_invalid":
        found = str(error["ctx"]["tag"])
        hint = _registry.did_you_mean(found, tags) or f"{where}.kind is one of {', '.join(tags)}"
        return f"{where}.kind is {found!r}", hint
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where} is {error['input']!r}", f"{where}: {message[:1].lower() + message[1:]}"


def _located(loc: Sequence[int | str]) -> tuple[list[str], list[str], list[type[BaseModel]]]:
    """The recipe's keys of a location, the valid names beside the last, and what may lie below it.

    Between the keys pydantic puts names of union members ("simulated", "constrained-int"), which no
    user wrote.
    """
    path: list[str] = []
    models: list[type[BaseModel]] = [Recipe]
    beside: list[str] = []
    mapping = False
    for part in loc:
        if len(models) > 1:
            models = [model for model in models if part in _tags(model)] or models
            continue
        if models:
            beside = list(models[0].model_fields)
            path.append(str(part))
            mapping, models = _inside(models[0], part)
        elif mapping or isinstance(part, int):
            path.append(str(part))
    return path, beside, models


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return typing.get_args(kind.annotation) if kind else ()


def _inside(model: type[BaseModel], name: int | str) -> tuple[bool, list[type[BaseModel]]]:
    """Whether the field ``name`` holds a mapping, and the models that it can hold."""
    field = model.model_fields.get(str(name))
    if field is None:
        return False, []
    annotation = field.annotation
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    options = typing.get_args(annotation) if union else (annotation,)
    models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
    return typing.get_origin(annotation) is dict, models


def _check_method(method: MethodChoice, origin: str) -> None:
    """Compare ``method.params`` with the constructor, so that a typo is found before any work."""
    constructor = _registry.get("method", method.name)
    parameters = inspect.signature(constructor).parameters
    known = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if unknown := [name for name in method.params if name not in known]:
        raise RecipeError(
            f"{origin}: {method.name} has no parameter {listing(map(repr, unknown))} "
            f"(method.params.{unknown[0]})",
            expected="one of " + ", ".join(known),
            fix=_registry.did_you_mean(unknown[0], known),
        )

"""Reading recipes: YAML, overrides, and errors that name the key and the nearest valid one."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

from pydantic import (
    BaseModel,
    ValidationError,
)

from phosphene import _registry
from phosphene.config.methods import method_class
from phosphene.config.schema import MethodChoice, ReaderData, Recipe
from phosphene.errors import RecipeError, listing

Model = TypeVar("Model", bound=BaseModel)


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
    values = _read(path, Recipe)
    for override in overrides:
        _override(values, override)
    return parse_recipe(values, folder=path.parent, origin=str(path))


def read_model(model: type[Model], path: str | Path, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file as a recipe of another kind, such as of brain-aligned vectors.

    Raises
    ------
    RecipeError
        As in :func:`load_recipe`; parameters of parts are for the caller to check.
    """
    path = Path(path)
    values = _read(path, model)
    for override in overrides:
        _override(values, override)
    return _validated(model, values, str(path.parent), str(path))


def parse_recipe(
    values: Mapping[str, Any], *, folder: str | Path = ".", origin: str = "recipe"
) -> Recipe:
    """Check the values of a recipe; ``folder`` is what its relative paths start from.

    Raises
    ------
    RecipeError
        As in :func:`load_recipe`.
    """
    recipe = _validated(Recipe, values, str(folder), origin)
    _check_method(recipe.method, origin)
    if isinstance(recipe.data, ReaderData):
        check_reader(recipe.data, origin)
    return recipe


def _validated(model: type[Model], values: Mapping[str, Any], folder: str, origin: str) -> Model:
    try:
        return model.model_validate(dict(values), context={"folder": folder})
    except ValidationError as error:
        # Unknown keys first: other problems often follow from a misspelt one.
        found = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        problems = [_problem(item, model) for item in found]
        hints = [hint.strip() for _, hint in problems if hint]
        raise RecipeError(
            f"{origin}: {listing(dict.fromkeys(what for what, _ in problems), limit=8)}",
            fix="; ".join(list(dict.fromkeys(hints))[:8]) or None,
        ) from None


def _read(path: Path, model: type[BaseModel]) -> dict[str, Any]:
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
        values = yaml.load(text, Loader=_loader())
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
            expected="a mapping with " + ", ".join(model.model_fields),
        )
    return values


def read_value(text: str) -> Any:
    """Read one value written as in a recipe: ``3``, ``1e-4``, ``[a, b]``, ``null``.

    Raises
    ------
    yaml.YAMLError
        If it is not valid YAML.
    """
    import yaml

    return yaml.load(text, Loader=_loader())


def _loader() -> Any:
    """Return a SafeLoader that refuses a key given twice, and reads ``1e-4`` as a number.

    YAML would keep the last of two keys silently; PyYAML wants ``1.0e-4`` for a number, as YAML 1.1
    did, and takes all other spellings for text.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            if twice := [key for n, key in enumerate(keys) if key in keys[:n]]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {twice[0]!r} is given twice", node.start_mark
                )
            return super().construct_mapping(node, deep=deep)

    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
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
        value = read_value(text)
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


def _problem(error: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str | None]:
    """One finding of pydantic as (what is wrong, what to do), with the dotted path of the key."""
    path, beside, below = _located(error["loc"], model)
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


def _located(
    loc: Sequence[int | str], root: type[BaseModel]
) -> tuple[list[str], list[str], list[type[BaseModel]]]:
    """The recipe's keys of a location, the valid names beside the last, and what may lie below it.

    Between the keys pydantic puts names of union members ("simulated", "constrained-int"), which no
    user wrote.
    """
    path: list[str] = []
    models: list[type[BaseModel]] = [root]
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
    constructor = method_class(method.name)
    parameters = inspect.signature(constructor).parameters
    known = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if unknown := [name for name in method.params if name not in known]:
        raise RecipeError(
            f"{origin}: {method.name} has no parameter {listing(map(repr, unknown))} "
            f"(method.params.{unknown[0]})",
            expected="one of " + ", ".join(known),
            fix=_registry.did_you_mean(unknown[0], known),
        )


def check_reader(data: ReaderData, origin: str) -> None:
    """Compare ``data.params`` with those arguments of the reader that have no key of their own."""
    read = _registry.get("reader", data.reader)
    parameters = list(inspect.signature(read).parameters.values())
    taken = {parameters[0].name, "subject", "subjects", "name"}
    known = [p.name for p in parameters if p.name not in taken]
    if unknown := [name for name in data.params if name not in known]:
        raise RecipeError(
            f"{origin}: the reader {data.reader!r} has no parameter "
            f"{listing(map(repr, unknown))} (data.params.{unknown[0]})",
            expected="one of " + ", ".join(known),
            fix="use data.root and data.subject"
            if unknown[0] in taken
            else _registry.did_you_mean(unknown[0], known),
        )

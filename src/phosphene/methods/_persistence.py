"""Saving and loading decoders: JSON, safetensors, a card and a manifest; never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from phosphene import _registry
from phosphene._saving import (
    atomic_folder,
    read_json,
    read_tensors,
    verify_folder,
    write_json,
    write_manifest,
    write_tensors,
    write_text,
)
from phosphene.errors import ArtefactError
from phosphene.evaluation.protocol import environment
from phosphene.methods._card import card
from phosphene.methods._protocol import describe_params, method_name

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder

D = TypeVar("D", bound="Decoder")

FORMAT = 1
_TUPLES = ("channel_names_",)


def save(decoder: Decoder, folder: Path) -> Path:
    """Write a fitted decoder; an older one of ours in the folder is replaced as a whole."""
    facts: dict[str, Any] = {}
    for name in decoder._facts:
        value = getattr(decoder, name)
        facts[name] = value.to_dict("list") if isinstance(value, pd.DataFrame) else value
    config = {
        "format": FORMAT,
        "method": method_name(decoder),
        "params": describe_params(decoder),
        "fitted": facts,
        "versions": environment(),
    }
    with atomic_folder(folder) as partial:
        write_json(partial / "config.json", config)
        write_tensors(partial / "model.safetensors", decoder._arrays())
        write_text(partial / "README.md", card(decoder, config))
        write_manifest(partial)
    return folder


def load(cls: type[D], folder: Path, params: dict[str, Any]) -> D:
    """Rebuild a decoder from its folder."""
    verify_folder(folder)
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / 'config.json'}: unknown format of a decoder",
            found=config.get("format"),
            expected=FORMAT,
        )
    target = _class(cls, str(config["method"]), folder)
    stored = {name: _tuples(value) for name, value in config["params"].items()}
    stored.update(params)
    for name, value in stored.items():
        if isinstance(value, dict) and set(value) == {"custom"}:
            raise ArtefactError(
                f"the decoder in {folder} uses code of your own as {name!r}",
                found=value["custom"],
                expected=f"from_pretrained(folder, {name}=...)",
            )
    decoder = target(**stored)
    for name, value in config["fitted"].items():
        if name == "history_":
            value = pd.DataFrame(value)
        setattr(decoder, name, tuple(value) if name in _TUPLES else value)
    arrays, _ = read_tensors(folder / "model.safetensors", framework="numpy")
    decoder._restore(arrays)
    return decoder


def _class(cls: type[D], method: str, folder: Path) -> type[D]:
    registered = {entry.name: entry.obj for entry in _registry.entries("method")}
    found = registered.get(method, cls if cls.__name__ == method else None)
    if found is None:
        raise ArtefactError(
            f"the decoder in {folder} is of an unknown class",
            found=method,
            expected="one of " + ", ".join(sorted(registered)),
            fix="import the module that defines it and call from_pretrained of its class",
        )
    if not issubclass(found, cls):
        raise ArtefactError(
            f"the decoder in {folder} is of another class", found=method, expected=cls.__name__
        )
    return found  # type: ignore[no-any-return]


def _tuples(value: Any) -> Any:
    """JSON has no tuples; constructors take them where they take sequences."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value

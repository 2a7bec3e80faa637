"""Saving and loading reconstructors, and what is noted of their training and their pictures."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import phosphene
from phosphene import _registry
from phosphene._saving import (
    atomic_folder,
    jsonable,
    read_json,
    read_tensors,
    verify_folder,
    write_json,
    write_manifest,
    write_tensors,
    write_text,
)
from phosphene.data.recording import Recording
from phosphene.errors import ArtefactError
from phosphene.evaluation.protocol import Protocol, environment, git_commit
from phosphene.methods import _protocol
from phosphene.methods._feature_decoder import FeatureDecoder
from phosphene.training.scaling import ChannelScaler

if TYPE_CHECKING:
    from phosphene.methods._reconstructor import Reconstructor

R = TypeVar("R", bound="Reconstructor")
FORMAT = 1
KIND = "reconstructor"
FACTS = (
    "train_stimuli_",
    "train_concepts_",
    "train_hashes_",
    "channel_names_",
    "n_chans_",
    "n_times_",
    "sfreq_",
    "modality_",
    "generator_facts_",
    "training_",
)


def method_name(model: Reconstructor) -> str:
    """The registered name of a reconstructor's class, or the class's own."""
    for entry in _registry.entries("reconstructor"):
        if entry.obj is type(model):
            return entry.name
    return type(model).__name__


def generator_facts(generator: Any) -> dict[str, Any]:
    """By what a generator is known again, and what must be said of it."""
    digest = getattr(getattr(generator, "model", generator), "weights_hash", "")
    return {
        "id": str(generator.id),
        "licence": str(generator.licence),
        "weights_hash": str(digest),
        "image_size": int(generator.image_size),
        "shapes": {name: list(shape) for name, shape in generator.shapes.items()},
    }


def check_generator(facts: Mapping[str, Any], generator: Any) -> None:
    """Raise unless the generator is that of training."""
    found = generator_facts(generator)
    differ = [key for key in ("id", "weights_hash", "shapes") if found[key] != facts[key]]
    if differ:
        raise ArtefactError(
            "the generator is not the one that the decoders were fitted for",
            found="; ".join(f"{key} {found[key]}" for key in differ),
            expected="; ".join(f"{key} {facts[key]}" for key in differ),
            fix="give the folder of the generator of training, or fit again",
        )


def training_facts(raw: Recording, averaged: Recording, seen: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted of the training data, as plain values."""
    times = raw.times
    facts: dict[str, Any] = {
        "dataset": raw.name,
        "subjects": sorted(raw.subjects),
        "time_window": None if times is None else [float(times[0]), float(times[-1])],
        "preprocessing": [_protocol._operation(entry) for entry in raw.history],
        "train_repetitions": _protocol._repetitions(averaged),
        "n_train_trials": int(raw.n_trials),
        "train_fingerprint": raw.fingerprint,
        "library_version": phosphene.__version__,
        "git_commit": git_commit(),
        "trials": seen,
    }
    plain: dict[str, Any] = jsonable(facts)
    return plain


def protocol(
    model: Reconstructor,
    test: Recording,
    queries: Recording,
    seed: int,
    openings: int | None,
    zero_shot: bool,
) -> Protocol:
    """How the pictures of held-out trials come about."""
    trained, made = model.training_, model.generator_facts_
    window = trained["time_window"]
    return Protocol(
        dataset=test.name,
        modality=model.modality_,
        subjects=tuple(sorted(test.subjects)) or None,
        sessions=tuple(_protocol._distinct(test.trials, "session")) or None,
        n_channels=model.n_chans_,
        channels=model.channel_names_ if model.n_times_ is not None else None,
        rois=tuple(test.sensors.rois) or None if model.n_times_ is None else None,
        time_window=None if window is None else tuple(window),
        sfreq=model.sfreq_,
        preprocessing=tuple(trained["preprocessing"]),
        whitening="channel z-score" if model.standardise else "none",
        whitening_fitted_on="training data" if model.standardise else None,
        train_repetitions=trained["train_repetitions"],
        test_repetitions=_protocol._repetitions(queries),
        split_rule=_protocol._split_rule(trained["subjects"], test, {}),
        split_kind=_protocol._split_kind(model, test),
        zero_shot=zero_shot,
        n_train_trials=trained["n_train_trials"],
        n_train_stimuli=len(model.train_stimuli_),
        n_train_concepts=len(model.train_concepts_),
        train_fingerprint=trained["train_fingerprint"],
        test_fingerprint=test.fingerprint,
        test_openings=openings,
        method=method_name(model),
        selection="closed form",
        seeds=(int(model.random_state), int(seed)),
        library_version=trained["library_version"],
        git_commit=trained["git_commit"],
        device=model.device,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        notes=(f"generator {made['id']}, licence: {made['licence']}", *model._notes()),
        **_protocol._simulation(test),
    )


def save(model: Reconstructor, folder: Path) -> Path:
    """Write a fitted reconstructor; an older one of ours in the folder is replaced as a whole."""
    config = {
        "format": FORMAT,
        "method": method_name(model),
        "params": _protocol.describe_params(model),
        "fitted": {name: getattr(model, name) for name in FACTS},
        "groups": list(model.decoders_),
        "versions": environment(),
    }
    arrays: dict[str, Any] = {
        "scaler.mean": model.scaler_.mean,
        "scaler.scale": model.scaler_.scale,
        **{f"fitted.{name}": array for name, array in model._arrays().items()},
    }
    for group, decoder in model.decoders_.items():
        arrays |= {f"decoder.{group}.{name}": part for name, part in decoder.arrays().items()}
    with atomic_folder(folder) as partial:
        write_json(partial / "config.json", config)
        write_tensors(partial / "model.safetensors", arrays)
        write_text(partial / "README.md", _card(model, config))
        write_manifest(partial, kind=KIND)
    return folder


def load(cls: type[R], folder: Path, params: Mapping[str, Any]) -> R:
    """Rebuild a reconstructor from its folder."""
    verify_folder(folder, kind=KIND)
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / 'config.json'}: unknown format of a reconstructor",
            found=config.get("format"),
            expected=FORMAT,
        )
    target = _class(cls, str(config["method"]), folder)
    stored = {name: _tuples(value) for name, value in config["params"].items()} | dict(params)
    for name, value in stored.items():
        if isinstance(value, dict) and set(value) == {"custom"}:
            raise ArtefactError(
                f"the reconstructor in {folder} was given an object of your own as {name!r}",
                found=value["custom"],
                expected=f"from_pretrained(folder, {name}=...)",
            )
    model = target(**stored)
    for name, value in config["fitted"].items():
        setattr(model, name, tuple(value) if name == "channel_names_" else value)
    arrays, _ = read_tensors(folder / "model.safetensors", framework="numpy")
    model.scaler_ = ChannelScaler(arrays["scaler.mean"], arrays["scaler.scale"])
    model.decoders_ = {
        group: FeatureDecoder.from_arrays(_below(arrays, f"decoder.{group}."))
        for group in config["groups"]
    }
    model._restore(_below(arrays, "fitted."))
    return model


def _below(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): array for n, array in arrays.items() if n.startswith(prefix)}


def _class(cls: type[R], method: str, folder: Path) -> type[R]:
    registered = {entry.name: entry.obj for entry in _registry.entries("reconstructor")}
    found = registered.get(method, cls if cls.__name__ == method else None)
    if found is None or not issubclass(found, cls):
        raise ArtefactError(
            f"the reconstructor in {folder} is of another class",
            found=method,
            expected=cls.__name__,
            fix="call from_pretrained of the class that wrote it",
        )
    return found  # type: ignore[no-any-return]


def _tuples(value: Any) -> Any:
    """JSON has no tuples; constructors take them where they take sequences."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _card(model: Reconstructor, config: Mapping[str, Any]) -> str:
    """Text of README.md."""
    trained, made = model.training_, model.generator_facts_
    shape = str(model.n_chans_) + ("" if model.n_times_ is None else f" x {model.n_times_}")
    told = {
        group: f"{len(decoder.units)} units, median leave-one-out R2 {np.median(decoder.r2):.3f}"
        for group, decoder in model.decoders_.items()
    }
    facts = {
        "data": trained["dataset"],
        "subjects": ", ".join(trained["subjects"]) or "unknown",
        "training trials": f"{trained['n_train_trials']} of {len(model.train_stimuli_)} stimuli "
        f"and {len(model.train_concepts_)} concepts",
        "fingerprint of the data": trained["train_fingerprint"],
        "input": f"{model.modality_}, {shape}",
        "generator": f"{made['id']}, weights {made['weights_hash'][:16] or 'none'}",
        "licence of its weights": made["licence"],
        **{f"decoded: {group}": text for group, text in told.items()},
        "trained with": f"phosphene {trained['library_version']}, seed {model.random_state}",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    summary = (type(model).__doc__ or type(model).__name__).strip().partition("\n")[0]
    params = json.dumps(config["params"], indent=1)
    return f"""---
library_name: phosphene
tags:
- brain-decoding
- image-reconstruction
- {model.modality_}
---

# {config["method"]}

{summary}

| | |
|---|---|
{rows}

```python
from phosphene.methods.{type(model).__module__.rpartition(".")[2]} import {type(model).__name__}

model = {type(model).__name__}.from_pretrained("this folder")
pictures = model.reconstruct(test)
```

Parameters:

```json
{params}
```

## Limits

The generator paints what it was trained on: a sharp picture is no evidence of what was decoded. It
knows the people, the sensors and the kind of pictures of its training. A picture is worth what its
protocol and its scores say, beside the nearest training picture. Use it on recordings of people who
agreed to this use.
"""

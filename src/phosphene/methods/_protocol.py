"""From a fitted decoder and its scores to a result with a complete protocol."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import phosphene
from phosphene import _registry
from phosphene._saving import jsonable
from phosphene.data.recording import Recording
from phosphene.evaluation.guards import nearest_training_image
from phosphene.evaluation.protocol import Protocol, git_commit
from phosphene.evaluation.result import Result
from phosphene.evaluation.similarity import Similarity
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods._decoder import Decoder


def method_name(decoder: type | Decoder) -> str:
    """The registered name of a decoder's class, or the class's own."""
    cls = decoder if isinstance(decoder, type) else type(decoder)
    for entry in _registry.entries("method"):
        if entry.obj is cls:
            return entry.name
    return cls.__name__


def describe_params(decoder: Decoder) -> dict[str, Any]:
    """Constructor parameters as plain values; code of the user's own is named."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if value is None or isinstance(value, (bool, int, float, str, np.generic)):
            return jsonable(value)
        cls = value if hasattr(value, "__qualname__") else type(value)
        return {"custom": f"{cls.__module__}.{cls.__qualname__}"}

    return {name: plain(value) for name, value in decoder.get_params(deep=False).items()}


def training_facts(
    decoder: Decoder,
    recording: Recording,
    averaged: Recording,
    bank: FeatureBank,
    started: float,
) -> dict[str, Any]:
    """What the protocol must know of training, as plain values that are saved with the model.

    ``recording`` is what was handed over, ``averaged`` what was trained on.
    """
    trials = recording.trials
    times = recording.times
    facts: dict[str, Any] = {
        "dataset": recording.name,
        "subjects": _distinct(trials, "subject"),
        "sessions": _distinct(trials, "session"),
        "time_window": None if times is None else [float(times[0]), float(times[-1])],
        "preprocessing": [_operation(entry) for entry in recording.history],
        "train_repetitions": _repetitions(averaged),
        "n_train_trials": int(recording.n_trials),
        "train_fingerprint": recording.fingerprint,
        "bank": bank.hash,
        "views": list(decoder.views_),
        "device": getattr(decoder, "device_", "cpu"),
        "precision": getattr(decoder, "precision_", "fp32"),
        "validation": decoder._validation_rule(),
        "selection": decoder._selection_rule(),
        "library_version": phosphene.__version__,
        "git_commit": git_commit(),
        **_encoders(bank, names=decoder._reads_names()),
        "seconds": time.perf_counter() - started,
    }
    plain: dict[str, Any] = jsonable(facts)
    return plain


def result(
    decoder: Decoder,
    scores: Similarity,
    recording: Recording,
    queries: Recording,
    gallery: FeatureBank,
    *,
    openings: int | None,
    zero_shot: bool,
    name: str | None,
    started: float,
) -> Result:
    """The result of an evaluation."""
    trained = decoder.training_
    label = name or method_name(decoder)
    nearest = _nearest(decoder, recording, gallery)
    seconds = time.perf_counter() - started
    adapted = {facts["subject"]: facts for facts in trained.get("adapted", [])}
    protocol = Protocol(
        dataset=recording.name,
        modality=decoder.modality_,
        subjects=tuple(_distinct(recording.trials, "subject")) or None,
        sessions=tuple(_distinct(recording.trials, "session")) or None,
        n_channels=decoder.n_chans_,
        channels=decoder.channel_names_ if decoder.n_times_ is not None else None,
        rois=tuple(recording.sensors.rois) or None if decoder.n_times_ is None else None,
        time_window=None if trained["time_window"] is None else tuple(trained["time_window"]),
        sfreq=decoder.sfreq_,
        preprocessing=tuple(trained["preprocessing"]),
        whitening="channel z-score" if decoder.standardise else "none",
        whitening_fitted_on="training data" if decoder.standardise else None,
        train_repetitions=trained["train_repetitions"],
        test_repetitions=_repetitions(queries),
        split_rule=_split_rule(trained["subjects"], recording, adapted),
        split_kind=_split_kind(decoder, recording),
        zero_shot=zero_shot,
        n_train_trials=trained["n_train_trials"],
        n_train_stimuli=len(decoder.train_stimuli_),
        n_train_concepts=len(decoder.train_concepts_),
        validation=trained["validation"],
        train_fingerprint=trained["train_fingerprint"],
        test_fingerprint=recording.fingerprint,
        test_openings=openings,
        nearest_training_cosine=None if nearest is None else float(nearest["cosine"].max()),
        gallery="exact" if scores.match == "stimulus" else "concept_centre",
        gallery_view=decoder.gallery_view_,
        score=decoder._score_rule(),
        image_encoder=trained["image_encoder"],
        image_encoder_hash=trained["image_encoder_hash"],
        text_encoder=trained["text_encoder"],
        text_encoder_hash=trained["text_encoder_hash"],
        layer=decoder.layer_,
        views=tuple(trained["views"]),
        bank=trained["bank"],
        gallery_bank=gallery.hash,
        method=method_name(decoder),
        selection=trained["selection"],
        seeds=(int(decoder.random_state),),
        library_version=trained["library_version"],
        git_commit=trained["git_commit"],
        device=trained["device"],
        precision=trained["precision"],
        wall_seconds=float(trained["seconds"]) + seconds,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        notes=_adaptations(adapted, recording),
        **_simulation(recording),
    )
    tables: dict[str, pd.DataFrame] = {}
    if nearest is not None:
        tables["nearest_training"] = nearest
    history: Any = getattr(decoder, "history_", None)
    if history is not None:
        tables["history"] = history.assign(
            method=label,
            subject=",".join(trained["subjects"]),
            seed=int(decoder.random_state),
            selected=history["epoch"] == decoder.selected_epoch_,
        )
    return Result.from_similarity(
        scores,
        protocol,
        name=label,
        config={"method": method_name(decoder), "params": describe_params(decoder)},
        timings={"fit": float(trained["seconds"]), "evaluate": seconds},
        tables=tables,
    )


def _distinct(trials: pd.DataFrame, column: str) -> list[str]:
    if column not in trials:
        return []
    return sorted({str(value) for value in trials[column] if str(value)})


def _operation(entry: Mapping[str, Any]) -> str:
    options = ", ".join(
        f"{key}={value}"
        for key, value in entry.items()
        if key != "op" and isinstance(value, (str, int, float, bool))
    )
    return f"{entry.get('op', 'operation')}({options})"


def _simulation(recording: Recording) -> dict[str, Any]:
    for entry in recording.history:
        if entry.get("op") == "simulate":
            return {"simulated": True, "world": str(entry.get("world", "")) or None}
    return {}


def _encoders(bank: FeatureBank, *, names: bool) -> dict[str, Any]:
    """Who made the vectors, under the protocol's names; with those of ``names`` that were read."""
    found: dict[str, Any] = dict.fromkeys(
        ("image_encoder", "image_encoder_hash", "text_encoder", "text_encoder_hash")
    )
    parts = {"text" if bank.provenance.get("kind") == "text" else "image": bank}
    if names and bank.text is not None:
        parts["text"] = bank.text
    for kind, part in parts.items():
        origin = part.provenance.get("encoder") or {}
        if not isinstance(origin, Mapping):
            origin = {"id": str(origin)}
        found[f"{kind}_encoder"] = origin.get("id")
        found[f"{kind}_encoder_hash"] = origin.get("weights_hash")
    return found


def _repetitions(queries: Recording) -> int:
    if "n_averaged" not in queries.trials:
        return 1
    return int(np.median(np.asarray(queries.trials["n_averaged"], dtype=float)))


def _adaptations(adapted: Mapping[str, Mapping[str, Any]], recording: Recording) -> tuple[str, ...]:
    """What the decoder saw of new subjects among those that are tested."""
    return tuple(
        f"adapted to subject {name} on {adapted[name]['trials']} training trials "
        f"(fingerprint {adapted[name]['fingerprint'][:16]})"
        for name in _distinct(recording.trials, "subject")
        if name in adapted
    )


def _split_rule(
    trained: Sequence[str], recording: Recording, adapted: Mapping[str, Any]
) -> str | None:
    tested = set(_distinct(recording.trials, "subject"))
    if not tested or not trained:
        return None
    if tested & set(adapted):
        return "adapted subjects" if tested <= set(adapted) else "adapted and other subjects"
    if not tested & set(trained):
        return "leave-one-subject-out" if len(tested) == 1 else "unseen subjects"
    return "intra-subject" if len(trained) == 1 else "pooled subjects"


def _split_kind(decoder: Decoder, recording: Recording) -> str:
    if set(_distinct(recording.trials, "stimulus")) & set(decoder.train_stimuli_):
        return "trial"
    if set(_distinct(recording.trials, "concept")) & set(decoder.train_concepts_):
        return "stimulus"
    return "concept"


def _nearest(decoder: Decoder, recording: Recording, gallery: FeatureBank) -> pd.DataFrame | None:
    """Nearest training picture of each test picture, where the gallery's bank holds both."""
    if not set(decoder.train_stimuli_) <= set(gallery.ids):
        return None
    return nearest_training_image(
        gallery,
        decoder.train_stimuli_,
        _distinct(recording.trials, "stimulus"),
        decoder.gallery_view_,
        decoder.layer_,
    )

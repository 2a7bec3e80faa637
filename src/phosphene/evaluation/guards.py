"""Guards against the usual leaks: what is tested must not have been seen in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from phosphene._validation import refuse_test_trials
from phosphene.data.sketches import content_digests, copied_recordings, sketch, sketch_trials
from phosphene.errors import DataError, LeakError, listing
from phosphene.evaluation._checks import unit_rows
from phosphene.evaluation._provenance import shared_content, step_records, where

if TYPE_CHECKING:
    from phosphene.data.recording import Recording
    from phosphene.stimuli.bank import FeatureBank

_CHUNK_ROWS = 4096


def check_fit(recording: Recording, bank: FeatureBank) -> None:
    """Refuse training data that hold test trials or stimuli without vectors.

    Parameters
    ----------
    recording : Recording
        What is about to be fitted.
    bank : FeatureBank
        Vectors of its stimuli.

    Raises
    ------
    LeakError
        If trials are marked as test, naming their stimuli.
    DataError
        If stimuli are missing in the bank, naming them, or there are no trials.
    """
    if len(recording.trials) == 0:
        raise DataError("there is nothing to fit", found="0 trials", expected="training trials")
    refuse_test_trials(recording.trials, "fit")
    bank.resolve(list(dict.fromkeys(recording.trials["stimulus"].astype(str))))


def check_zero_shot(
    train_stimuli: Iterable[str],
    train_concepts: Iterable[str],
    train_hashes: Iterable[str] | Mapping[str, str],
    test_trials: pd.DataFrame,
    gallery: FeatureBank | Mapping[str, str] | pd.Series[str] | None = None,
    *,
    zero_shot: bool = True,
) -> None:
    """Refuse a test whose stimuli, concepts or pictures have been seen in training.

    Parameters
    ----------
    train_stimuli, train_concepts : iterable of str
        What was seen in training.
    train_hashes : iterable or mapping of str
        Content hash of every training picture, in the order of ``train_stimuli`` or by id; empty
        where unknown.
    test_trials : DataFrame
        Test trials with ``stimulus`` and, if known, ``concept``.
    gallery : FeatureBank, or mapping of stimulus id to content hash, optional
        Where the hashes of the test pictures are found.
    zero_shot : bool
        Whether test concepts must be new. With False only stimuli and pictures are checked.

    Raises
    ------
    LeakError
        Naming the shared stimuli, the shared concepts, or the pairs of names under which the same
        picture occurs.

    Examples
    --------
    >>> test = pd.DataFrame({"stimulus": ["cat/2.png"], "concept": ["cat"]})
    >>> check_zero_shot(["cat/1.png"], ["cat"], [], test)
    Traceback (most recent call last):
    ...
    phosphene.errors.LeakError: 1 of 1 test concepts are in the training data: cat
    ...
    """
    seen = [str(stimulus) for stimulus in train_stimuli]
    stimuli = dict.fromkeys(test_trials["stimulus"].astype(str))
    known = set(seen)
    if shared := [stimulus for stimulus in stimuli if stimulus in known]:
        raise LeakError(
            f"{len(shared)} of {len(stimuli)} test stimuli are in the training data: "
            f"{listing(shared)}",
            expected="no stimulus in both",
            fix="split by stimulus or by concept, e.g. phosphene.split_concepts",
        )
    if zero_shot and "concept" in test_trials:
        labels = test_trials["concept"]
        concepts = [c for c in dict.fromkeys(labels[labels.notna()].astype(str)) if c]
        trained = {str(concept) for concept in train_concepts}
        if shared := [concept for concept in concepts if concept in trained]:
            raise LeakError(
                f"{len(shared)} of {len(concepts)} test concepts are in the training data: "
                f"{listing(shared)}",
                expected="no concept in both, as the protocol is zero-shot",
                fix="split by concept, or evaluate with zero_shot=False and report it so",
            )
    hashes = _hashes_by_id(gallery)
    if isinstance(train_hashes, Mapping):
        names_of = {str(digest): str(name) for name, digest in train_hashes.items()}
    else:
        digests = [str(digest) for digest in train_hashes]
        labels_of = seen if len(seen) == len(digests) else ["a training picture"] * len(digests)
        names_of = dict(zip(digests, labels_of, strict=True))
    names_of.pop("", None)
    twins = [
        f"{stimulus} = {names_of[digest]}"
        for stimulus in stimuli
        if (digest := hashes.get(stimulus, "")) in names_of
    ]
    if twins:
        raise LeakError(
            f"{len(twins)} of {len(stimuli)} test pictures are in the training data under another "
            f"name: {listing(twins)}",
            expected="no picture in both",
            fix="drop the duplicates from training; StimulusSet.duplicates lists them",
        )


def remember_trials(recording: Recording) -> dict[str, Any]:
    """A small record of training trials, by which `check_trials` knows them again.

    Parameters
    ----------
    recording : Recording
        Single trials, before anything is averaged.

    Returns
    -------
    dict
        ``names`` and ``content``: sketches of `phosphene.data.sketches`, for JSON.

    Raises
    ------
    DataError
        If the signals of a run are a copy of another's (half of its trials or more, at least two):
        the same file under another subject, session or run.
    """
    digests = content_digests(recording)
    copies = copied_recordings(recording.trials, digests)
    copies = copies[(copies["n_shared"] >= 2) & (copies["share"] >= 0.5)]
    if len(copies):
        pairs = [f"{r.copy} = {r.recording} ({r.n_shared} trials)" for r in copies.itertuples()]
        raise DataError(
            f"{len(copies)} recordings have the same signals as another one",
            found="subject/session/run " + listing(pairs),
            expected="every recording once",
            fix="a file was copied under another name: leave the copy out",
        )
    return {"names": sketch_trials(recording.trials), "content": sketch(digests)}


def check_trials(known: Mapping[str, Any], recording: Recording) -> None:
    """Refuse test trials that training has seen, in its signals or in a step fitted before it.

    Parameters
    ----------
    known : mapping
        What `remember_trials` said of the training trials.
    recording : Recording
        Single test trials.

    Raises
    ------
    LeakError
        If signals are the same to the bit as those of training trials, or a preprocessing step was
        fitted on test trials.
    """
    if rows := shared_content(known["content"], content_digests(recording)):
        raise LeakError(
            f"the signals of {len(rows)} of {recording.n_trials} test trials are in the training "
            "data",
            found=f"subject/session/run {listing(where(recording.trials, rows))}; stimuli "
            + listing(recording.trials["stimulus"].iloc[rows].unique()),
            expected="no trial in both, under any name",
            fix="look for a file that was copied, or a split that has trials on both sides",
        )
    wrong = [
        step for step in step_records(recording.history, known["names"], recording.trials)
        if step.n_seen
    ]  # fmt: skip
    if wrong:
        raise LeakError(
            f"{wrong[0].step} was fitted on test trials",
            found=f"{wrong[0].n_seen} of {wrong[0].n_looked_up} test trials, told apart by "
            f"{wrong[0].level}",
            expected="steps fitted on training trials",
            fix="split first; fit the step on the training part and transform both",
        )


def nearest_training_image(
    bank: FeatureBank,
    train_ids: Sequence[str],
    test_ids: Sequence[str],
    view: str = "original",
    layer: str | None = None,
    *,
    train_bank: FeatureBank | None = None,
) -> pd.DataFrame:
    """The most similar training picture of every test picture.

    Near-duplicates let a decoder that only recalls training pictures look as if it generalised
    (spurious reconstruction, Shirakawa et al. 2024, arXiv:2405.10078).

    Parameters
    ----------
    bank : FeatureBank
        Vectors of the test pictures, and of the training pictures unless ``train_bank`` is given.
    train_ids, test_ids : sequence of str
        Stimuli.
    view, layer : str
        Which vectors to compare.
    train_bank : FeatureBank, optional
        Bank of the training pictures, of the same space.

    Returns
    -------
    DataFrame
        One row per test picture: ``stimulus``, ``concept``, ``nearest``, ``nearest_concept`` and
        ``cosine``, the most similar pair first.
    """
    source = train_bank if train_bank is not None else bank
    if source.space(layer) != bank.space(layer):
        raise DataError("training and test pictures are of different spaces")
    train_names = [source.ids[row] for row in source.resolve(list(train_ids))]
    test_names = [bank.ids[row] for row in bank.resolve(list(test_ids))]
    train = unit_rows(source.vectors(view, layer, train_names), lambda: train_names, "stimulus")
    test = unit_rows(bank.vectors(view, layer, test_names), lambda: test_names, "stimulus")
    nearest = np.zeros(len(test), dtype=np.int64)
    cosine = np.full(len(test), -np.inf)
    for start in range(0, len(train), _CHUNK_ROWS):
        block = test @ train[start : start + _CHUNK_ROWS].T
        best = block.argmax(axis=1)
        value = block[np.arange(len(test)), best]
        closer = value > cosine
        nearest[closer] = best[closer] + start
        cosine[closer] = value[closer]
    found = [train_names[row] for row in nearest]
    table = pd.DataFrame(
        {
            "stimulus": test_names,
            "concept": bank.stimuli["concept"].reindex(test_names).to_numpy(),
            "nearest": found,
            "nearest_concept": source.stimuli["concept"].reindex(found).to_numpy(),
            "cosine": cosine,
        }
    )
    order = np.lexsort((table["stimulus"].to_numpy().astype(str), -table["cosine"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def _hashes_by_id(gallery: Any) -> dict[str, str]:
    if gallery is None:
        return {}
    if hasattr(gallery, "stimuli"):
        if "sha256" not in gallery.stimuli:
            return {}
        gallery = gallery.stimuli["sha256"]
    found = {str(name): digest for name, digest in gallery.items()}
    return {name: str(digest) for name, digest in found.items() if isinstance(digest, str)}

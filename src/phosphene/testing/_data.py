"""A tiny decoding problem with a linear answer, for the checks of methods and for users' tests.

Signals are a random linear function of the stimulus vectors plus noise: no pretrained weights, no
files, well under a second to make. It says nothing about brains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene import _random
from phosphene._manifest import sha256_array
from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.views import MeanOf, expand_views

Floats = npt.NDArray[np.float32]

TRAIN_CONCEPTS = 40
TEST_CONCEPTS = 20
EXEMPLARS = 3
DIM = 24
LAYERS = ("vector", "vector-2", "vector-3")


@dataclass(frozen=True)
class TinyProblem:
    """Training and test trials with the vectors of all their stimuli.

    Parameters
    ----------
    train, test : Recording
        Trials of disjoint concepts; ``split`` is "train" and "test".
    bank : FeatureBank
        Vectors of every stimulus in every view.
    """

    train: Recording
    test: Recording
    bank: FeatureBank


def tiny_stimuli() -> pd.DataFrame:
    """Ids, concepts and split of the stimuli: 40 x 3 for training, 20 x 1 for the test."""
    rows = []
    for c in range(TRAIN_CONCEPTS + TEST_CONCEPTS):
        test = c >= TRAIN_CONCEPTS
        for e in range(1 if test else EXEMPLARS):
            rows.append((f"thing{c:03d}/thing{c:03d}_{e:02d}.png", f"thing{c:03d}", test))
    table = pd.DataFrame(rows, columns=["stimulus", "concept", "test"])
    table["split"] = np.where(table.pop("test"), "test", "train")
    return table


def tiny_vectors(seed: int = 0, dim: int = DIM) -> Floats:
    """Vectors of the stimuli: concept plus exemplar, shape (140, dim)."""
    stimuli = tiny_stimuli()
    rng = _random.generator(seed, "tiny", "vectors")
    code = pd.factorize(stimuli["concept"])[0]
    concepts = rng.standard_normal((code.max() + 1, dim))
    exemplars = rng.standard_normal((len(stimuli), dim))
    return (concepts[code] + 0.5 * exemplars).astype(np.float32)


def tiny_images(seed: int = 0, size: int = 8) -> StimulusSet:
    """Pictures of the tiny stimuli whose pixels are a linear function of their vectors.

    They are pale and have four patches, so that what a network sees is nearly linear in them, too.

    Examples
    --------
    >>> pictures = tiny_images()
    >>> len(pictures), pictures.image("thing000/thing000_00.png").shape
    (140, (8, 8, 3))
    """
    stimuli = tiny_stimuli()
    vectors = tiny_vectors(seed)
    rng = _random.generator(seed, "tiny", "pictures")
    # One colour for all and four patches that differ from it a little.
    whole = rng.standard_normal((vectors.shape[1], 1, 1, 3))
    patches = rng.standard_normal((vectors.shape[1], 2, 2, 3))
    mixing = (whole + patches / 3) / np.sqrt(1.25 * vectors.shape[1])
    half = -(-size // 2)
    coarse = np.tensordot(vectors, mixing, axes=1)
    fine = coarse.repeat(half, axis=1).repeat(half, axis=2)[:, :size, :size]
    pixels = np.clip(np.rint(128 + 20 * fine), 0, 255).astype(np.uint8)
    return StimulusSet.from_arrays(
        stimuli["stimulus"].tolist(), pixels, stimuli["concept"].tolist()
    )


def tiny_bank(seed: int = 0, dim: int = DIM) -> FeatureBank:
    """A bank of the tiny stimuli with the views, layers and names that the methods use.

    Views differ from the original by a little noise of their own, and so do two further layers;
    vectors of names are those of the concepts, without the part that exemplars have of their own.

    Examples
    --------
    >>> tiny_bank().vectors("original").shape
    (140, 24)
    """
    stimuli = tiny_stimuli()
    original = tiny_vectors(seed, dim)
    arrays: dict[tuple[str, str], Floats] = {}
    views = expand_views(["original", "fovea", "gaussian", "augmentations", "bvsa"])
    for layer in LAYERS:
        own = original if layer == LAYERS[0] else _noisy(original, 0.5, seed, layer)
        for view in views:
            blurred = own if view.name == "original" else _noisy(own, 0.2, seed, view.name)
            arrays[view.name, layer] = blurred
        mean = MeanOf()
        arrays[mean.name, layer] = mean.combine([arrays[part.name, layer] for part in mean.of])
    concepts = stimuli["concept"].tolist()
    bank = FeatureBank.from_arrays(
        stimuli["stimulus"].tolist(),
        arrays,
        concepts=concepts,
        hashes=[sha256_array(row) for row in original],
        provenance={"encoder": {"id": f"tiny-{seed}"}},
        layer=LAYERS[0],
    )
    code, names = pd.factorize(stimuli["concept"])
    centres = np.stack([original[code == c].mean(axis=0) for c in range(len(names))])
    text = FeatureBank.from_arrays(
        names.tolist(),
        {"text": centres},
        concepts=names.tolist(),
        provenance={"kind": "text", "encoder": {"id": f"tiny-{seed}"}},
        layer=LAYERS[0],
    )
    return bank.with_text(text)


def _noisy(vectors: Floats, weight: float, seed: int, name: str) -> Floats:
    noise = _random.generator(seed, "tiny", name).standard_normal(vectors.shape)
    return (vectors + weight * noise).astype(np.float32)


def tiny_recording(
    seed: int = 0,
    *,
    snr: float = 1.0,
    subjects: int = 1,
    channels: int = 17,
    times: int = 80,
    dim: int = DIM,
) -> Recording:
    """Responses to the tiny stimuli: 2 repetitions in training, 4 in the test, 100 Hz.

    Parameters
    ----------
    seed : int
        Vectors (those of ``tiny_bank(seed)``), mixing and noise.
    snr : float
        Standard deviation of the signal over that of the noise; 0 leaves noise only.
    subjects : int
        People, each with a mixing of their own.
    channels, times : int
        Size of a trial.
    dim : int
        Dimensions of the vectors.

    Returns
    -------
    Recording
        Shape (320 x subjects, channels, times), microvolts if you like.

    Examples
    --------
    >>> tiny_recording(subjects=2).shape
    (640, 17, 80)
    """
    stimuli = tiny_stimuli()
    vectors = tiny_vectors(seed, dim)
    repetitions = np.where(stimuli["split"] == "test", 4, 2)
    rows = np.repeat(np.arange(len(stimuli)), repetitions)
    tables, signals = [], []
    for k in range(subjects):
        rng = _random.generator(seed, "tiny", "subject", k)
        mixing = rng.standard_normal((dim, channels * times)) / np.sqrt(1.25 * dim)
        noise = rng.standard_normal((len(rows), channels * times))
        signals.append((snr * vectors[rows] @ mixing + noise).astype(np.float32))
        table = stimuli.iloc[rows].reset_index(drop=True)
        table["subject"] = f"{k + 1:02d}"
        table["session"] = "1"
        table["run"] = "1"
        table["repetition"] = table.groupby("stimulus").cumcount()
        tables.append(table)
    recording = Recording.from_arrays(
        np.concatenate(signals).reshape(-1, channels, times),
        pd.concat(tables, ignore_index=True),
        sfreq=100.0,
        modality="eeg",
        name="tiny",
    )
    return recording.with_history({"op": "simulate", "world": "tiny"})


def tiny_problem(seed: int = 0, *, snr: float = 1.0, subjects: int = 1) -> TinyProblem:
    """Training trials, test trials and bank of one tiny problem.

    Examples
    --------
    >>> problem = tiny_problem()
    >>> problem.train.n_trials, problem.test.n_trials
    (240, 80)
    """
    recording = tiny_recording(seed, snr=snr, subjects=subjects)
    return TinyProblem(
        recording.select(split="train"), recording.select(split="test"), tiny_bank(seed)
    )

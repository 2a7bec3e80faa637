"""What a study of aligned vectors computes, part by part: on a simulated study or on recordings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.preprocess.windows import SlidingWindows
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, listing
from phosphene.evaluation.category_types import category_clusters
from phosphene.evaluation.identification import fisher_pairings, identification
from phosphene.evaluation.naming import name as nearest_words
from phosphene.evaluation.naming import naming_accuracy
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods._alignment_controls import maps_without_brain
from phosphene.methods._alignment_inputs import LEAST, bank_rows, category_patterns
from phosphene.methods._alignment_settings import resolve
from phosphene.methods.alignment_decoders import DecoderName, linear_decoder
from phosphene.methods.alignment_table import ROWS, Decode, alignment_table
from phosphene.methods.brain_alignment import BrainAligner

if TYPE_CHECKING:
    from phosphene.evaluation.protocol import Protocol
    from phosphene.stimuli.bank import FeatureBank

Matrix = NDArray[np.float64]
REGION = "V4"
"""Whose RSMs the vectors are aligned to; the paper's choice, made before any score was seen."""
ALPHAS = (1.0, 0.1, 0.01, 0.001, 0.0001)
# One alpha, that of the acceptance in `rsm_world`: choosing it costs 25 trainings for each person.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "autoencoder": {"variant": "autoencoder", "alpha": 0.01},
    "residual": {"variant": "residual", "alpha": 0.01},
}
CONTROLS = ("original", "centred", "whitened")
NAMED = ("aligned", "original", "centred")
WINDOWS = {"meg": 0.05, "ecog": 0.1}
"""Seconds of the windows that responses over time are averaged in."""
WORDS = 5


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How a study is done.

    Parameters
    ----------
    region : str
        Whose similarities vectors are aligned to, and which is decoded.
    alphas : sequence of float
        Columns of the grid, and what cross-validation chooses from.
    aligner, others : dict
        Parameters of `BrainAligner` of the row "aligned", and by label of further rows.
    decoder, voxels, penalty, components
        See `linear_decoder`.
    draws, clusters, seed : int
        Shufflings of the RSM, types of test categories, seed of all.
    """

    region: str = REGION
    alphas: tuple[float, ...] = ALPHAS
    aligner: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: dict(VARIANTS))
    decoder: DecoderName = "ridge"
    voxels: int | None = None
    penalty: float = 100.0
    components: int = 10
    draws: int = 10
    clusters: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        self.decode({}, slice(0), slice(0))  # refuses what cannot be a decoder

    def make(self, alpha: Any) -> BrainAligner:
        """The aligner of the row "aligned"."""
        return BrainAligner(**{**self.aligner, "alpha": alpha, "random_state": self.seed})

    def decode(self, units: Mapping[str, Matrix], train: slice, test: slice) -> Decode:
        """The decoder of these responses."""
        return linear_decoder(
            units, train, test, self.decoder, voxels=self.voxels, penalty=self.penalty,
            components=self.components,
        )  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """For the protocol: draws, and the settings of further rows."""
        rows = [
            f"{row}: " + ", ".join(f"{name} {value}" for name, value in params.items())
            for row, params in self.others.items()
        ]
        return (f"shuffled: {self.draws} draws", *rows)

    @property
    def method(self) -> str:
        """For the protocol: decoder and aligner in words."""
        some = "all units" if self.voxels is None else f"{self.voxels} voxels of largest |r| each"
        more = {
            "ridge": f"ridge decoder, penalty {self.penalty:g}",
            "ols": "least-squares decoder",
            "pls": f"decoder of partial least squares, {self.components} components",
        }[self.decoder]
        return f"{self.aligner.get('variant', 'linear')} aligner; {more}, {some}"


def responses(recording: Recording, names: list[str], n_train: int) -> Matrix:
    """One row per category, units z-scored by the training categories.

    Units that do not vary over training categories tell nothing and are left out.

    Parameters
    ----------
    recording : Recording
        Of one person; responses over time are averaged in `WINDOWS`.
    names : list of str
        Categories, those of training first.
    n_train : int
        How many of them.

    Raises
    ------
    DataError
        If no unit varies.
    """
    if recording.times is not None:
        width = WINDOWS[recording.modality]
        recording = SlidingWindows(width, width).transform(recording)
    x = np.stack([part.mean(axis=0) for part in category_patterns(recording, names)])
    mean, sd = x[:n_train].mean(axis=0), x[:n_train].std(axis=0)
    varies = sd > 1e-9 * np.abs(x).max(axis=0)
    if not varies.any():
        raise DataError(f"all units of {recording.name!r} are constant", found=f"shape {x.shape}")
    z: Matrix = (x[:, varies] - mean[varies]) / sd[varies]
    return z


class AlignmentStudy(ABC):
    """What parts of a study share: categories, vectors and people; subclasses say where from.

    Parameters
    ----------
    choices : Choices
        How it is done.
    """

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    # ------------------------------------------------------------------ what a subclass says
    @property
    @abstractmethod
    def modalities(self) -> tuple[str, ...]:
        """What is decoded, by name; the first is what vectors are aligned with."""

    @abstractmethod
    def categories(self, split: str) -> list[str]:
        """Sorted names of the categories that are ``train`` or ``test``."""

    @abstractmethod
    def recordings(self, modality: str) -> Mapping[str, Recording]:
        """People by name, with the training trials and the test trials of the modality."""

    @abstractmethod
    def vectors_of(self, names: list[str]) -> Matrix:
        """Mean vector of the pictures of every category."""

    @property
    @abstractmethod
    def candidates(self) -> FeatureBank:
        """Vectors of the wrong answers."""

    @abstractmethod
    def protocol(self, modality: str) -> Protocol:
        """How the numbers of a modality came about."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What was run, in a line that says so where data are simulated."""

    @property
    @abstractmethod
    def licences(self) -> list[tuple[str, str]]:
        """Of what the study rests on."""

    # ------------------------------------------------------------------ what follows
    def check(self) -> None:
        """Refuse what cannot be a study, before anything is computed or written.

        Raises
        ------
        LeakError
            If test categories are among those of training, or candidates are categories.
        DataError
            If there are too few categories, or some have no vectors (they are listed).
        """
        train, test = self.categories("train"), self.categories("test")
        if both := sorted(set(train) & set(test)):
            raise LeakError(
                "test categories are among those of training",
                found=f"{len(both)}: {listing(both)}",
                fix="mark all trials of a category as train or as test, or leave some out",
            )
        if len(train) < LEAST or len(test) < 4:
            raise DataError(
                "too few categories for a study of their similarities",
                found=f"{len(train)} for training, {len(test)} for the test",
                expected=f"{LEAST} and 4 or more",
            )
        if len(people := self.recordings(self.modalities[0])) < 2:
            raise DataError(
                "a person is left out in turn, so there must be two or more", found=listing(people)
            )
        resolve(self.choices.make(self.choices.alphas), len(train))
        for row, params in self.choices.others.items():
            if row in ROWS:
                raise DataError("rows of other aligners have names of their own", found=row)
            resolve(BrainAligner(**params), len(train))
        if not np.isfinite(self.vectors).all():
            raise DataError("vectors of categories hold NaN or infinity")
        if self.wrong.shape[1] != self.vectors.shape[1]:
            raise DataError(
                "vectors of categories and of candidates differ in width",
                found=self.wrong.shape[1], expected=self.vectors.shape[1],
                fix="take both from one model and layer",
            )  # fmt: skip
        known = set(self.names) & {str(name) for name in self._wrong_names}
        if known:
            raise LeakError(
                "candidates of the identification are concepts of the study",
                found=listing(sorted(known)),
            )

    @cached_property
    def names(self) -> list[str]:
        """Training categories, then test categories."""
        return [*self.categories("train"), *self.categories("test")]

    @cached_property
    def train(self) -> slice:
        """Rows of the training categories."""
        return slice(0, len(self.categories("train")))

    @cached_property
    def test(self) -> slice:
        """Rows of the test categories."""
        return slice(len(self.categories("train")), len(self.names))

    @cached_property
    def vectors(self) -> Matrix:
        """Mean vector of the pictures of every category."""
        return self.vectors_of(self.names)

    @cached_property
    def wrong(self) -> Matrix:
        """Vectors of the wrong answers."""
        return bank_rows(self.candidates, self.candidates.ids)

    @property
    def _wrong_names(self) -> list[str]:
        """Names of the wrong answers; a stimulus without a concept is called by its id."""
        concepts = self.candidates.stimuli["concept"].astype(str)
        return [c or id for c, id in zip(concepts, self.candidates.ids, strict=True)]

    @cached_property
    def words(self) -> list[str]:
        """The vocabulary: all categories and the concepts of the wrong answers."""
        return [*self.names, *self._wrong_names]

    @property
    def regions(self) -> list[str]:
        """Regions of the grid: all that every person has, unless a subclass says otherwise."""
        return list(next(iter(self.recordings(self.modalities[0]).values())).sensors.rois)

    def responses(self, modality: str, region: str | None = None) -> dict[str, Matrix]:
        """Responses by person; those of voxels in one region."""
        n_train = len(self.names[self.train])
        found = {}
        for subject, recording in self.recordings(modality).items():
            if recording.modality == "fmri":
                recording = recording.pick(roi=region or self.choices.region)
            found[subject] = responses(recording, self.names, n_train)
        return found

    @cached_property
    def brain(self) -> dict[str, Matrix]:
        """RSMs of the people whom vectors are aligned to."""
        units = self.responses(self.modalities[0])
        return {s: similarity_matrix(x) for s, x in units.items()}

    @cached_property
    def clusters(self) -> dict[str, str]:
        """Type of every category: its cluster in the original space."""
        n = min(self.choices.clusters, len(self.names) - 1)
        return category_clusters(self.vectors, self.names, n, random_state=self.choices.seed)

    @cached_property
    def _others(self) -> dict[str, dict[str | None, BrainAligner]]:
        """Aligners of the further rows by the person left out, and to all under None."""
        learn = {s: rsm[self.train, self.train] for s, rsm in self.brain.items()}
        left: dict[str | None, dict[str, Matrix]] = {None: learn}
        left |= {out: {s: rsm for s, rsm in learn.items() if s != out} for out in learn}
        found = {}
        for row, params in self.choices.others.items():
            aligner = BrainAligner(**{"random_state": self.choices.seed, **params})
            found[row] = aligner.fit_each(
                self.vectors[self.train], left, categories=self.names[self.train]
            )
        return found

    def modality(self, modality: str) -> dict[str, pd.DataFrame]:
        """Scores of one modality: tables ``queries``, ``subjects``, ``words``.

        A person whose brain is among those aligned to is left out; others take no part in the
        alignment anyway, and are decoded with the vectors that all give.
        """
        units = self.responses(modality)
        decode = self.choices.decode(units, self.train, self.test)
        aligner = self.choices.make(self.choices.alphas)

        def table(brain: Mapping[str, Matrix], who: list[str]) -> Any:
            others = {
                row: {s: fits.get(s, fits[None]) for s in who} for row, fits in self._others.items()
            }
            return alignment_table(
                aligner, self.vectors, brain, train=self.train, test=self.test,
                categories=self.names, decode=decode, candidates=self.wrong, subjects=who,
                draws=self.choices.draws, others=others,
            )  # fmt: skip

        if modality == self.modalities[0]:
            tables = [table(self.brain, list(units))]
        else:  # the RSM of the person is of these responses, if there is another of the same
            own = {s: similarity_matrix(x) for s, x in units.items()}
            tables = [table({**self.brain, s: own[s]}, [s]) for s in units]
        chosen: dict[str, BrainAligner] = {}
        for one in tables:
            chosen |= one.aligners
        words = [self._named(s, one, decode) for s, one in chosen.items()]
        picked = {s: (one.alpha_, one.penalty_) for s, one in chosen.items()}
        subjects = pd.concat([one.subjects for one in tables], ignore_index=True)
        subjects["alpha"] = [picked[s][0] for s in subjects["subject"]]
        subjects["penalty"] = [picked[s][1] for s in subjects["subject"]]
        return {
            "queries": pd.concat([one.queries for one in tables], ignore_index=True),
            "subjects": subjects,
            "words": pd.concat(words, ignore_index=True),
        }

    def _named(self, subject: str, aligner: BrainAligner, decode: Decode) -> pd.DataFrame:
        """The nearest words of every decoded test category."""
        plain = maps_without_brain(self.vectors[self.train], None, aligner.penalty_)
        maps = {"aligned": aligner.transform, **plain}
        asked = self.names[self.test]
        parts = []
        for row in NAMED:
            z = np.asarray(maps[row](self.vectors), dtype=np.float64)
            every = np.concatenate([z, np.asarray(maps[row](self.wrong), dtype=np.float64)])
            vocabulary = pd.DataFrame(every, index=self.words)
            decoded = decode(subject, z[self.train])
            near = nearest_words(decoded, vocabulary, WORDS).groupby("query")["word"]
            facts: dict[str, Any] = {"subject": subject, "row": row, "stimulus": asked}
            facts |= {f"top{k}": naming_accuracy(decoded, asked, vocabulary, k) for k in (1, 5)}
            parts.append(pd.DataFrame(facts | {"words": near.agg(", ".join).to_numpy()}))
        return pd.concat(parts, ignore_index=True)

    def region(self, region: str) -> pd.DataFrame:
        """Scores of the test categories in one region, aligned to and decoded from.

        At every alpha and of controls: ``region``, ``column``, ``subject``, ``stimulus``,
        ``identification``, ``correlation``.
        """
        units = self.responses(self.modalities[0], region)
        decode = self.choices.decode(units, self.train, self.test)
        rsms = {s: similarity_matrix(x[self.train]) for s, x in units.items()}
        others = {s: {k: rsm for k, rsm in rsms.items() if k != s} for s in rsms}
        learn, names = self.vectors[self.train], self.names[self.train]
        parts = []

        def add(column: str, subject: str, function: Callable[[Matrix], Any]) -> None:
            z = np.asarray(function(self.vectors), dtype=np.float64)
            wrong = np.asarray(function(self.wrong), dtype=np.float64)
            decoded, true = decode(subject, z[self.train]), z[self.test]
            facts: dict[str, Any] = {
                "region": region,
                "column": column,
                "subject": subject,
                "stimulus": self.names[self.test],
                "identification": identification(decoded, true, wrong, refuse_constant=False),
                "correlation": np.tanh(
                    np.diag(fisher_pairings(decoded, true, refuse_constant=False))
                ),
            }
            parts.append(pd.DataFrame(facts))

        fitted: dict[str, BrainAligner] = {}
        for alpha in self.choices.alphas:
            fitted = self.choices.make(alpha).fit_each(learn, others, categories=names)
            for subject, one in fitted.items():
                add(f"alpha={alpha:g}", subject, one.transform)
        # The whitening has the penalty of the last alpha, which weighs the brain most.
        for subject, one in fitted.items():
            plain = maps_without_brain(learn, None, one.penalty_)
            for control in CONTROLS:
                add(control, subject, plain[control])
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _example(self) -> tuple[str, Matrix]:
        """One person, and the vectors aligned to all others."""
        person = next(iter(self.brain))
        learn = {s: rsm[self.train, self.train] for s, rsm in self.brain.items() if s != person}
        aligner = self.choices.make(self.choices.alphas)
        aligner.fit(self.vectors[self.train], learn, categories=self.names[self.train])
        return person, np.asarray(aligner.transform(self.vectors), dtype=np.float64)

    def structure(self) -> dict[str, Matrix]:
        """Similarities of test categories before, after, and of a person who was left out."""
        person, aligned = self._example
        return {
            "before": similarity_matrix(self.vectors[self.test]),
            "after": similarity_matrix(aligned[self.test]),
            "brain": self.brain[person][self.test, self.test],
        }

    def embedding(self) -> pd.DataFrame:
        """Maps in two dimensions before and after, the second turned to the first.

        Principal components of directions from the mean, which are classical scaling of their
        distances: ``stage`` (before, after), ``category``, ``split``, ``cluster``, ``x``, ``y``,
        ``share`` of the variance that the map shows.
        """
        from sklearn.decomposition import PCA

        parts, turned = [], None
        for stage, vectors in (("before", self.vectors), ("after", self._example[1])):
            unit = vectors - vectors.mean(axis=0)
            unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            model = PCA(2, svd_solver="full")
            places = model.fit_transform(unit)
            if turned is not None:
                u, _, v = np.linalg.svd(places.T @ turned)
                places = places @ (u @ v)
            turned = places
            split = ["train"] * self.train.stop + ["test"] * (len(self.names) - self.train.stop)
            facts: dict[str, Any] = {
                "stage": stage,
                "category": self.names,
                "split": split,
                "cluster": [self.clusters[name] for name in self.names],
                "x": places[:, 0],
                "y": places[:, 1],
                "share": float(model.explained_variance_ratio_.sum()),
            }
            parts.append(pd.DataFrame(facts))
        return pd.concat(parts, ignore_index=True)

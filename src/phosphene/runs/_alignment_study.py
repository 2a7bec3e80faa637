"""What `phosphene.runs.aligning` computes: tables of a simulated multimodal study, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.preprocess.windows import SlidingWindows
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError, listing
from phosphene.evaluation.identification import identification
from phosphene.evaluation.naming import name as nearest_words
from phosphene.evaluation.naming import naming_accuracy
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods._alignment_controls import maps_without_brain
from phosphene.methods._alignment_inputs import bank_rows, category_patterns
from phosphene.methods.alignment_table import alignment_table, ridge_decoder
from phosphene.methods.brain_alignment import BrainAligner

if TYPE_CHECKING:
    from phosphene.simulation.multimodal import MultimodalStudy
    from phosphene.stimuli.bank import FeatureBank

Matrix = NDArray[np.float64]
REGION = "V4"
"""Whose RSMs the vectors are aligned to; the paper's choice, made before any score was seen."""
ALPHAS = (1.0, 0.1, 0.01, 0.001, 0.0001)
CONTROLS = ("original", "centred", "whitened")
NAMED = ("aligned", "original", "centred")
WINDOWS = {"meg": 0.05, "ecog": 0.1}
"""Seconds of the windows that responses over time are averaged in."""
WORDS = 5


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


@dataclass(frozen=True, eq=False)
class AlignmentStudy:
    """A multimodal study with all that its parts share.

    Parameters
    ----------
    study : MultimodalStudy
        Recordings and vectors.
    candidates : FeatureBank
        Vectors of the wrong answers, of concepts that nobody was shown.
    draws : int
        Shufflings of the RSM.
    seed : int
        Of the shufflings.
    """

    study: MultimodalStudy
    candidates: FeatureBank
    draws: int
    seed: int

    def __post_init__(self) -> None:
        known = set(self.names) & set(self.candidates.stimuli["concept"].astype(str))
        if known:
            raise LeakError(
                "candidates of the identification are concepts of the study",
                found=listing(sorted(known)),
            )

    @cached_property
    def names(self) -> list[str]:
        """Training categories, then test categories."""
        return [*self.study.concepts("train"), *self.study.concepts("test")]

    @cached_property
    def train(self) -> slice:
        """Rows of the training categories."""
        return slice(0, len(self.study.concepts("train")))

    @cached_property
    def test(self) -> slice:
        """Rows of the test categories."""
        return slice(len(self.study.concepts("train")), len(self.names))

    @cached_property
    def vectors(self) -> Matrix:
        """Mean vector of the pictures of every category."""
        return bank_rows(self.study.bank, self.names)

    @cached_property
    def wrong(self) -> Matrix:
        """Vectors of the wrong answers."""
        return bank_rows(self.candidates, self.candidates.ids)

    @cached_property
    def words(self) -> list[str]:
        """The vocabulary: all categories and the concepts of the wrong answers."""
        return [*self.names, *self.candidates.stimuli["concept"].astype(str)]

    @property
    def regions(self) -> list[str]:
        """Regions that every fMRI person has."""
        return list(next(iter(self.study.recordings("fmri").values())).sensors.rois)

    def responses(self, modality: str, region: str = REGION) -> dict[str, Matrix]:
        """Responses by person; those of fMRI in one region."""
        n_train = len(self.names[self.train])
        found = {}
        for subject, recording in self.study.recordings(modality).items():
            if modality == "fmri":
                recording = recording.pick(roi=region)
            found[subject] = responses(recording, self.names, n_train)
        return found

    @cached_property
    def brain(self) -> dict[str, Matrix]:
        """RSMs of the fMRI people, which vectors are aligned to."""
        return {s: similarity_matrix(x) for s, x in self.responses("fmri").items()}

    def modality(self, modality: str) -> dict[str, pd.DataFrame]:
        """Scores of one modality: tables ``queries``, ``subjects``, ``words``.

        fMRI people are left out in turn; MEG and ECoG people take no part in the alignment anyway,
        and are decoded with the vectors that all fMRI people give.
        """
        units = self.responses(modality)
        decode = ridge_decoder(units, self.train, self.test)
        aligner = BrainAligner(alpha=ALPHAS, random_state=self.seed)

        def table(brain: Mapping[str, Matrix], who: list[str]) -> Any:
            return alignment_table(
                aligner, self.vectors, brain, train=self.train, test=self.test,
                categories=self.names, decode=decode, candidates=self.wrong, subjects=who,
                draws=self.draws,
            )  # fmt: skip

        if modality == "fmri":
            tables = [table(self.brain, list(units))]
        else:
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

    def _named(
        self, subject: str, aligner: BrainAligner, decode: Callable[[Any, Matrix], Matrix]
    ) -> pd.DataFrame:
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
        """Scores of one region, aligned to and decoded from, at every alpha and of controls."""
        units = self.responses("fmri", region)
        decode = ridge_decoder(units, self.train, self.test)
        rsms = {s: similarity_matrix(x[self.train]) for s, x in units.items()}
        others = {s: {k: rsm for k, rsm in rsms.items() if k != s} for s in rsms}
        learn, names = self.vectors[self.train], self.names[self.train]
        lines = []

        def add(column: str, subject: str, function: Callable[[Matrix], Any]) -> None:
            z = np.asarray(function(self.vectors), dtype=np.float64)
            wrong = np.asarray(function(self.wrong), dtype=np.float64)
            decoded, true = decode(subject, z[self.train]), z[self.test]
            pairs = zip(decoded, true, strict=True)
            lines.append(
                {
                    "region": region,
                    "column": column,
                    "subject": subject,
                    "identification": identification(decoded, true, wrong).mean(),
                    "correlation": np.mean([np.corrcoef(p, t)[0, 1] for p, t in pairs]),
                }
            )

        fitted: dict[str, BrainAligner] = {}
        for alpha in ALPHAS:
            aligner = BrainAligner(alpha=alpha, random_state=self.seed)
            fitted = aligner.fit_each(learn, others, categories=names)
            for subject, one in fitted.items():
                add(f"alpha={alpha:g}", subject, one.transform)
        # The whitening has the penalty of the last alpha, which weighs the brain most.
        for subject, one in fitted.items():
            plain = maps_without_brain(learn, None, one.penalty_)
            for control in CONTROLS:
                add(control, subject, plain[control])
        return pd.DataFrame(lines)

    def structure(self) -> dict[str, Matrix]:
        """Similarities of test categories before, after, and of a person who was left out."""
        person = next(iter(self.brain))
        aligner = BrainAligner(alpha=ALPHAS, random_state=self.seed)
        learn = {s: rsm[self.train, self.train] for s, rsm in self.brain.items() if s != person}
        aligner.fit(self.vectors[self.train], learn, categories=self.names[self.train])
        asked = self.vectors[self.test]
        return {
            "before": similarity_matrix(asked),
            "after": similarity_matrix(aligner.transform(asked)),
            "brain": self.brain[person][self.test, self.test],
        }

"""Contrastive decoders whose scores are modulated by the names of the candidates (`_modulation`).

A method's ``_forward`` returns {"image": b, "text": b_t}: what is compared with pictures and with
names. Rules that read no answers go through ``_scores``, as every rule does; the two oracles need
``labels=`` and are refused without them before the test data are opened.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from phosphene import _random
from phosphene.data.recording import Recording
from phosphene.errors import DataError, DesignWarning, SpaceMismatchError, listing
from phosphene.evaluation.similarity import Similarity
from phosphene.methods import _modulation
from phosphene.methods._contrastive import ContrastiveDecoder
from phosphene.methods._inference import score
from phosphene.methods._outputs import cast_all, join
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.paired import PairedData

_ROWS = 1024


@dataclass(eq=False, repr=False, kw_only=True)
class ModulatedDecoder(ContrastiveDecoder):
    """Base of contrastive decoders whose scores also read the candidates' names.

    Parameters
    ----------
    text_modulation : str
        Rule of scoring, see `phosphene.methods._modulation`. Thresholds and temperatures are
        fitted on the held-out training concepts, after training.
    shuffle_names : bool
        Control: every concept gets the name of another one.

    Attributes
    ----------
    modulation_ : dict
        Fitted values of the rule.
    text_space_ : str
        Hash of the names' space; "" where no names are read.
    """

    text_modulation: str = "product"
    shuffle_names: bool = False

    needs_text: ClassVar[bool] = True
    _facts: ClassVar[tuple[str, ...]] = (*ContrastiveDecoder._facts, "text_space_", "modulation_")

    def _setting(self, name: str) -> Any:
        """A parameter, or what takes its place."""
        return getattr(self, name)

    def _uses_names(self) -> bool:
        return bool(self._setting("text_modulation") != "none")

    def _reads_names(self) -> bool:
        return self._uses_names()

    # --------------------------------------------------------------------- training
    def _fit(
        self,
        train_data: Recording,
        bank: FeatureBank,
        *,
        checkpoint: Path | None,
        progress: bool,
        owned: bool,
    ) -> None:
        self.modulation_: dict[str, float] = {}
        self.text_space_ = self._check_wishes(bank)
        super()._fit(train_data, bank, checkpoint=checkpoint, progress=progress, owned=owned)

    def _check_wishes(self, bank: FeatureBank) -> str:
        """Refuse what cannot be trained or scored; the hash of the names' space."""
        rule = self._setting("text_modulation")
        _modulation.check_rule(rule)
        if rule in _modulation.FITTED and self.selection != "held_out_concepts":
            raise DataError(
                f"the values of text_modulation={rule!r} are fitted on held-out training concepts",
                found=f"selection={self.selection!r}, which holds none out",
                fix='selection="held_out_concepts", or text_modulation="product"',
            )
        if not self._reads_names():
            return ""
        bank.text_vectors(bank.ids[:1])  # refuses a bank without names
        assert bank.text is not None
        return bank.text.space()

    def _finish(
        self, data: PairedData, held_out: npt.NDArray[np.bool_] | None, bank: FeatureBank
    ) -> None:
        rule = self._setting("text_modulation")
        if rule in _modulation.FITTED and held_out is not None:
            held = self._held_out_parts(data, held_out, bank)
            self.modulation_ = _modulation.fit_values(rule, *held)

    @torch.no_grad()
    def _held_out_parts(
        self, data: PairedData, held_out: npt.NDArray[np.bool_], bank: FeatureBank
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """M, X (trials, stimuli) and the true columns of the held-out training concepts."""
        rows = torch.from_numpy(np.flatnonzero(held_out)).to(data.device)
        stimuli, true = torch.unique(data.stimulus[rows], return_inverse=True)
        gallery = self._gallery(bank, [data.stimuli[i] for i in stimuli.tolist()])
        self.modules_.eval()
        z = [
            self._forward(data.source.take(part).float(), data.subject[part])
            for part in torch.split(rows, _ROWS)
        ]
        placed = {name: torch.as_tensor(value).to(data.device) for name, value in gallery.items()}
        wide = cast_all((join(z), self._project(placed)), torch.float64, "cpu")
        m, x = self._parts(*wide)
        return m, x, true.cpu()

    # ---------------------------------------------------------------------- scoring
    def _text_vectors(self, bank: FeatureBank, ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (n, d) of the names of stimuli, of the space of training, shuffled if asked."""
        vectors = bank.text_vectors(ids)
        if bank.text is not None and bank.text.space() != self.text_space_:
            raise SpaceMismatchError(
                "the bank's names are in another space than those of training",
                found=f"space {bank.text.space()[:16]}",
                expected=f"space {self.text_space_[:16]}",
                fix="bank.with_text(...) with the text encoder and the prompt of training",
            )
        if not self._setting("shuffle_names"):
            return vectors
        concepts = bank.stimuli["concept"].astype(str).to_numpy()[bank.resolve(ids)]
        _, first, code = np.unique(concepts, return_index=True, return_inverse=True)
        # One cycle through all concepts, so that none keeps its own name.
        cycle = _random.generator(self.random_state, "shuffled names").permutation(len(first))
        given = np.empty_like(cycle)
        given[cycle] = np.roll(cycle, 1)
        shuffled: npt.NDArray[np.float32] = vectors[first[given[code]]]
        return shuffled

    def _gallery(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        found = super()._gallery(bank, ids)
        found["image"] = unit(found["image"])
        if self._uses_names():
            found["text"] = unit(self._text_vectors(bank, ids))
        return found

    def _vector(self, z: Any) -> torch.Tensor:
        return z["image"]  # type: ignore[no-any-return]

    def _parts(
        self, z: Any, gallery: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """M and X, both (queries, candidates)."""
        return (
            _cosines(self._vector(z), gallery["image"]),
            _cosines(z["text"], gallery["text"]),
        )

    def _scores(self, z: Any, gallery: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if not self._uses_names():
            return _cosines(self._vector(z), gallery["image"])
        rule = self._setting("text_modulation")
        # For validation while training: values are not fitted yet, and no rule reads answers.
        unfitted = rule in _modulation.FITTED and not self.modulation_
        rule = "product" if unfitted or rule in _modulation.ORACLE else rule
        return _modulation.modulate(rule, *self._parts(z, gallery), self.modulation_)

    def _score_rule(self) -> str:
        rule = self._setting("text_modulation")
        return "cosine" if rule == "none" else f"cosine; text modulation {rule}"

    def _check_labels(self, labels: object) -> None:
        rule = self._setting("text_modulation")
        if rule not in _modulation.ORACLE:
            super()._check_labels(labels)
        elif labels is None:
            raise DataError(
                f"text_modulation={rule!r} reads the answers of the test",
                fix='pass labels="stimulus", the column of the answers, which marks the result; '
                "or fit with a label-free rule such as product",
            )

    def similarity(
        self,
        recording: Any,
        gallery: FeatureBank,
        *,
        ids: Sequence[str] | None = None,
        labels: str | Sequence[str] | None = None,
    ) -> Similarity:
        """Scores of each trial against each candidate by the rule.

        Parameters
        ----------
        recording : Recording, mne.Epochs or (array, trials)
            Queries, one row each; nothing is averaged here.
        gallery : FeatureBank
            Bank of the same space, with names of the space of training.
        ids : sequence of str, optional
            Candidates; all stimuli of the bank by default.
        labels : str or sequence of str, optional
            For the oracle rules only, which warn and mark the scores: the column of the trials with
            the stimuli that were seen, or these themselves, one per query.

        Returns
        -------
        Similarity
            Shape (trials, candidates).
        """
        self._check_labels(labels)
        aligned = self._aligned(recording)
        if labels is None:
            return score(self, aligned, gallery, ids)
        rule = self._setting("text_modulation")
        columns = list(gallery.ids if ids is None else ids)
        true = _true_columns(labels, columns, aligned, rule)
        found = score(
            self,
            aligned,
            gallery,
            columns,
            rule=lambda z, g: _modulation.modulate_oracle(rule, *self._parts(z, g), true),
        )
        return replace(found, uses_test_labels=True)


def _true_columns(
    labels: str | Sequence[str], ids: Sequence[str], recording: Recording, rule: str
) -> torch.Tensor:
    """Columns of the answers that an oracle rule reads; warns that it does."""
    if isinstance(labels, str):
        if labels not in recording.trials:
            raise DataError(
                "labels names a column of the trials",
                found=repr(labels),
                expected=f"one of {listing(list(recording.trials.columns))}",
            )
        labels = recording.trials[labels].tolist()
    place = {id: column for column, id in enumerate(ids)}
    known = [str(label) for label in labels]
    missing = [label for label in known if label not in place]
    if len(known) != recording.n_trials or missing:
        raise DataError(
            "labels are the stimuli that were seen, one per query, all among the candidates",
            found=f"{len(known)} labels, not among the candidates: {listing(missing) or 'none'}",
            expected=f"{recording.n_trials} of the candidates",
        )
    warnings.warn(
        f"text_modulation={rule!r} uses the test labels: its scores compare with nothing",
        DesignWarning,
        stacklevel=3,
    )
    return torch.tensor([place[label] for label in known], dtype=torch.long)


def _cosines(queries: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(queries, dim=1) @ candidates.T


def unit(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Vectors along the last axis at unit length."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: npt.NDArray[Any] = vectors / np.maximum(length, np.float32(1e-12))
    return scaled

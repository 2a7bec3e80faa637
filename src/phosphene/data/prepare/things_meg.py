"""THINGS-MEG: baseline, window, test concepts dropped from training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from phosphene._registry import register
from phosphene.data.prepare._base import FromReader, baseline_zscore, fitted_on_train, in_dtype
from phosphene.data.preprocess.whitening import MVNN
from phosphene.data.recording import Recording


@register("preparer", "things_meg")
@dataclass(frozen=True)
class PrepareThingsMEG(FromReader):
    """Epochs in standard deviations of their baseline, 0 to 1 s; no test concept in training.

    The authors' epochs are standardised by their baseline already; doing it again changes nothing.

    Parameters
    ----------
    tmin, tmax : float
        Window to keep in seconds, both ends included.
    baseline : bool
        Standardise by the baseline.
    whiten : bool
        Whiten per session, learned from training trials.
    drop_test_concepts : bool
        Leave out the training images of test concepts, as zero-shot decoding needs.
    dtype : {"float32", "float16"}
        Type to save.
    strict : bool
        Refuse other counts than the data set has.
    """

    reader: ClassVar[str] = "things_meg"
    tmin: float = 0.0
    tmax: float = 1.0
    baseline: bool = True
    whiten: bool = False
    drop_test_concepts: bool = True
    dtype: str = "float32"
    strict: bool = True

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Training and test trials."""
        recording = self.read(
            root,
            subject,
            tmin=-0.1 if self.baseline else self.tmin,
            tmax=self.tmax,
            drop_test_concepts=self.drop_test_concepts,
            strict=self.strict,
        )
        if self.baseline:
            recording = baseline_zscore(recording).crop(self.tmin, self.tmax)
        for name, part in fitted_on_train(recording, [MVNN()] if self.whiten else []):
            yield name, in_dtype(part, self.dtype)

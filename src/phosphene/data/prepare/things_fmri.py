"""THINGS-fMRI: betas standardised per session, test concepts dropped from training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from phosphene._registry import register
from phosphene.data.prepare._base import FromReader, fitted_on_train, in_dtype
from phosphene.data.preprocess.betas import ZScore
from phosphene.data.recording import Recording


@register("preparer", "things_fmri")
@dataclass(frozen=True)
class PrepareThingsFMRI(FromReader):
    """Betas in standard deviations of each session's training trials.

    Parameters
    ----------
    roi : str
        Keep the voxels of a region; "" for all.
    min_noise_ceiling : float
        Keep voxels whose published noise ceiling of the test set is at least this share of the
        variance; negative for all. Such a choice has seen the test images' repetitions.
    drop_test_concepts : bool
        Leave out the training images of test concepts, as zero-shot decoding needs.
    dtype : {"float32", "float16"}
        Type to save.
    strict : bool
        Refuse other counts than the data set has.
    """

    reader: ClassVar[str] = "things_fmri"
    roi: str = ""
    min_noise_ceiling: float = -1.0
    drop_test_concepts: bool = True
    dtype: str = "float32"
    strict: bool = True

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Training and test trials."""
        recording = self.read(
            root,
            subject,
            roi=self.roi or None,
            min_noise_ceiling=None if self.min_noise_ceiling < 0 else self.min_noise_ceiling,
            drop_test_concepts=self.drop_test_concepts,
            strict=self.strict,
        )
        for name, part in fitted_on_train(recording, [ZScore(unseen="pooled")]):
            yield name, in_dtype(part, self.dtype)

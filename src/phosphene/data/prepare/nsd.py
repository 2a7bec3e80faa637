"""Natural Scenes Dataset: betas standardised per session on training trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from phosphene._registry import register
from phosphene.data.prepare._base import FromReader, fitted_on_train, in_dtype
from phosphene.data.preprocess.betas import ZScore
from phosphene.data.recording import Recording


@register("preparer", "nsd")
@dataclass(frozen=True)
class PrepareNSD(FromReader):
    """Betas in standard deviations of each session's training trials, region table kept.

    Parameters
    ----------
    layout : {"auto", "nsd", "mindeye2"}
        As in `read_nsd`. MindEye2's betas were standardised by their authors, with test trials.
    test : {"1000", "982"}
        Which test.
    mask : str
        Voxels to keep, by the name of a mask.
    roi : str
        Keep the voxels of a region; "" for all.
    standardise : bool
        Standardise each session.
    dtype : {"float32", "float16"}
        Type to save.
    strict : bool
        Refuse other counts than the data set has.
    """

    reader: ClassVar[str] = "nsd"
    layout: str = "auto"
    test: str = "1000"
    mask: str = "nsdgeneral"
    roi: str = ""
    standardise: bool = True
    dtype: str = "float32"
    strict: bool = True

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Training and test trials."""
        recording = self.read(
            root,
            subject,
            layout=self.layout,
            test=str(self.test),
            mask=self.mask,
            roi=self.roi or None,
            strict=self.strict,
        )
        steps = [ZScore(unseen="pooled")] if self.standardise else []
        for name, part in fitted_on_train(recording, steps):
            yield name, in_dtype(part, self.dtype)

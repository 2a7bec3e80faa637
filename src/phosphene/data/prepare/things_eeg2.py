"""THINGS-EEG2: whichever layout is there, whitened per session where its authors did not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from phosphene._registry import register
from phosphene.data.prepare._base import FromReader, fitted_on_train, in_dtype
from phosphene.data.preprocess.whitening import MVNN
from phosphene.data.recording import Recording


@register("preparer", "things_eeg2")
@dataclass(frozen=True)
class PrepareThingsEEG2(FromReader):
    """Epochs of -0.2 to 1 s at 250 Hz, baseline, 0 to 1 s, whitened per session on training trials.

    The layouts other than "raw" were cut and whitened by their authors, some of them with test
    trials in the covariance; they are converted as they are.

    Parameters
    ----------
    layout : str
        As in `read_things_eeg2`.
    channels : str
        "all", or "occipito-parietal-17".
    whiten : {"auto", "yes", "no"}
        "auto" whitens the layout "raw".
    dtype : {"float32", "float16"}
        Type to save.
    strict : bool
        Refuse other counts than the data set has.
    """

    reader: ClassVar[str] = "things_eeg2"
    layout: str = "auto"
    channels: str = "all"
    whiten: Literal["auto", "yes", "no"] = "auto"
    dtype: str = "float32"
    strict: bool = True

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Training and test trials."""
        recording = self.read(
            root, subject, layout=self.layout, channels=self.channels, strict=self.strict
        )
        raw = recording.history[-1].get("layout") == "raw"
        white = self.whiten == "yes" or (self.whiten == "auto" and raw)
        for name, part in fitted_on_train(recording, [MVNN()] if white else []):
            yield name, in_dtype(part, self.dtype)

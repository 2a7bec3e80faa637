"""Any EEG, MEG or iEEG in BIDS: filter, epochs, and what the modality needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phosphene._registry import register
from phosphene.data.prepare._base import fitted_on_train, in_dtype
from phosphene.data.preprocess.high_gamma import HighGamma
from phosphene.data.preprocess.reference import CommonAverageReference
from phosphene.data.preprocess.whitening import MVNN
from phosphene.data.readers.bids import bids_subjects, bids_tasks, read_bids
from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing


@register("preparer", "bids")
@dataclass(frozen=True)
class PrepareBIDS:
    """Epochs of one task; EEG and MEG whitened on request, iEEG as high-gamma power on request.

    Parameters
    ----------
    task : str
        Entity ``task``; may be left out where there is one only.
    stim_column : str
        Column of ``events.tsv`` with the image.
    tmin, tmax : float
        Epochs in seconds from onset.
    baseline : bool
        Subtract the mean of the part before the onset.
    highpass, lowpass, notch, sfreq : float
        In Hz; 0 leaves the step out.
    bads : {"drop", "interpolate", "keep"}
        What happens to channels marked as bad.
    whiten : bool
        Whiten per session, learned from training trials. Needs a split in ``events.tsv``, because
        otherwise nothing says which trials are for training.
    high_gamma : bool
        Common average reference and power of 80 to 150 Hz, one value per electrode (iEEG).
    dtype : {"float32", "float16"}
        Type to save.
    """

    task: str = ""
    stim_column: str = "stim_file"
    tmin: float = -0.2
    tmax: float = 1.0
    baseline: bool = True
    highpass: float = 0.0
    lowpass: float = 0.0
    notch: float = 0.0
    sfreq: float = 0.0
    bads: str = "drop"
    whiten: bool = False
    high_gamma: bool = False
    dtype: str = "float32"

    def subjects(self, root: Path) -> list[str]:
        """Ids of the people who did the task."""
        return bids_subjects(root, self._task(root))

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Training and test trials where ``events.tsv`` tells them apart, else all of them."""
        recording = read_bids(
            root,
            self._task(root),
            subjects=subject,
            stim_column=self.stim_column,
            tmin=self.tmin,
            tmax=self.tmax,
            baseline=(None, 0.0) if self.baseline else None,
            highpass=self.highpass or None,
            lowpass=self.lowpass or None,
            notch=self.notch or None,
            sfreq=self.sfreq or None,
            bads=self.bads,  # type: ignore[arg-type]
        )
        if self.high_gamma:
            recording = CommonAverageReference().transform(recording)
            recording = HighGamma(tmin=0.0, tmax=min(0.5, self.tmax)).transform(recording)
        marked = recording.trials["split"] != ""
        if self.whiten and not marked.all():
            raise DataError(
                "whitening needs to know which trials are for training",
                found="no column 'split' in events.tsv",
                fix="prepare with whiten=false, split the recording, then MVNN().fit(train)",
            )
        if not marked.all():
            yield "all", in_dtype(recording, self.dtype)
            return
        for name, part in fitted_on_train(recording, [MVNN()] if self.whiten else []):
            yield name, in_dtype(part, self.dtype)

    def _task(self, root: Path) -> str:
        tasks = bids_tasks(root)
        if self.task:
            return self.task
        if len(tasks) != 1:
            raise DataError(
                f"{root}: which task?",
                found=listing(map(repr, tasks), 20) or "no EEG, MEG or iEEG in BIDS",
                fix="name it with --set task=...",
            )
        return next(iter(tasks))

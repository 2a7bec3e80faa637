"""Generic Object Decoding: training and test standardised, imagery beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from phosphene._registry import register
from phosphene.data.prepare._base import FromReader, train_and_test
from phosphene.data.preprocess.betas import ZScore
from phosphene.data.recording import Recording


@register("preparer", "god")
@dataclass(frozen=True)
class PrepareGOD(FromReader):
    """Voxels in standard deviations of the training trials; what was imagined is a part of its own.

    Parameters
    ----------
    roi : str
        Keep the voxels of a region such as "VC"; "" for all.
    imagery : bool
        Save the imagery trials as well.
    strict : bool
        Refuse other counts than the data set has.
    """

    reader: ClassVar[str] = "god"
    roi: str = ""
    imagery: bool = True
    strict: bool = True

    def parts(self, root: Path, subject: str) -> Iterator[tuple[str, Recording]]:
        """Training trials, test trials and, where they are wanted, imagery."""
        part = "all" if self.imagery else "seen"
        recording = self.read(root, subject, part=part, roi=self.roi or None, strict=self.strict)
        train, test = train_and_test(recording)
        # Sessions are the parts of the experiment here: the training part serves all of them.
        step = ZScore(by=("subject",)).fit(train)
        yield "train", step.transform(train)
        if test is not None:
            seen = (test.trials["condition"] == "seen").to_numpy()
            test = step.transform(test)
            yield "test", test.select(seen)
            if not seen.all():
                yield "imagery", test.select(~seen)

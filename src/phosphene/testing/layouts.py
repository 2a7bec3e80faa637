"""Miniatures of public data sets: the same files, keys and quirks, few trials, made in a second.

For learning a format, and for trying code before the download has finished.
"""

from phosphene.testing._layouts_bids import write_bids
from phosphene.testing._layouts_eeg2 import ThingsMiniature, write_things_eeg2
from phosphene.testing._layouts_fmri import (
    write_god,
    write_god_features,
    write_miyawaki2008,
    write_nifti_events,
    write_things_fmri,
)
from phosphene.testing._layouts_meg import MegMiniature, write_things_meg
from phosphene.testing._layouts_nsd import write_mindeye2, write_nsd, write_nsd_stimuli

__all__ = [
    "MegMiniature",
    "ThingsMiniature",
    "write_bids",
    "write_god",
    "write_god_features",
    "write_mindeye2",
    "write_miyawaki2008",
    "write_nifti_events",
    "write_nsd",
    "write_nsd_stimuli",
    "write_things_eeg2",
    "write_things_fmri",
    "write_things_meg",
]

"""Epochs of a raw recording, cut in pieces so that they need not all be there at the raw rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene.data.preprocess._raw import mne_errors, source
from phosphene.data.preprocess._trialwise import pieces
from phosphene.data.sensors import CHANNEL_TYPES, Modality
from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import mne

    from phosphene.data.preprocess.epochs import Epoch

# Of epochs at the raw sampling rate in float64; resampling needs a few times as much.
PIECE = 128 * 2**20


class Cutter:
    """Epochs of one recording, cut in pieces so that they need not all be there at the raw rate."""

    def __init__(
        self, settings: Epoch, raw: mne.io.BaseRaw, names: list[str], modality: Modality
    ) -> None:
        self.settings, self.raw, self.names = settings, raw, names
        kinds = {
            kind
            for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True)
            if name in set(names)
        }
        self.reject = _limits(settings.reject, kinds, modality, "reject")
        self.flat = _limits(settings.flat, kinds, modality, "flat")
        self.info: Any = None
        self.times: NDArray[np.float64] = np.empty(0)

    def all(
        self, samples: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], list[int], dict[int, tuple[str, ...]]]:
        """Signals of the trials that are kept, which these are, and why the others are not."""
        length = round((self.settings.tmax - self.settings.tmin) * self.raw.info["sfreq"]) + 1
        signals = np.empty((0, 0, 0), dtype=np.float32)
        kept: list[int] = []
        rejected: dict[int, tuple[str, ...]] = {}
        for part in pieces(len(samples), (len(self.names), length), PIECE):
            with mne_errors(f"no epochs can be cut from {source(self.raw)}", "copy it again"):
                epochs = self._epochs(samples[part])
            for i, why in enumerate(epochs.drop_log):
                if why:
                    rejected[part.start + i] = tuple(why)
            if not len(epochs):
                continue
            done = self._finished(epochs)
            if not kept:
                signals = np.empty((len(samples), *done.shape[1:]), dtype=np.float32)
            signals[len(kept) : len(kept) + len(done)] = done
            kept.extend((part.start + epochs.selection).tolist())
        if not kept:
            reasons = pd.Series([why for reason in rejected.values() for why in reason])
            raise DataError(
                f"all {len(samples)} trials were rejected",
                found=listing(f"{n} for {why}" for why, n in reasons.value_counts().items()),
                fix="raise reject, lower flat, or mark the worst channels as bad",
            )
        return signals[: len(kept)], kept, rejected

    def _epochs(self, samples: NDArray[np.int64]) -> mne.Epochs:
        import mne

        events = np.stack([samples, np.zeros_like(samples), np.ones_like(samples)], axis=1)
        return mne.Epochs(
            self.raw,
            events,
            tmin=self.settings.tmin,
            tmax=self.settings.tmax,
            baseline=None,
            picks=self.names,
            reject=self.reject,
            flat=self.flat,
            preload=True,
            proj=False,
            verbose="error",
        )

    def _finished(self, epochs: mne.Epochs) -> NDArray[np.float32]:
        from mne.baseline import rescale

        settings = self.settings
        if settings.baseline is not None:
            mode = settings.baseline_mode
            data = epochs.get_data(copy=False)
            low, high = settings.baseline
            # The recording names NaN.
            with (
                np.errstate(invalid="ignore", divide="ignore"),
                mne_errors(f"no sample lies in the baseline {low} to {high} s", "take a wider one"),
            ):
                rescale(data, epochs.times, (low, high), mode=mode, copy=False, verbose="error")
        if settings.bads == "interpolate" and epochs.info["bads"]:
            with mne_errors(
                f"bad channels cannot be interpolated: {listing(epochs.info['bads'])}",
                "give the raw recording a montage, or drop them",
            ):
                epochs.interpolate_bads(reset_bads=True, verbose="error")
        if settings.sfreq is not None and settings.sfreq != epochs.info["sfreq"]:
            epochs.resample(settings.sfreq, verbose="error")
        if settings.crop is not None:
            epochs.crop(*settings.crop, verbose="error")
        order = [epochs.ch_names.index(name) for name in self.names]
        if self.info is None:
            import mne

            self.info = mne.pick_info(epochs.info, order, copy=True, verbose="error")
            self.times = epochs.times.copy()
        out: NDArray[np.float32] = epochs.get_data(copy=False)[:, order].astype(np.float32)
        return out


def _limits(
    limit: float | Mapping[str, float] | None, kinds: set[str], modality: Modality, what: str
) -> dict[str, float] | None:
    """Limits by channel type, as MNE wants them."""
    if limit is None:
        return None
    if isinstance(limit, Mapping):
        if unknown := [kind for kind in limit if kind not in CHANNEL_TYPES[modality]]:
            raise DataError(
                f"{what} names types of channels that {modality} does not have",
                found=listing(map(repr, unknown)),
                expected=listing(CHANNEL_TYPES[modality]),
            )
        return {kind: float(value) for kind, value in limit.items() if kind in kinds}
    if len(kinds) > 1:
        raise DataError(
            f"{what} needs one limit for each type of channel",
            found=f"{limit} for {listing(sorted(kinds))}",
            expected="a mapping such as {'mag': 4e-12, 'grad': 4e-10}",
        )
    return {kind: float(limit) for kind in kinds}

"""What decoders share that are one linear map of the signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from phosphene.data.recording import Recording
from phosphene.methods._decoder import Decoder, Floats
from phosphene.stimuli.bank import FeatureBank
from phosphene.training.scaling import ChannelScaler


@dataclass(eq=False, repr=False, kw_only=True)
class LinearDecoder(Decoder):
    """A decoder that is one linear map of the flattened, standardised signals.

    A subclass implements ``_solve``; further fitted arrays are set there as attributes and named
    in ``_state_names`` so that they are saved.

    Attributes
    ----------
    coef_ : ndarray, shape (features, dimensions)
    intercept_ : ndarray, shape (dimensions,)
    """

    _state_names: ClassVar[tuple[str, ...]] = ("coef_", "intercept_")

    def _solve(self, features: Floats, targets: Floats, *, progress: bool) -> tuple[Any, Any]:
        """Coefficients (features, dimensions) and intercept (dimensions,) of the map."""
        raise TypeError(f"{type(self).__name__} does not say how it is solved")

    def _fit(
        self,
        train: Recording,
        bank: FeatureBank,
        *,
        checkpoint: Path | None,
        progress: bool,
        owned: bool,
    ) -> None:
        del checkpoint, owned  # a closed form has no state between start and end
        if self.standardise:
            self.scaler_ = ChannelScaler.fit(train, names=self.channel_names_)
        else:
            self.scaler_ = ChannelScaler.identity(self.n_chans_)
        stimuli = train.trials["stimulus"].astype(str).tolist()
        targets = bank.vectors(self.gallery_view_, self.layer_, stimuli)
        coef, intercept = self._solve(
            self._features(train), np.asarray(targets, np.float32), progress=progress
        )
        # In the order that a loaded model has: products round differently in another.
        self.coef_ = np.ascontiguousarray(coef, dtype=np.float32)
        self.intercept_ = np.ascontiguousarray(intercept, dtype=np.float32)

    def _features(self, recording: Recording) -> Floats:
        scaled = self.scaler_.apply(recording.signals)
        return scaled.reshape(len(scaled), -1)

    def _embed(self, recording: Recording) -> Floats:
        vectors: Floats = self._features(recording) @ self.coef_ + self.intercept_
        return vectors

    def _selection_rule(self) -> str:
        return "closed form"

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        own = {name: np.asarray(getattr(self, name)) for name in self._state_names}
        return {**super()._arrays(), **own}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._restore(arrays)
        for name in self._state_names:
            setattr(self, name, arrays[name])

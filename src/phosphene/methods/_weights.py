"""Saved weights back into modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from phosphene.errors import ArtefactError


def load_weights(modules: nn.Module, arrays: Mapping[str, npt.NDArray[Any]], method: str) -> None:
    """Fill modules with saved weights.

    Raises
    ------
    ArtefactError
        If they are of other modules: the decoder was saved by another version of its method.
    """
    weights = {
        name.removeprefix("modules."): torch.from_numpy(np.array(value))
        for name, value in arrays.items()
        if name.startswith("modules.")
    }
    try:
        modules.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtefactError(
            f"the saved weights do not fit the modules of this {method}",
            found=" ".join(str(error).split())[:300],
            fix="fit it again: another version of phosphene, or of an encoder of yours, saved it",
        ) from None

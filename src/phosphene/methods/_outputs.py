"""What an encoder returns: a tensor, or a dictionary or tuple of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def cast_all(z: Any, dtype: torch.dtype, device: str | None = None) -> Any:
    """All tensors of a (nested) output in one precision."""
    if isinstance(z, torch.Tensor):
        return z.to(device=device or z.device, dtype=dtype)
    if isinstance(z, Mapping):
        return {name: cast_all(value, dtype, device) for name, value in z.items()}
    return tuple(cast_all(value, dtype, device) for value in z)


def join(parts: list[Any]) -> Any:
    """Outputs of several batches below one another."""
    first = parts[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {name: join([part[name] for part in parts]) for name in first}
    return tuple(join(list(column)) for column in zip(*parts, strict=True))


def pick(z: Any, rows: torch.Tensor) -> Any:
    """Some rows of all tensors of a (nested) output."""
    if isinstance(z, torch.Tensor):
        return z.index_select(0, rows)
    if isinstance(z, Mapping):
        return {name: pick(value, rows) for name, value in z.items()}
    return tuple(pick(value, rows) for value in z)

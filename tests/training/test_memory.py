"""Keeping what a step frees, and how much memory there is."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from phosphene.training._memory import default_limit, free_bytes, freed_memory_kept

CPU = torch.device("cpu")


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the allocator is not glibc's"
)
def test_freed_memory_is_kept_within_the_block_only() -> None:
    before = resident_bytes()
    with freed_memory_kept(CPU):
        torch.empty(200 << 20, dtype=torch.uint8).fill_(1)
        assert resident_bytes() > before + (150 << 20)
    assert resident_bytes() < before + (50 << 20)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_errors_pass_and_other_devices_are_left_alone() -> None:
    with pytest.raises(KeyError), freed_memory_kept(CPU):
        raise KeyError
    with freed_memory_kept(torch.device("meta")):
        assert free_bytes(CPU) >= default_limit(CPU) > 0

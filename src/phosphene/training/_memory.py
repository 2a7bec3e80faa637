"""How much memory the training data may take, and keeping what a step frees for the next one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_FALLBACK = 4 << 30
# Parameters of glibc's mallopt, and where its own adjustment of them ends.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20


def default_limit(device: torch.device) -> int:
    """Half of the memory that is free on the device, in bytes."""
    return free_bytes(device) // 2


def free_bytes(device: torch.device) -> int:
    """Free memory of a device; 4 GB where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _FALLBACK


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Let the allocator keep what is freed within the block, and give it back afterwards.

    A step allocates tensors of some ten MB and frees them. glibc returns such blocks to the system
    at once and gets them back page by page, cleared, which took a seventh of a step. Only where
    tensors are in the CPU's memory and the allocator is glibc's; elsewhere nothing happens.
    """
    libc = ctypes.CDLL(None) if device.type == "cpu" else None
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    assert libc is not None
    never = 2**31 - 1
    libc.mallopt(_M_MMAP_THRESHOLD, never)
    libc.mallopt(_M_TRIM_THRESHOLD, never)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)
        libc.malloc_trim(0)

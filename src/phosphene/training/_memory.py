"""How much memory the training data may take."""

from __future__ import annotations

from pathlib import Path

import torch

_FALLBACK = 4 << 30


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

"""Tables of benchmark ratios: printed for people, written as JSON for comparison."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class Row:
    """One measured ratio.

    Parameters
    ----------
    name : str
        What is compared with what.
    value : float
        The ratio.
    target : float or None
        What it should reach.
    better : {"higher", "lower"}
        Which side of the target is good.
    details : dict
        The absolute numbers behind it; they mean something within this run only.
    """

    name: str
    value: float
    target: float | None = None
    better: Literal["higher", "lower"] = "higher"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


class Table:
    """Collects rows, prints them and writes them."""

    def __init__(self, title: str, digits: int = 2) -> None:
        self.title, self.digits = title, digits
        self.rows: list[Row] = []

    def add(self, name: str, value: float, target: float | None = None, **more: Any) -> None:
        better = more.pop("better", "higher")
        self.rows.append(Row(name, float(value), target, better, more))

    def show(self) -> None:
        width = max(len(row.name) for row in self.rows)
        print(f"\n{self.title}\n{'-' * len(self.title)}")
        for row in self.rows:
            sign = ">=" if row.better == "higher" else "<="
            goal = "" if row.target is None else f"target {sign} {row.target:g}"
            mark = {True: "reached", False: "MISSED", None: ""}[row.reached]
            numbers = ", ".join(f"{key} {_short(value)}" for key, value in row.details.items())
            value = f"{row.value:8.{self.digits}f}"
            print(f"{row.name:<{width}}  {value}  {goal:<14} {mark:<8} {numbers}")

    def write(self, path: Path) -> None:
        content = {
            "title": self.title,
            "machine": machine(),
            "rows": [{**asdict(row), "reached": row.reached} for row in self.rows],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def best_seconds(call: Callable[[], object], repeats: int = 5, warmup: int = 1) -> float:
    """Shortest of several runs: on a shared machine the least disturbed one."""
    for _ in range(warmup):
        call()
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        runs.append(time.perf_counter() - start)
    return min(runs)


def parse_arguments(description: str, out: str) -> argparse.Namespace:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / out)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller data")
    return parser.parse_args()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

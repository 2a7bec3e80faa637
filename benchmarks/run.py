"""Run all benchmarks one after the other: tables on the terminal, JSON in ``results/``.

Only ratios within one run mean something, on a machine that does nothing else; nothing here passes
or fails by time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def summary(names: list[str]) -> str:
    """Every ratio with its target, as one table."""
    lines = []
    for name in names:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        for row in content.get("rows", []):
            mark = {True: "reached", False: "MISSED", None: ""}[row["reached"]]
            target = "" if row["target"] is None else f"{row['better']} than {row['target']:g}"
            lines.append((name, row["name"], f"{row['value']:.2f}", target, mark))
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> None:
    known = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; else all")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller data")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    names = options.names or list(known)
    RESULTS.mkdir(exist_ok=True)
    failed: list[str] = []
    began = time.perf_counter()
    for name in names:
        print(f"\n=== {name}", flush=True)
        out = RESULTS / f"{name}.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, str(known[name]), "--out", str(out)]
        if subprocess.run(command + ["--quick"] * options.quick, check=False).returncode:
            failed.append(name)
    print(f"\n{summary(names)}")
    print(f"\n{len(names)} benchmarks in {time.perf_counter() - began:.0f} s, JSON in {RESULTS}")
    if failed:
        sys.exit(f"these did not run through: {', '.join(failed)}")


if __name__ == "__main__":
    main()

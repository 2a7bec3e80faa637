"""``phosphene doctor``: what this machine offers, what is missing, what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from phosphene.cli._output import Verbose, print_table, say

CORE = (
    "numpy", "scipy", "scikit-learn", "pandas", "torch", "mne", "pyyaml", "safetensors", "pillow",
    "matplotlib", "tqdm", "pooch", "typer", "rich", "pydantic", "lazy_loader",
)  # fmt: skip
# Below this the cache of a research data set (features of 16,740 pictures) does not fit.
LOW_DISK_GB = 2.0


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Examine the installation: versions, device, extras, disk; say what to do."""
    report = examine()
    if as_json:
        import json

        say(json.dumps(report, indent=2))
        return
    rows: list[tuple[str, object]] = [
        ("phosphene", report["phosphene"]),
        ("python", report["python"]),
        ("platform", report["platform"]),
        ("device", report["device"]),
        ("threads", report["threads"]),
        ("bf16", report["bf16"]),
        ("torchvision", report["torchvision"]),
        ("cache", f"{report['cache']} ({report['cache_free_gb']} GB free)"),
    ]
    rows += [(name, version or "missing") for name, version in report["packages"].items()]
    rows += [
        (f"extra {name}", "complete" if not absent else "missing " + ", ".join(absent))
        for name, absent in report["extras"].items()
    ]
    print_table(["what", "found"], rows)
    say()
    for problem in report["problems"]:
        say(f"problem: {problem['what']}\n  what to do: {problem['fix']}")
    if not report["problems"]:
        say("no problems found")


def examine() -> dict[str, Any]:
    """Look at the machine and the installation.

    Returns
    -------
    dict
        What ``phosphene doctor --json`` prints; ``problems`` holds pairs of ``what`` and ``fix``.
    """
    import platform
    import shutil

    import phosphene

    problems: list[dict[str, str]] = []
    packages = {name: _version(name) for name in CORE}
    if absent := [name for name, version in packages.items() if version is None]:
        problems.append(
            {"what": f"core packages are missing: {', '.join(absent)}",
             "fix": "pip install " + " ".join(absent)}
        )  # fmt: skip
    extras = _extras()
    for name, lacking in extras.items():
        if name == "demo" and lacking:
            problems.append(
                {"what": f"the demo's packages are missing: {', '.join(lacking)}",
                 "fix": 'pip install "phosphene[demo]"'}
            )  # fmt: skip
    device, threads, bf16 = _torch(problems) if packages["torch"] else ("none", "none", "unknown")
    cache, free = _cache(shutil, problems)
    return {
        "phosphene": phosphene.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "threads": threads,
        "bf16": bf16,
        "torchvision": _torchvision(problems),
        "cache": str(cache),
        "cache_free_gb": free,
        "packages": packages,
        "extras": extras,
        "problems": problems,
    }


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """List the missing packages of every optional extra, from the installed metadata."""
    import re
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("phosphene") or []
    except PackageNotFoundError:
        return {}
    extras: dict[str, list[str]] = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        wanted = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        name = re.match(r"[A-Za-z0-9_.\-]+", requirement.strip())
        if wanted and name:
            absent = extras.setdefault(wanted.group(1), [])
            if _version(name.group()) is None:
                absent.append(name.group())
    return extras


def _torch(problems: list[dict[str, str]]) -> tuple[str, str, str]:
    try:
        import torch

        from phosphene._device import BF16_MIN_GAIN, bf16_gain, resolve_device

        device = resolve_device("auto")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no CUDA device"
        threads = f"{torch.get_num_threads()} for torch"
        gain = bf16_gain()
    except Exception as error:  # a torch that cannot be imported raises anything
        problems.append(
            {"what": f"torch does not work: {type(error).__name__}: {error}",
             "fix": "install it again: pip install --force-reinstall torch"}
        )  # fmt: skip
        return "none", "unknown", "unknown"
    used = "used" if gain >= BF16_MIN_GAIN else "not used"
    return f"{device} ({name})", threads, f"{used} on the CPU (matrix products {gain:.1f} x fp32)"


def _torchvision(problems: list[dict[str, str]]) -> str:
    """Tell a broken torchvision: it then breaks transformers and diffusers on import."""
    version = _version("torchvision")
    if version is None:
        return "absent (fine: nothing in phosphene needs it)"
    try:
        import torchvision.ops  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except Exception as error:
        problems.append(
            {"what": f"torchvision {version} does not work: {type(error).__name__}: {error}",
             "fix": "pip uninstall torchvision torchaudio (they break transformers and diffusers), "
                    "or install the build that belongs to your torch: https://pytorch.org"}
        )  # fmt: skip
        return f"{version}, broken"
    return f"{version}, works ({torchvision.__name__})"


def _cache(shutil: Any, problems: list[dict[str, str]]) -> tuple[Path, float]:
    import os

    from phosphene._device import cache_folder

    folder = cache_folder()
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = round(shutil.disk_usage(there).free / 1e9, 1)
    move = "free some space, or set PHOSPHENE_CACHE to a folder on a larger disk"
    if free < LOW_DISK_GB:
        problems.append({"what": f"only {free} GB are free for the cache {folder}", "fix": move})
    if not os.access(there, os.W_OK):
        problems.append(
            {"what": f"the cache folder {folder} cannot be written",
             "fix": "set PHOSPHENE_CACHE to a folder of yours"}
        )  # fmt: skip
    return folder, free

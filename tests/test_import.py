"""Importing the library stays cheap, its public names load, its files hold no surprises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "scipy", "mne", "pandas", "matplotlib", "numpy")
REPORT = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"


def fresh(code: str) -> str:
    """Standard output of some code in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_import_touches_nothing_heavy() -> None:
    assert fresh(f"import phosphene; phosphene.__version__; dir(phosphene); {REPORT}") == "[]"


def test_public_names_load() -> None:
    import phosphene

    assert "Recording" in phosphene.__all__
    for name in phosphene.__all__:
        assert getattr(phosphene, name) is not None


@pytest.mark.parametrize("folder", ["src", "tests", "docs", "examples", "benchmarks", "recipes"])
def test_no_file_names_a_machine_or_writes_pickles(folder: str) -> None:
    root = Path(__file__).parents[1]
    forbidden = ["/work" + "/", "/tmp" + "/", "/root" + "/"]
    pickles = ["allow_" + "pickle=True", "torch." + "save(", "import " + "pickle"]
    for path in (root / folder).rglob("*"):
        built = {"_build", "gallery", "generated", "results", "__pycache__"} & set(path.parts)
        if path.suffix in {".py", ".pyi", ".rst", ".md", ".yaml"} and not built:
            text = path.read_text(encoding="utf-8")
            # Hostile files are made on purpose in tests; miniatures of foreign layouts are written
            # as these layouts are.
            may = folder == "tests" or path.match("testing/_layouts_*.py")
            found = [word for word in forbidden + pickles * (not may) if word in text]
            assert not found, f"{path.relative_to(root)}: {found}"

"""The command line starts fast, and importing the library loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "mne", "pandas", "scipy", "matplotlib", "pydantic", "numpy")


@pytest.mark.parametrize(
    "statement",
    ["import phosphene", "import phosphene.cli", "from phosphene.cli import app; dir(app)"],
)
def test_importing_loads_none_of_the_heavy_packages(statement: str) -> None:
    code = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom phosphene.cli import main\nsys.argv = ['phosphene', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for command in (
        "align", "audit", "demo", "list", "fit", "evaluate", "name", "predict", "check", "doctor",
    ):  # fmt: skip
        assert f" {command} " in done.stdout


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phosphene", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    from phosphene import __version__

    assert done.stdout == f"phosphene {__version__}\n"


def test_tables_in_pipes_are_plain_and_not_cut() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "phosphene", "list", "datasets"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "title", "modality"]
    assert {"things_eeg2", "nsd", "god"} <= {line.split()[0] for line in lines[1:]}
    assert max(map(len, lines)) > 120
    assert "…" not in done.stdout
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("kind", ["methods", "encoders", "views", "objectives", "generators"])
def test_listings_as_json(kind: str) -> None:
    from typer.testing import CliRunner

    from phosphene import _registry
    from phosphene.cli import app

    result = CliRunner().invoke(app, ["list", kind, "--json"])
    assert result.exit_code == 0, result.output
    items = json.loads(result.stdout)
    names = {(item["kind"], item["name"]) for item in items}
    wanted = {
        "encoders": ["encoder", "image_encoder", "text_encoder"],
        "methods": ["method", "reconstructor"],
    }.get(kind, [kind.removesuffix("s")])
    assert names == {(k, n) for k in wanted for n in _registry.names(k)}
    assert all(item["summary"] for item in items)

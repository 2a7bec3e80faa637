"""The Python in the pages and in the README runs, and the reference is complete."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import phosphene
from phosphene import _registry

ROOT = Path(__file__).parents[1]
METHOD_PAGES = sorted((ROOT / "docs" / "methods").glob("*.rst"))
PAGES = sorted(
    page
    for page in [*(ROOT / "docs").glob("*.rst"), *METHOD_PAGES]
    if "code-block:: python" in page.read_text()
)
RST = re.compile(r"^\.\. code-block:: python\n((?:[ \t]+.*\n|\n)+)", re.MULTILINE)
MARKDOWN = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[str]:
    """The Python blocks of a page, in order."""
    pattern = RST if path.suffix == ".rst" else MARKDOWN
    return [textwrap.dedent(code) for code in pattern.findall(path.read_text())]


def own_session(folder: Path) -> object:
    """Pictures in ``images/`` and epochs that name them, as a reader of the pages has."""
    import mne
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (70, 4, 4, 3), dtype=np.uint8)
    names = [f"thing{i:02d}/thing{i:02d}_01.png" for i in range(len(coarse))]
    for name, pattern in zip(names, coarse, strict=True):
        path = folder / "images" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(pattern).resize((224, 224), Image.Resampling.NEAREST).save(path)
    shown = np.repeat(np.arange(70), 2)
    mixing = rng.standard_normal((48, 8 * 80))
    signal = (coarse.reshape(70, -1) / 74.0 - 1.7) @ mixing
    noise = rng.standard_normal((len(shown), 8, 80))
    info = mne.create_info(["P7", "P3", "Pz", "P4", "P8", "O1", "Oz", "O2"], 100.0, "eeg")
    metadata = pd.DataFrame({"image": [names[i] for i in shown]})
    data = 1e-6 * (signal.reshape(70, 8, 80)[shown] + noise)
    return mne.EpochsArray(data, info, metadata=metadata, verbose="error")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_code_of_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("page")
    # Dataclasses look their module up by name.
    monkeypatch.setitem(__import__("sys").modules, "page", module)
    code = blocks(page)
    assert code
    if any("epochs" in block for block in code):
        module.epochs = own_session(tmp_path)  # type: ignore[attr-defined]
    for number, block in enumerate(code):
        exec(compile(block, f"{page.name}, block {number + 1}", "exec"), module.__dict__)
    if page.stem == "README":
        result = module.result  # type: ignore[attr-defined]
        assert result.report(tmp_path / "report.html").stat().st_size > 1000
        assert len(result.table) == 50
        assert result.protocol.test_openings == 1


def test_pages_were_found() -> None:
    assert {"quickstart", "own_data", "evaluation", "extending"} <= {page.stem for page in PAGES}


def test_every_method_has_a_page_with_its_figure() -> None:
    drawn = (ROOT / "docs" / "method_figures.py").read_text()
    assert {page.stem for page in METHOD_PAGES} >= set(_registry.names("method"))
    for page in METHOD_PAGES:
        assert f"_static/methods/{page.stem}.svg" in page.read_text(), page.name
        assert f'"{page.stem}": Drawing(' in drawn, page.name


def public_names() -> list[str]:
    """The names of the lazy public API, from its stub."""
    stub = ast.parse((ROOT / "src" / "phosphene" / "__init__.pyi").read_text())
    return [
        alias.asname or alias.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


@pytest.mark.parametrize("name", public_names())
def test_public_name_is_documented(name: str) -> None:
    part = getattr(phosphene, name)
    assert inspect.getdoc(part), f"phosphene.{name} has no docstring"
    reference = (ROOT / "docs" / "api" / "index.rst").read_text()
    assert re.search(rf"^   {name}$", reference, re.MULTILINE), f"{name} is not in docs/api"


def test_reference_names_exist() -> None:
    reference = (ROOT / "docs" / "api" / "index.rst").read_text()
    names = re.findall(r"^   ([A-Za-z_][\w.]*)$", reference, re.MULTILINE)
    assert len(names) > len(public_names())
    for dotted in names:
        part: object = phosphene
        path = "phosphene"
        for step in dotted.split("."):
            path = f"{path}.{step}"
            if not hasattr(part, step):
                __import__(path)
            part = getattr(part, step)
        assert inspect.getdoc(part), f"phosphene.{dotted} has no docstring"

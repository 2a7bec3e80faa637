"""Configuration of the documentation build (``make docs``)."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version as installed
from pathlib import Path

# The build runs the examples: one thread, no display, no progress bars.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("CI", "1")
warnings.filterwarnings("ignore", message=".*non-interactive.*")

project = "phosphene"
author = "The phosphene developers"
copyright = "2026, The phosphene developers"
release = installed("phosphene")
version = ".".join(release.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/*.md5"]
nitpicky = False

html_theme = "furo"
html_title = f"phosphene {version}"
html_static_path = ["_static"]

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"  # numpydoc sections hold the types, with shapes
autodoc_member_order = "bysource"
add_module_names = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_.*\.py",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "min_reported_time": 3600,
}


def skip_foreign(
    app: object, what: str, name: str, obj: object, skip: bool, options: object
) -> bool:
    """Leave out what other libraries document themselves."""
    module = str(getattr(obj, "__module__", None) or getattr(type(obj), "__module__", ""))
    return skip or module.startswith(("sklearn", "torch", "pydantic"))


def setup(app: object) -> None:
    """Draw the methods and register the hook."""
    sys.path.insert(0, str(Path(__file__).parent))
    from method_figures import draw_all

    draw_all(Path(__file__).parent / "_static" / "methods")
    app.connect("autodoc-skip-member", skip_foreign)  # type: ignore[attr-defined]

"""The run folder: what was trained from which recipe, with checksums of everything in it.

A run folder holds ``recipe.yaml`` (resolved), ``run.json`` (how far it is), ``model/``,
``protocol.json``, ``queries.csv``, ``scores.npz``, ``log.txt`` and ``manifest.json`` (sha256 of
all). While it is being changed it also holds ``.unfinished``; an interrupted change is then told
from damage.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phosphene._logging import get_logger
from phosphene._saving import (
    read_json,
    read_yaml,
    sha256_json,
    verify_folder,
    write_json,
    write_manifest,
    write_text,
    write_yaml,
)
from phosphene.config import Recipe, method_class, parse_recipe, reconstructs
from phosphene.errors import (
    ArtefactError,
    NotFittedError,
    PhospheneError,
    RecipeError,
    StorageError,
    listing,
)

logger = get_logger(__name__)

VERSION = 1
KIND = "run"
RECIPE = "recipe.yaml"
STATE = "run.json"
LOG = "log.txt"
MARKER = ".unfinished"
CHECKPOINTS = ".checkpoints"
_MARKER_TEXT = "a command is changing this folder, or was interrupted\n"


@dataclass(frozen=True)
class Run:
    """A run folder.

    Parameters
    ----------
    folder : Path
        Where it is.
    recipe : Recipe
        What is trained.
    state : dict
        Content of ``run.json``: ``folds`` (folder name to description), ``fitted`` (whether
        training is complete), ``evaluated`` (whether a result is there), ``data`` (fingerprint of
        recording and features), ``opened`` (how often the test data were opened).
    """

    folder: Path
    recipe: Recipe
    state: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path, *, full: bool = False) -> Run:
        """Open a run and verify its checksums.

        Parameters
        ----------
        folder : path
            A folder that ``fit`` wrote.
        full : bool
            Also read files that are otherwise verified when they are used.

        Raises
        ------
        ArtefactError
            If it is not a run folder, or a file in it is missing, truncated or changed.
        NotFittedError
            If its training was interrupted.
        """
        folder = Path(folder)
        if not (folder / STATE).is_file():
            raise ArtefactError(
                f"{folder} is not a run folder",
                found="no such folder" if not folder.exists() else f"no {STATE} in it",
                expected="a folder that `phosphene fit RECIPE --out FOLDER` wrote",
            )
        interrupted = (folder / MARKER).exists()
        if not interrupted:
            # Before anything is read: a flipped bit must not look like a mistake in the recipe.
            # Other files, a report say, may lie beside ours.
            verify_folder(folder, kind=KIND, full=full, allow_extra=True)
        run = cls._read(folder)
        if not run.fitted:
            raise NotFittedError(
                f"the training in {folder} is not finished",
                fix="run the same `phosphene fit` command again; it continues",
            )
        if interrupted:
            # A command was stopped while it wrote its outputs, which will be written again; the
            # decoders have manifests of their own.
            for name in run.folds:
                verify_folder(run.model_folder(name), full=full)
        return run

    @classmethod
    def claim(cls, folder: str | Path, recipe: Recipe) -> Run:
        """Begin a run in a new or empty folder, or take up the one of the same recipe.

        Raises
        ------
        RecipeError
            If the folder holds a run of another recipe; names the values that differ.
        StorageError
            If it holds other files.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise StorageError(f"{folder} is a file", expected="a folder, new or empty")
        if (folder / STATE).is_file():
            run = cls._read(folder, expected=recipe)
            return cls.open(folder) if run.fitted else run
        visible = [p.name for p in folder.glob("*") if not p.name.startswith(".")]
        if visible:
            raise StorageError(
                f"{folder} holds files that do not belong to a run: {listing(sorted(visible))}",
                fix="choose another folder with --out",
            )
        run = cls(folder, recipe, {"version": VERSION, "recipe": recipe_hash(recipe)})
        write_text(folder / MARKER, _MARKER_TEXT)
        run.update(fitted=False, evaluated=False, folds={}, data=None, opened=0)
        write_yaml(folder / RECIPE, recipe.to_dict())
        return run

    @classmethod
    def _read(cls, folder: Path, expected: Recipe | None = None) -> Run:
        state = read_json(folder / STATE)
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise ArtefactError(
                f"{folder / STATE} cannot be used",
                found=f"version {state.get('version') if isinstance(state, dict) else None}",
                expected=f"version {VERSION}",
            )
        if expected is not None:
            if state["recipe"] == recipe_hash(expected):
                if not (folder / RECIPE).is_file():
                    write_yaml(folder / RECIPE, expected.to_dict())
                return cls(folder, expected, state)
            there = read_yaml(folder / RECIPE)
            raise RecipeError(
                f"{folder} holds a run of another recipe",
                found=listing(_differences(expected.to_dict(), there)),
                fix="choose another folder with --out, or remove this one",
            )
        recipe = parse_recipe(read_yaml(folder / RECIPE), origin=str(folder / RECIPE))
        if recipe_hash(recipe) != state["recipe"]:
            raise ArtefactError(
                f"{folder / RECIPE} was changed after the run began",
                found=f"sha256 {recipe_hash(recipe)}",
                expected=f"sha256 {state['recipe']}",
                fix="fit the changed recipe into a new folder",
            )
        return cls(folder, recipe, state)

    def retrieving(self) -> Run:
        """Give the run back if its method retrieves.

        Raises
        ------
        RecipeError
            If its method makes pictures.
        """
        if reconstructs(self.recipe.method.name):
            raise RecipeError(
                f"{self.folder} holds a run of {self.recipe.method.name}, which makes pictures and "
                "retrieves none",
                fix=f"phosphene reconstruct {self.folder}",
            )
        return self

    @property
    def fitted(self) -> bool:
        """Whether training is complete."""
        return bool(self.state["fitted"])

    @property
    def folds(self) -> dict[str, str]:
        """Folder name of every fold ("" where there is one only), with its description."""
        return dict(self.state["folds"])

    def model_folder(self, fold: str) -> Path:
        """Where the decoder of a fold is kept."""
        return self.folder / "model" / fold if fold else self.folder / "model"

    def decoder(self, fold: str | None = None) -> Any:
        """Load the decoder of a fold, given by folder name or by description.

        Which one need not be said where there is one only.

        Raises
        ------
        RecipeError
            If there are several folds and none or an unknown one is named.
        """
        names = list(self.folds)
        if fold is None and len(names) == 1:
            fold = names[0]
        by_label = {label: name for name, label in self.folds.items()}
        fold = by_label.get(str(fold), fold)
        if fold not in names:
            known = [f"{name} ({label})" if name else label for name, label in self.folds.items()]
            raise RecipeError(
                f"{self.folder} holds {len(names)} decoders: say which",
                found=fold,
                expected="one of " + listing(known, limit=30),
                fix=f"--fold {names[0] or self.folds[names[0]]!r}",
            )
        return method_class(self.recipe.method.name).from_pretrained(self.model_folder(fold))

    def update(self, **changes: Any) -> None:
        """Change the state, on disk too."""
        self.state.update(changes)
        write_json(self.folder / STATE, self.state)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Mark the folder as unfinished, log into it, and renew the manifest at the end."""
        write_text(self.folder / MARKER, _MARKER_TEXT)
        with _log_into(self.folder / LOG):
            yield
        write_manifest(self.folder, kind=KIND)
        (self.folder / MARKER).unlink(missing_ok=True)


def recipe_hash(recipe: Recipe) -> str:
    """Digest of a resolved recipe."""
    return sha256_json(recipe.to_dict())


def _differences(here: Mapping[str, Any], there: Any, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ, as ``key: there, here asked``."""
    if not isinstance(there, Mapping):
        return [f"{prefix or 'everything'} differs"]
    lines: list[str] = []
    for key in dict.fromkeys([*here, *there]):
        mine, other = here.get(key), there.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            lines += _differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            lines.append(f"{prefix}{key} is {other!r} there and {mine!r} in the recipe")
    return lines


@contextmanager
def _log_into(path: Path) -> Iterator[None]:
    """Append the library's log to a file."""
    root = logging.getLogger("phosphene")
    handler = logging.FileHandler(path, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    level = root.level
    if root.getEffectiveLevel() > logging.INFO:
        root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        # At a level that the command line keeps to itself: it reports the error in its own way.
        expected = isinstance(error, (PhospheneError, KeyboardInterrupt))
        logger.info("stopped: %s: %s", type(error).__name__, error, exc_info=not expected)
        raise
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()

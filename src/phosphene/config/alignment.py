"""Recipes of brain-aligned vectors: which vectors, aligned with whose brain, decoded how.

Sections are ``data``, ``vectors``, ``aligner``, ``decoder`` and what of the brain to use; rules for
keys and paths are those of all recipes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from phosphene._registry import did_you_mean
from phosphene.config.reading import read_model
from phosphene.config.schema import ReaderData, RecipePath, _Section
from phosphene.errors import RecipeError, listing

ALPHAS = (1.0, 0.1, 0.01, 0.001, 0.0001)


class GodVectors(_Section):
    """Vectors that come with Generic Object Decoding.

    Parameters
    ----------
    path : path, optional
        ``ImageFeatures.h5``; that below ``data.root`` by default.
    layer : str
        Layer of the network, e.g. ``cnn8``.
    n_candidates : int
        Categories of the wrong answers, drawn from all that nobody was shown.
    """

    kind: Literal["god"]
    path: RecipePath | None = None
    layer: str = "cnn8"
    n_candidates: PositiveInt = 1000


class TableVectors(_Section):
    """Vectors in CSV files: a category per row, its name first.

    Parameters
    ----------
    path : path
        Of all categories that were shown, named as the concepts of the recording.
    candidates : path
        Of the wrong answers.
    """

    kind: Literal["csv"]
    path: RecipePath
    candidates: RecipePath


class BankVectors(_Section):
    """Vectors in saved banks; pictures of a category are averaged.

    Parameters
    ----------
    path, candidates : path
        Folders of a ``FeatureBank`` with the categories that were shown, and of one with the wrong
        answers, both of one space.
    layer : str, optional
        Which layer, where there are several.
    """

    kind: Literal["bank"]
    path: RecipePath
    candidates: RecipePath
    layer: str | None = None


class DecoderChoice(_Section):
    """How responses are turned into vectors.

    Parameters
    ----------
    name : {"ridge", "ols", "pls"}
        Linear regression of every unit.
    voxels : int, optional
        Voxels of largest absolute correlation with the unit over training categories; all
        by default.
    penalty : float
        Of ridge, on the sum of squares of z-scored voxels.
    components : int
        Of partial least squares.
    """

    name: Literal["ridge", "ols", "pls"] = "ridge"
    voxels: PositiveInt | None = 500
    penalty: PositiveFloat = 100.0
    components: PositiveInt = 10


class AlignmentRecipe(_Section):
    """A study of brain-aligned vectors on recordings of voxels.

    Parameters
    ----------
    name : str
        Printed in tables and reports.
    seed : int
        The one seed of the run.
    data : ReaderData
        People with voxels in regions, trials in the parts ``train`` and ``test``.
    vectors : GodVectors, TableVectors or BankVectors
        What is aligned, and the wrong answers of the identification.
    region : str
        Whose similarities the vectors are aligned to, and which is decoded.
    regions : list of str
        Rows of the grid of region by alpha.
    alphas : list of float
        Its columns, and what cross-validation chooses from.
    aligner : dict
        Parameters of `phosphene.BrainAligner` for the row "aligned".
    others : dict of str to dict
        Further rows: parameters of `phosphene.BrainAligner` by label.
    decoder : DecoderChoice
        See there.
    draws : int
        Shufflings of the RSM.
    clusters : int
        Types that the test categories are sorted into.
    """

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    data: ReaderData
    vectors: Annotated[GodVectors | TableVectors | BankVectors, Field(discriminator="kind")]
    region: str = "V4"
    regions: list[str] = Field(default=["V1", "V2", "V3", "V4", "LOC", "FFA", "PPA"], min_length=1)
    alphas: list[float] = Field(default=list(ALPHAS), min_length=1)
    aligner: dict[str, Any] = Field(default_factory=dict)
    others: dict[str, dict[str, Any]] = Field(default_factory=dict)
    decoder: DecoderChoice = DecoderChoice()
    draws: PositiveInt = 10
    clusters: int = Field(default=10, ge=2)

    @field_validator("aligner")
    @classmethod
    def _without_alpha(cls, params: dict[str, Any]) -> dict[str, Any]:
        if taken := [name for name in ("alpha", "random_state") if name in params]:
            raise ValueError(f"{taken[0]} is given by alphas and seed")
        return params

    @field_validator("alphas")
    @classmethod
    def _different(cls, alphas: list[float]) -> list[float]:
        if len(set(alphas)) < len(alphas) or not all(0 <= a <= 1 for a in alphas):
            raise ValueError("alphas are different numbers from 0 to 1")
        return alphas

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, every default filled in."""
        return self.model_dump(mode="json")


def load_alignment_recipe(path: str | Path, overrides: Sequence[str] = ()) -> AlignmentRecipe:
    """Read a recipe of brain-aligned vectors and check it to the last key.

    Parameters
    ----------
    path : path
        A YAML file.
    overrides : sequence of str
        Changes such as ``"decoder.voxels=200"``; the value is read as YAML.

    Raises
    ------
    RecipeError
        If the file is missing or not YAML, or a key or value is not valid.
    """
    from phosphene.config.reading import check_reader
    from phosphene.methods.brain_alignment import BrainAligner

    recipe = read_model(AlignmentRecipe, path, overrides)
    known = list(inspect.signature(BrainAligner).parameters)
    rows = {f"others.{row}": params for row, params in recipe.others.items()}
    for where, given in [("aligner", recipe.aligner), *rows.items()]:
        if unknown := [name for name in given if name not in known]:
            raise RecipeError(
                f"{path}: BrainAligner has no parameter {listing(map(repr, unknown))} "
                f"({where}.{unknown[0]})",
                expected="one of " + ", ".join(known),
                fix=did_you_mean(unknown[0], known),
            )
    check_reader(recipe.data, str(path))
    return recipe

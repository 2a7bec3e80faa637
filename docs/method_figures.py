"""Drawings of the methods for their pages: what is fed forward, what is compared, what is chosen.

``conf.py`` calls `draw_all` before a build. Boxes lie on a grid: columns from left to right, rows
from top to bottom; the colour says whose vector it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# Okabe and Ito's palette, which colour-blind readers tell apart; light enough for black text.
COLOURS = {
    "brain": "#9ecae9",
    "picture": "#f5c97a",
    "name": "#8fd3bb",
    "module": "#ffffff",
    "loss": "#e6e6e6",
    "choice": "#e3b5d1",
}
WIDTH, HEIGHT = 1.9, 0.78  # of a box, inches
STEP_X, STEP_Y = 2.35, 1.12


@dataclass(frozen=True)
class Box:
    """A box of text in a cell of the grid."""

    text: str
    column: float
    row: float
    kind: str


@dataclass(frozen=True)
class Drawing:
    """Boxes by name, arrows between them, dashed arrows for what feeds back."""

    boxes: Mapping[str, Box]
    arrows: Sequence[tuple[str, str]]
    dashed: Sequence[tuple[str, str]] = field(default_factory=tuple)


def _two_sides(**changes: Box) -> dict[str, Box]:
    """What nearly all methods have: a brain side above, a picture side below, and a contrast."""
    return {
        "x": Box("brain response", 0, 0, "brain"),
        "encoder": Box("brain encoder", 1, 0, "module"),
        "b": Box("brain vector", 2, 0, "brain"),
        "image": Box("picture", 0, 1, "picture"),
        "frozen": Box("frozen image\nencoder", 1, 1, "module"),
        "v": Box("picture vector", 2, 1, "picture"),
        "loss": Box("contrast: true pairs\nup, others down", 3, 0.5, "loss"),
        **changes,
    }


# fmt: off
_PAIR = [
    ("x", "encoder"), ("encoder", "b"), ("b", "loss"),
    ("image", "frozen"), ("frozen", "v"), ("v", "loss"),
]

DRAWINGS: dict[str, Drawing] = {
    "ridge": Drawing(
        _two_sides(
            encoder=Box("linear map, penalty\nby leave-one-out", 1, 0, "module"),
            b=Box("predicted vector", 2, 0, "brain"),
            loss=Box("squared error\n(closed form)", 3, 0.5, "loss"),
        ),
        _PAIR,
    ),
    "nice": Drawing(
        _two_sides(
            encoder=Box("channel attention\n(optional), TSConv", 1, 0, "module"),
            projected=Box("projector", 3, 1, "module"),
            loss=Box("contrast: true pairs\nup, others down", 4, 0.5, "loss"),
        ),
        [*_PAIR[:2], ("b", "loss"), *_PAIR[3:5], ("v", "projected"), ("projected", "loss")],
    ),
    "atms": Drawing(
        {
            "token": Box("token of the\nsubject", 0, -1, "choice"),
            "x": Box("single trial", 0, 0, "brain"),
            "attend": Box("attention between\nchannels", 1, 0, "module"),
            "encoder": Box("TSConv and head", 2, 0, "module"),
            "b": Box("brain vector", 3, 0, "brain"),
            "image": Box("picture", 0, 1, "picture"),
            "frozen": Box("frozen image\nencoder", 1, 1, "module"),
            "v": Box("picture vector", 3, 1, "picture"),
            "word": Box("name of the\nconcept", 0, 2, "name"),
            "words": Box("frozen text\nencoder", 1, 2, "module"),
            "t": Box("name vector", 3, 2, "name"),
            "loss": Box(".99 contrast with\npicture + .01 name", 4, 1, "loss"),
        },
        [
            ("token", "attend"), ("x", "attend"), ("attend", "encoder"), ("encoder", "b"),
            ("b", "loss"), ("image", "frozen"), ("frozen", "v"), ("v", "loss"),
            ("word", "words"), ("words", "t"), ("t", "loss"),
        ],
    ),
    "ubp": Drawing(
        _two_sides(
            image=Box("picture, foveal blur\nweak | middle | strong", 0, 1, "picture"),
            level=Box("level of a trial:\nmatched too easily?\nthen blur less", 3, 1.75, "choice"),
        ),
        [*_PAIR, ("loss", "level")],
        [("level", "image")],
    ),
    "img2img": Drawing(
        {
            "x": Box("brain response", 0, 0.5, "brain"),
            "early": Box("ridge,\nearly areas", 1, 0, "module"),
            "ventral": Box("ridge,\nventral areas", 1, 1, "module"),
            "z": Box("latent, and noise", 2, 0, "picture"),
            "c": Box("text embedding", 2, 1, "name"),
            "denoise": Box("denoise 40 of\n50 steps", 3, 0.5, "module"),
            "picture": Box("picture", 4, 0.5, "picture"),
        },
        [
            ("x", "early"), ("x", "ventral"), ("early", "z"), ("ventral", "c"), ("z", "denoise"),
            ("c", "denoise"), ("denoise", "picture"),
        ],
    ),
    "ip_adapter": Drawing(
        {
            "x": Box("brain response", 0, 0, "brain"),
            "ridge": Box("ridge", 1, 0, "module"),
            "b": Box("mean image\nembedding", 2, 0, "brain"),
            "prior": Box("diffusion prior:\nwhich do pictures have?", 3, 0, "module"),
            "v": Box("image embedding", 4, 0, "picture"),
            "generate": Box("generator that takes\npictures as prompts", 5, 0, "module"),
            "picture": Box("picture", 6, 0, "picture"),
        },
        [
            ("x", "ridge"), ("ridge", "b"), ("b", "prior"), ("prior", "v"), ("v", "generate"),
            ("generate", "picture"),
        ],
    ),
    "minddiffuser": Drawing(
        {
            "x": Box("brain response", 0, 1, "brain"),
            "zc": Box("decoded latent\nand text", 1, 0, "name"),
            "s": Box("decoded structure:\nshallow layers", 1, 2, "brain"),
            "denoise": Box("noise, denoise\n37 of 50 steps", 2, 0, "module"),
            "picture": Box("picture", 3, 0, "picture"),
            "network": Box("vision network", 3, 1, "module"),
            "loss": Box("structural loss", 4, 2, "loss"),
            "step": Box("stage 2: move\nthe latent", 2, 3, "choice"),
        },
        [
            ("x", "zc"), ("x", "s"), ("zc", "denoise"), ("denoise", "picture"),
            ("picture", "network"), ("network", "loss"), ("s", "loss"), ("loss", "step"),
        ],
        [("step", "zc")],
    ),
    "neurobridge": Drawing(
        {
            "x": Box("brain response,\nsmoothed at random", 0, 0, "brain"),
            "encoder": Box("brain encoder", 1, 0, "module"),
            "pb": Box("projector", 2, 0, "module"),
            "image": Box("picture: blur, noise,\nlow resolution, mosaic", 0, 1, "picture"),
            "frozen": Box("frozen image\nencoder, mean", 1, 1, "module"),
            "pv": Box("projector", 2, 1, "module"),
            "loss": Box("contrast in a space\nof 512 numbers", 3, 0.5, "loss"),
        },
        [
            ("x", "encoder"), ("encoder", "pb"), ("pb", "loss"),
            ("image", "frozen"), ("frozen", "pv"), ("pv", "loss"),
        ],
    ),
    "ssr": Drawing(
        {
            "x": Box("brain response", 0, 0, "brain"),
            "encoder": Box("encoder, projector", 1, 0, "module"),
            "b": Box("brain  b", 2, 0, "brain"),
            "image": Box("augmented pictures", 0, 1, "picture"),
            "frozen": Box("encoder, mean,\nprojector", 1, 1, "module"),
            "a": Box("augmented  a", 2, 1, "picture"),
            "original": Box("original picture", 0, 2, "picture"),
            "frozen2": Box("encoder, the same\nprojector", 1, 2, "module"),
            "o": Box("anchor  o", 2, 2, "picture"),
            "rec": Box("half hidden tokens,\nfilled from the other", 3.1, 0, "loss"),
            "loss": Box("three contrasts:\nb-a, b-o, a-o", 3.1, 1.5, "loss"),
        },
        [
            ("x", "encoder"), ("encoder", "b"), ("image", "frozen"), ("frozen", "a"),
            ("original", "frozen2"), ("frozen2", "o"), ("b", "loss"), ("a", "loss"), ("o", "loss"),
            ("b", "rec"), ("a", "rec"),
        ],
    ),
    "bvsa": Drawing(
        {
            "word": Box("name of the\nconcept", 0, -1, "name"),
            "words": Box("frozen text\nencoder", 1, -1, "module"),
            "t": Box("name vector", 2, -1, "name"),
            "x": Box("brain response", 0, 0, "brain"),
            "encoder": Box("brain encoder,\ntwo heads", 1, 0, "module"),
            "b": Box("vectors for name\nand for picture", 2, 0, "brain"),
            "image": Box("picture: 3 peaks of\nsharpness x 3 blurs", 0, 1, "picture"),
            "frozen": Box("frozen image\nencoder", 1, 1, "module"),
            "v": Box("picture vector", 2, 1, "picture"),
            "by name": Box("contrast\nwith the name", 3.1, -0.5, "loss"),
            "loss": Box("contrast\nwith the picture", 3.1, 0.5, "loss"),
            "level": Box("name matched: peak;\npicture matched: blur", 3.1, 1.6, "choice"),
        },
        [
            ("word", "words"), ("words", "t"), ("t", "by name"), ("x", "encoder"),
            ("encoder", "b"), ("b", "by name"), ("b", "loss"), ("image", "frozen"),
            ("frozen", "v"), ("v", "loss"), ("loss", "level"),
        ],
        [("level", "image")],
    ),
    "shallow_alignment": Drawing(
        {
            "x": Box("brain response", 0, 0, "brain"),
            "encoder": Box("brain encoder", 1, 0, "module"),
            "pb": Box("projector", 3, 0, "module"),
            "image": Box("picture", 0, 1, "picture"),
            "early": Box("first layers,\nfrozen", 1, 1, "module"),
            "middle": Box("a layer on the way", 2, 1, "picture"),
            "late": Box("last layers:\nnot used", 2, 2, "loss"),
            "pv": Box("projector", 3, 1, "module"),
            "loss": Box("contrast in a space\nof 512 numbers", 4, 0.5, "loss"),
        },
        [
            ("x", "encoder"), ("encoder", "pb"), ("pb", "loss"), ("image", "early"),
            ("early", "middle"), ("middle", "pv"), ("pv", "loss"),
        ],
        [("middle", "late")],
    ),
    "samga": Drawing(
        {
            "x": Box("brain response", 0, 0, "brain"),
            "encoder": Box("encoder, projector", 1, 0, "module"),
            "b": Box("brain vector", 3, 0, "brain"),
            "subject": Box("subject (dropped at\nrandom)", 0, 2, "choice"),
            "image": Box("picture", 0, 1, "picture"),
            "layers": Box("several layers,\nfrozen, projected", 1, 1, "picture"),
            "router": Box("router: weights\nof the layers", 1, 2, "module"),
            "v": Box("mixture of layers", 3, 1, "picture"),
            "mmd": Box("stage 1: MMD of the\ntwo clouds", 4.1, 0, "loss"),
            "loss": Box("contrast", 4.1, 1, "loss"),
        },
        [
            ("x", "encoder"), ("encoder", "b"), ("image", "layers"), ("layers", "v"),
            ("subject", "router"), ("router", "v"), ("b", "mmd"), ("v", "mmd"),
            ("b", "loss"), ("v", "loss"),
        ],
    ),
    "combine": Drawing(
        {
            "x": Box("brain response", 0, 0, "brain"),
            "encoder": Box("one trunk", 1, 0, "module"),
            "heads": Box("a head per target, or\none for all", 2, 0, "brain"),
            "image": Box("picture in\nseveral views", 0, 1, "picture"),
            "frozen": Box("frozen image\nencoder", 1, 1, "module"),
            "v": Box("several layers\nof each view", 2, 1, "picture"),
            "word": Box("name of the\nconcept", 0, 2, "name"),
            "words": Box("frozen text\nencoder", 1, 2, "module"),
            "t": Box("name vector", 2, 2, "name"),
            "loss": Box("a contrast per target,\nor with their mixture", 3.1, 0.5, "loss"),
            "rec": Box("reconstruction\n(optional)", 3.1, -0.5, "loss"),
            "by name": Box("contrast; modulates\nthe scores", 3.1, 1.6, "loss"),
        },
        [
            ("x", "encoder"), ("encoder", "heads"), ("image", "frozen"), ("frozen", "v"),
            ("word", "words"), ("words", "t"), ("heads", "loss"), ("v", "loss"),
            ("heads", "rec"), ("heads", "by name"), ("t", "by name"),
        ],
    ),
    "brain_alignment": Drawing(
        {
            "word": Box("picture or word", 0, 0, "picture"),
            "vector": Box("vectors by category", 1, 0, "picture"),
            "aligner": Box("aligner: linear,\nresidual, autoencoder", 2, 0, "module"),
            "aligned": Box("aligned vectors", 3, 0, "picture"),
            "x": Box("responses of several\npeople", 0, 1, "brain"),
            "rsm": Box("similarity of\ncategories", 1, 1, "brain"),
            "loss": Box("similarity structures\nagree", 2, 1, "loss"),
            "decode": Box("decode: another\nperson or modality", 3, 1, "brain"),
        },
        [
            ("word", "vector"), ("vector", "aligner"), ("aligner", "aligned"), ("x", "rsm"),
            ("rsm", "loss"), ("aligner", "loss"), ("aligned", "decode"),
        ],
    ),
}


# fmt: on
def draw_all(folder: Path) -> None:
    """Write ``NAME.svg`` for every method."""
    folder.mkdir(parents=True, exist_ok=True)
    # Fixed ids and no date, so that a build writes the same bytes again.
    with plt.rc_context({"svg.hashsalt": "phosphene", "svg.fonttype": "path"}):
        for name, drawing in DRAWINGS.items():
            figure = draw(drawing)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)


def draw(drawing: Drawing) -> plt.Figure:
    """The figure of one drawing."""
    columns = [box.column for box in drawing.boxes.values()]
    rows = [box.row for box in drawing.boxes.values()]
    left, right = min(columns) * STEP_X - WIDTH * 0.6, max(columns) * STEP_X + WIDTH * 0.6
    below = HEIGHT * (1.15 if drawing.dashed else 0.8)  # room for an arrow that leads back
    low, high = -max(rows) * STEP_Y - below, -min(rows) * STEP_Y + HEIGHT * 0.8
    figure = plt.figure(figsize=(right - left, high - low))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(low, high))
    axes.axis("off")
    for box in drawing.boxes.values():
        _draw_box(axes, box)
    for pairs, style in ((drawing.arrows, "-"), (drawing.dashed, "--")):
        for start, end in pairs:
            _draw_arrow(axes, drawing.boxes[start], drawing.boxes[end], style)
    return figure


def _place(box: Box) -> tuple[float, float]:
    return box.column * STEP_X, -box.row * STEP_Y


def _draw_box(axes: Axes, box: Box) -> None:
    x, y = _place(box)
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=COLOURS[box.kind],
            edgecolor="#444444",
            linewidth=1.0,
        )
    )
    axes.text(x, y, box.text, ha="center", va="center", fontsize=9.5)


def _draw_arrow(axes: Axes, start: Box, end: Box, style: str) -> None:
    (x0, y0), (x1, y1) = _place(start), _place(end)
    if x1 > x0:  # from the right side to the left side
        ends = ((x0 + WIDTH / 2, y0), (x1 - WIDTH / 2, y1))
    elif x1 < x0:  # back, below everything
        ends = ((x0 - WIDTH / 2, y0), (x1, y1 - HEIGHT / 2))
    else:
        down = HEIGHT / 2 if y1 < y0 else -HEIGHT / 2
        ends = ((x0, y0 - down), (x1, y1 + down))
    bend = "arc3,rad=-0.25" if x1 < x0 else "arc3"
    axes.add_patch(
        FancyArrowPatch(
            *ends,
            arrowstyle="-|>",
            mutation_scale=11,
            linestyle=style,
            connectionstyle=bend,
            color="#444444",
            linewidth=1.1,
            shrinkA=0,
            shrinkB=0,
        )
    )

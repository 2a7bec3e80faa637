"""What is seen of a picture: a contact sheet of views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from phosphene.stimuli.images import prepare
from phosphene.stimuli.views import View, apply_views, expand_views

Row = Sequence[str | View]
# Views, and what the row is called; UBP's three levels are the middle row of BVSA's nine views.
ROWS: tuple[tuple[Row, str], ...] = (
    (("original", "gaussian(k=15)", "noise", "lowres", "mosaic"), ""),
    *(
        (tuple(f"fovea(k={k},peak={peak})" for k in (45, 51, 57)), label)
        for peak, label in (
            (1, "BVSA, the text fits well (I = -1)"),
            (0.5, "UBP; BVSA, I = 0"),
            (0, "BVSA, the text fits badly (I = +1)"),
        )
    ),
)
_TILE = 1.9


def contact_sheet(
    image: NDArray[np.uint8],
    views: Row | None = None,
    *,
    size: int = 224,
    columns: int = 5,
    key: str | None = None,
) -> Figure:
    """Figure of one picture in many views.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
        The picture; its centre is cropped as for an encoder.
    views : sequence of str or View, optional
        Views and shorthands such as ``bvsa``; one of every kind by default. Views composed of
        vectors have no picture: their parts are shown.
    size : int
        Side that the views are computed at, in pixels.
    columns : int
        Pictures per row, for views of one's own choice.
    key : str, optional
        Content hash of the stimulus, which noise is seeded with.

    Returns
    -------
    Figure
    """
    labels: list[str] = []
    if views is None:
        rows = [expand_views(row) for row, _ in ROWS]
        labels = [label for _, label in ROWS]
    else:
        parts = [part for view in expand_views(views) for part in view.parts]
        chosen = list({part.name: part for part in parts}.values())
        rows = [chosen[i : i + columns] for i in range(0, len(chosen), columns)]
    prepared = torch.from_numpy(prepare(image, size, size))[None]
    seen = apply_views(
        prepared, [view for row in rows for view in row], None if key is None else [key]
    )
    width = max(len(row) for row in rows)
    figure = Figure(figsize=(_TILE * width, (_TILE + 0.35) * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for line in axes:
        for ax in line:
            ax.set_axis_off()
    for line, row in zip(axes, rows, strict=True):
        for ax, view in zip(line, row, strict=False):
            ax.imshow(seen[view.name][0].permute(1, 2, 0).clamp(0, 1).numpy())
            kind, _, rest = view.name.partition("(")
            ax.set_title(f"{kind}\n{rest.rstrip(')')}" if rest else kind, fontsize=7)
    for line, row, label in zip(axes, rows, labels, strict=False):
        if label:
            line[len(row)].text(0, 0.5, label, va="center", fontsize=8)
    return figure

"""How a bank shows itself in a terminal and in a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from phosphene.errors import listing

if TYPE_CHECKING:
    from phosphene.stimuli.bank import FeatureBank


def bank_text(bank: FeatureBank) -> str:
    """One line: how many stimuli, encoder, views, layers, number format, what was left out."""
    encoder = _encoder_id(bank)
    skipped = bank.provenance.get("skipped") or {}
    return (
        f"FeatureBank({len(bank)} stimuli, encoder {encoder!r}, "
        f"views {listing(bank.views)}; layers {listing(bank.layers)}; {_dtypes(bank)}"
        + (f"; names by {_encoder_id(bank.text)!r}" if bank.text is not None else "")
        + (f"; {len(skipped)} pictures left out" if skipped else "")
        + ")"
    )


def bank_html(bank: FeatureBank) -> str:
    """A small table for notebooks."""
    encoder = bank.provenance.get("encoder") or {}
    skipped = bank.provenance.get("skipped") or {}
    rows = {
        "stimuli": f"{len(bank)} of {bank.stimuli['concept'].nunique()} concepts",
        "left out": f"{len(skipped)}: {listing(skipped)}" if skipped else "",
        "encoder": encoder.get("id", "undeclared"),
        "weights": str(encoder.get("weights_hash", ""))[:16],
        "views": ", ".join(bank.views),
        "composed of": "; ".join(_composed(bank)),
        "names": "" if bank.text is None else _encoder_id(bank.text),
        "layers": ", ".join(f"{layer} ({bank.dim(layer)})" for layer in bank.layers),
        "precision": bank.provenance.get("precision", ""),
        "stored as": f"{_dtypes(bank)}, {_megabytes(bank)}",
    }
    cells = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value
    )
    return f"<table><caption>FeatureBank</caption>{cells}</table>"


def _encoder_id(bank: FeatureBank) -> str:
    return str((bank.provenance.get("encoder") or {}).get("id", "undeclared"))


def _composed(bank: FeatureBank) -> list[str]:
    views = bank.provenance.get("views") or {}
    return [
        f"{about['kind']}: {', '.join(about['of'])}"
        for about in (views.get(name) or {} for name in bank.views)
        if isinstance(about, dict) and isinstance(about.get("of"), list)
    ]


def _dtypes(bank: FeatureBank) -> str:
    return ", ".join(sorted({np.dtype(array.dtype).name for array in bank.arrays.values()}))


def _megabytes(bank: FeatureBank) -> str:
    size = sum(
        int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize for array in bank.arrays.values()
    )
    return f"{size / 2**20:.1f} MB"

"""Feature banks in an aligned space, which every decoder can take as its target."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene._saving import sha256_array, sha256_json
from phosphene.errors import DataError, NotFittedError, SpaceMismatchError
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods.brain_alignment import BrainAligner

TEXT = "text"
"""Name of the tower that the names of a bank's concepts belong to."""


def align_bank(bank: FeatureBank, aligner: BrainAligner, tower: str | None = None) -> FeatureBank:
    """A bank of the aligned vectors of a bank's default layer, all its views, under its name.

    The new bank is a space of its own: its digest holds that of the map, so that a decoder that
    was fitted on it refuses the original bank and every other aligner's. Vectors of the concepts'
    names (`FeatureBank.with_text`) are aligned with it where the aligner was fitted with a tower
    ``text``, or they lie in the space of the pictures; else they are left out.

    Parameters
    ----------
    bank : FeatureBank
        In the space that the aligner was fitted on; its default layer is used.
    aligner : BrainAligner
        Fitted.
    tower : str, optional
        Which tower of the aligner the bank is of; the first when not given.

    Raises
    ------
    SpaceMismatchError
        If the bank is of another space or width.
    """
    name = require_tower(aligner, tower)
    expected = aligner.spaces_.get(name)
    if expected is not None and expected != bank.space():
        raise SpaceMismatchError(
            "the aligner was fitted on vectors of another space",
            found=f"a bank of space {bank.space()[:12]}",
            expected=f"space {expected[:12]}",
            fix="extract with the same encoder, weights and layer, or fit a new aligner",
        )
    layer = bank.default_layer
    arrays = {
        (view, layer): aligner.transform(bank.vectors(view), tower=name) for view in bank.views
    }
    text = bank.text
    if text is not None:
        if TEXT in aligner.towers_:
            text = align_bank(text, aligner, TEXT)
        elif text.space() == bank.space():
            text = align_bank(text, aligner, name)
        else:
            text = None
    provenance = _provenance(bank, aligner, name)
    return replace(bank, arrays=arrays, provenance=provenance, timings={}, text=text)


def digest(aligner: BrainAligner) -> str:
    """Digest of the fitted map."""
    arrays = sorted(aligner.arrays_.items())
    return str(sha256_json({name: sha256_array(array) for name, array in arrays}))


def require_fitted(aligner: BrainAligner) -> None:
    """Raise unless the aligner is fitted."""
    if not hasattr(aligner, "arrays_"):
        raise NotFittedError("this aligner is not fitted", fix="call fit, or from_pretrained")


def require_tower(aligner: BrainAligner, tower: str | None) -> str:
    """The tower's name, the first by default, of an aligner that must be fitted."""
    require_fitted(aligner)
    name = aligner.towers_[0] if tower is None else tower
    if name not in aligner.towers_:
        raise DataError(
            "the aligner was not fitted on this tower",
            found=tower,
            expected=", ".join(aligner.towers_),
        )
    return name


def require_vectors(aligner: BrainAligner, vectors: Any) -> NDArray[Any]:
    """Vectors of the fitted width, finite."""
    matrix = np.asarray(vectors)
    if matrix.ndim != 2 or matrix.shape[1] != aligner.n_features_in_:
        raise SpaceMismatchError(
            "these are no vectors of the space that the aligner was fitted on",
            found=f"shape {matrix.shape}",
            expected=f"(n, {aligner.n_features_in_})",
        )
    if not np.isfinite(matrix).all():
        raise DataError("vectors hold NaN or infinity", fix="leave these rows out")
    return matrix


def _provenance(bank: FeatureBank, aligner: BrainAligner, tower: str) -> dict[str, Any]:
    given = bank.provenance
    map_digest = digest(aligner)
    origin = given.get("encoder") or {"id": "undeclared"}
    facts = {
        "variant": aligner.variant,
        "alpha": aligner.alpha_,
        "penalty": aligner.penalty_,
        "tower": tower,
        "categories": None if aligner.categories_ is None else len(aligner.categories_),
        "categories_sha256": sha256_json(aligner.categories_),
        "rsms": [str(key) for key in aligner.weights_],
        "space": bank.space(),
        "encoder": origin,
    }
    found: dict[str, Any] = {
        # Names of concepts stay text, so that a decoder's protocol counts them as such.
        "kind": "text" if given.get("kind") == "text" else "aligned",
        "encoder": {"id": f"aligned({origin.get('id')})", "weights_hash": map_digest},
        "spaces": {bank.default_layer: f"aligned:{map_digest}"},
        "alignment": facts,
    }
    return found | {
        name: given[name] for name in ("prompt", "views", "layer_aliases") if name in given
    }

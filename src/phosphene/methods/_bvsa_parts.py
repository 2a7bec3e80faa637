"""What BVSA refuses before it trains, its presets and its gallery of several views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from phosphene.errors import DataError, SpaceMismatchError, listing
from phosphene.methods import _levels
from phosphene.methods._modulated import ModulatedDecoder, unit
from phosphene.stimuli.bank import FeatureBank

if TYPE_CHECKING:
    from phosphene.methods.bvsa import BVSA

_N_VIEWS = 9
_CHOICES = {"decouple": ("discrete", "smooth", "off"), "judge": ("smoothed", "current")}


@dataclass(eq=False, repr=False, kw_only=True)
class PresetDecoder(ModulatedDecoder):
    """Base of BVSA: parameters that a preset fixes, and candidates in several views.

    Parameters
    ----------
    preset : str, optional
        Fixes the parameters in ``presets``, whatever they are given as.
    gallery_views : sequence of str, optional
        Views of a candidate whose mean cosine is taken; by default the view of inference alone.
    """

    preset: str | None = None
    gallery_views: Sequence[str] | None = None

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def _setting(self, name: str) -> Any:
        return self.presets.get(self.preset or "", {}).get(name, getattr(self, name))

    def _check_wishes(self, bank: FeatureBank) -> str:
        if self.preset is not None and self.preset not in self.presets:
            raise DataError(
                "unknown preset", found=repr(self.preset), expected=listing(list(self.presets))
            )
        if views := self._setting("gallery_views"):
            bank.stack(views, self.layer_, bank.ids[:1])  # names the views that it lacks
        return super()._check_wishes(bank)

    def _gallery(self, bank: FeatureBank, ids: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        found = super()._gallery(bank, ids)
        if views := self._setting("gallery_views"):
            found["image"] = unit(bank.stack(views, self.layer_, ids)).mean(axis=0)
        return found

    def _score_rule(self) -> str:
        views = self._setting("gallery_views")
        words = super()._score_rule()
        return words if not views else words.replace("cosine", f"mean cosine of {', '.join(views)}")


def check_levels(decoder: BVSA) -> None:
    """Refuse parameters and views among which no levels can be chosen.

    Raises
    ------
    DataError
        Names the parameter.
    """
    for name, known in _CHOICES.items():
        if (value := decoder._setting(name)) not in known:
            raise DataError(f"unknown {name}", found=repr(value), expected=listing(list(known)))
    weight = decoder._setting("text_weight")
    if not 0 <= weight <= 1:
        raise DataError("text_weight is a share of the loss", found=weight, expected="0 to 1")
    if not 0 < decoder.smoothing <= 1:
        raise DataError(
            "smoothing is the weight of the current similarity",
            found=decoder.smoothing,
            expected="above 0, at most 1",
        )
    _levels.critical_value(decoder.significance)
    if decoder._chooses() and len(decoder.views_) != _N_VIEWS:
        raise DataError(
            "BVSA chooses among nine views, three peaks by three kernels",
            found=f"{len(decoder.views_)}: {listing(decoder.views_)}",
            expected='views=("bvsa",) or nine views in its order',
            fix='pass decouple="off", dynamic=False for other views',
        )
    if weight and not decoder._setting("shared_trunk") and decoder.subject_layers:
        raise DataError(
            "two encoders have no subject layer in common",
            found="shared_trunk=False, subject_layers=True",
            fix="shared_trunk=True",
        )


def check_names(decoder: BVSA, bank: FeatureBank) -> None:
    """Refuse names that the image vector of the brain cannot be compared with.

    Raises
    ------
    SpaceMismatchError
        Without a text head, if names and pictures are in different spaces.
    """
    there = bank.text is not None and decoder._reads_names()
    if decoder._setting("text_weight") or not there:
        return
    assert bank.text is not None
    if bank.text.space() != bank.space(decoder.layer_):
        raise SpaceMismatchError(
            "without a text head (text_weight=0) the brain's image vector is compared with names, "
            "which are in another space than the pictures",
            found=f"names in space {bank.text.space()[:16]}",
            expected=f"names in space {bank.space(decoder.layer_)[:16]}",
            fix="bank.with_text(...) with the text encoder of the same joint model (CLIP), or "
            "text_weight=0.5",
        )

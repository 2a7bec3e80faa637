"""The public checks, one function per kind of part, and the run over everything registered."""

from __future__ import annotations

from phosphene.testing import _catalogue as _catalogue  # these register their suites
from phosphene.testing import _sections as _sections
from phosphene.testing._data import (
    TinyProblem,
    tiny_bank,
    tiny_images,
    tiny_problem,
    tiny_recording,
)
from phosphene.testing._encoders import check_encoder
from phosphene.testing._generators import check_generator
from phosphene.testing._methods import check_method
from phosphene.testing._objectives import check_objective
from phosphene.testing._preparers import check_preparer
from phosphene.testing._readers import check_reader
from phosphene.testing._reconstructors import check_reconstructor
from phosphene.testing._runner import (
    CheckFailure,
    CheckOutcome,
    Suite,
    iter_checks,
    run_checks,
)
from phosphene.testing._stimuli import check_image_encoder, check_text_encoder
from phosphene.testing._views import check_view

__all__ = [
    "CheckFailure",
    "CheckOutcome",
    "Suite",
    "TinyProblem",
    "check_encoder",
    "check_generator",
    "check_image_encoder",
    "check_method",
    "check_objective",
    "check_preparer",
    "check_reader",
    "check_reconstructor",
    "check_text_encoder",
    "check_view",
    "iter_checks",
    "run_checks",
    "tiny_bank",
    "tiny_images",
    "tiny_problem",
    "tiny_recording",
]

"""Public checks that every registered part passes, for use on your own parts too."""

from phosphene.testing.checks import (
    CheckFailure,
    CheckOutcome,
    Suite,
    TinyProblem,
    check_encoder,
    check_image_encoder,
    check_method,
    check_objective,
    check_reader,
    check_text_encoder,
    check_view,
    iter_checks,
    run_checks,
    tiny_bank,
    tiny_problem,
    tiny_recording,
)

__all__ = [
    "CheckFailure",
    "CheckOutcome",
    "Suite",
    "TinyProblem",
    "check_encoder",
    "check_image_encoder",
    "check_method",
    "check_objective",
    "check_reader",
    "check_text_encoder",
    "check_view",
    "iter_checks",
    "run_checks",
    "tiny_bank",
    "tiny_problem",
    "tiny_recording",
]

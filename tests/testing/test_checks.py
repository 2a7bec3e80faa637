"""Everything registered passes its checks, and every kind of part has some."""

from __future__ import annotations

import pytest

from phosphene import _registry
from phosphene.errors import UnknownNameError
from phosphene.testing import CheckOutcome, run_checks
from phosphene.testing._runner import Suite, info_of, outcomes, suites

KINDS = sorted(set(_registry.HOMES) - {"check"})
# What needs torchvision, whose build does not fit torch everywhere.
NOT_INSTALLED = ("openclip",)
PARTS = [(kind, name) for kind in KINDS for name in _registry.names(kind)]


def test_every_kind_has_checks() -> None:
    assert set(suites()) == set(KINDS)
    for kind, suite in suites().items():
        assert suite.kind == kind
        assert suite.checks


def test_every_kind_has_a_part() -> None:
    empty = [kind for kind in KINDS if not _registry.names(kind)]
    assert not empty, f"nothing is registered as {empty}"


@pytest.mark.parametrize(("kind", "name"), PARTS, ids=[":".join(part) for part in PARTS])
def test_registered_part_passes(kind: str, name: str) -> None:
    found = run_checks(f"{kind}:{name}")
    assert {outcome.name for outcome in found} == {name}
    failed = [f"{o.check}: {o.message}" for o in found if not o.passed]
    assert not failed, "\n".join(failed)
    skipped = [f"{o.check}: {o.message}" for o in found if o.skipped]
    if skipped and info_of(kind, name).get("extra") in NOT_INSTALLED:
        pytest.skip(skipped[0])
    assert not skipped, "the test environment has every other extra: " + "\n".join(skipped)


@pytest.mark.parametrize(("kind", "name"), PARTS, ids=[":".join(part) for part in PARTS])
def test_registered_part_says_what_it_is(kind: str, name: str) -> None:
    entry = next(e for e in _registry.entries(kind) if e.name == name)
    assert entry.summary, f"{kind} {name} has neither a docstring nor a summary"


def test_a_name_alone_is_enough() -> None:
    assert {(o.kind, o.name) for o in run_checks("original")} == {("view", "original")}


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tsconv'"):
        run_checks("tsconf")
    with pytest.raises(UnknownNameError, match="did you mean 'encoder'"):
        run_checks("encoders")


def test_a_broken_part_gives_outcomes_not_exceptions() -> None:
    def holds(part: str) -> None:
        """Hold."""

    def breaks(part: str) -> None:
        """Break."""
        raise ZeroDivisionError(part)

    suite: Suite[str] = Suite("view", lambda name, part: name, (holds, breaks))
    found = list(outcomes(suite, "original"))
    assert [o.status for o in found] == ["passed", "failed"]
    assert found[1].message.startswith("it raised ZeroDivisionError: original (test_checks.py")
    assert isinstance(found[1], CheckOutcome)
    assert not found[1].passed


def test_a_missing_extra_is_skipped() -> None:
    from phosphene.errors import MissingExtraError

    def needs(part: str) -> None:
        """Need a package."""
        raise MissingExtraError("nibabel is missing", fix="pip install")

    found = list(outcomes(Suite("view", lambda name, part: name, (needs,)), "original"))
    assert [o.status for o in found] == ["skipped"]
    assert found[0].passed
    assert found[0].skipped

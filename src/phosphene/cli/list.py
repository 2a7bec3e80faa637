"""``phosphene list``: what is registered."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli._output import Verbose, print_table, say

if TYPE_CHECKING:
    from phosphene._registry import Entry


class What(StrEnum):
    """What can be listed."""

    methods = "methods"
    encoders = "encoders"
    views = "views"
    datasets = "datasets"
    worlds = "worlds"
    objectives = "objectives"


# "Encoders" are networks for brain signals, for pictures and for names; a user means any of them.
KINDS = {
    What.methods: ("method",),
    What.encoders: ("encoder", "image_encoder", "text_encoder"),
    What.views: ("view",),
    What.datasets: ("dataset",),
    What.worlds: ("world",),
    What.objectives: ("objective",),
}
LABELS = {"encoder": "brain", "image_encoder": "image", "text_encoder": "text"}


def list_names(
    what: Annotated[What, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """List the methods, encoders, views, datasets, worlds or objectives that have a name."""
    from phosphene import _registry

    entries = [entry for kind in KINDS[what] for entry in _registry.entries(kind)]
    if as_json:
        import json

        items = [
            {"kind": e.kind, "name": e.name, "summary": e.summary, **_details(e)} for e in entries
        ]
        say(json.dumps(items, indent=2, default=str))
        return
    if what is What.datasets:
        columns = ["title", "modality", "subjects", "channels", "licence", "access"]
        print_table(
            ["name", *columns],
            [[e.name, *(_details(e).get(column) for column in columns)] for e in entries],
        )
        return
    several = len(KINDS[what]) > 1
    print_table(
        ["name", *(["for"] if several else []), "what it is"],
        [[e.name, *([LABELS.get(e.kind, e.kind)] if several else []), e.summary] for e in entries],
    )


def _details(entry: Entry) -> dict[str, Any]:
    """What else is known: facts given at registration, and the fields of a plain record."""
    import dataclasses

    facts = {k: v for k, v in entry.info.items() if k != "summary"}
    if dataclasses.is_dataclass(entry.obj) and not isinstance(entry.obj, type):
        facts |= dataclasses.asdict(entry.obj)
    return {k: v for k, v in facts.items() if k not in ("kind", "name")}

"""``phosphene list``: what is registered."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

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
    readers = "readers"
    preparers = "preparers"
    worlds = "worlds"
    objectives = "objectives"
    generators = "generators"
    results = "results"


# "Encoders" are networks for brain signals, for pictures and for names, and methods retrieve or
# reconstruct; a user means any of them.
KINDS = {
    What.methods: ("method", "reconstructor"),
    What.encoders: ("encoder", "image_encoder", "text_encoder"),
    What.views: ("view",),
    What.datasets: ("dataset",),
    What.readers: ("reader",),
    What.preparers: ("preparer",),
    What.worlds: ("world",),
    What.objectives: ("objective",),
    What.generators: ("generator",),
}
# How published numbers are told apart: those that used more than a query and the gallery.
PUBLISHED = (
    ("published accuracies", False, False),
    ("published accuracies, transductive scoring", True, False),
    ("published accuracies, scores that use the true answers of the test", None, True),
)
LABELS = {
    "encoder": "brain", "image_encoder": "image", "text_encoder": "text",
    "method": "retrieval", "reconstructor": "reconstruction",
}  # fmt: skip


def list_names(
    what: Annotated[What, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    figure: Annotated[
        Optional[Path],  # noqa: UP045 - older typer reads this form only
        typer.Option("--figure", help="With views: draw each view of one picture (.png, .pdf)."),
    ] = None,
    picture: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--picture", help="The picture of --figure; one of the demo's otherwise."),
    ] = None,
    method: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--method", help="With results: only those of one method."),
    ] = None,
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--dataset", help="With results: only those on one data set."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """List the methods, encoders, views, datasets and so on that have a name; published results."""
    from phosphene import _registry

    if what is What.results:
        _published(method, dataset, as_json)
        return
    if method is not None or dataset is not None:
        from phosphene.errors import DataError

        raise DataError(
            "--method and --dataset choose among published results",
            expected="phosphene list results --method ubp",
        )
    if figure is not None or picture is not None:
        _contact_sheet(what, figure, picture)
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


def _published(method: str | None, dataset: str | None, as_json: bool) -> None:
    """Published numbers: a table for every kind of scoring, with what is known of the protocols."""
    import json

    from phosphene.evaluation.published import NOTE, published_results

    table = published_results(method, dataset)
    if as_json:
        say(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
        return
    columns = ["method", "venue", "dataset", "setting", "row", "top1", "top5", "selection"]
    columns += ["gallery", "channels", "train_repetitions", "test_repetitions", "notes"]
    headings = {
        "top1": "top-1 %",
        "top5": "top-5 %",
        "train_repetitions": "trials (train)",
        "test_repetitions": "trials (test)",
    }
    for title, transductive, labels in PUBLISHED:
        keep = table["uses_test_labels"] == labels
        if transductive is not None:
            keep &= table["transductive"] == transductive
        if not keep.any():
            continue
        shown = table.loc[keep, columns].astype(object)
        print_table(
            [headings.get(name, name) for name in columns],
            shown.where(shown.notna(), None).to_numpy().tolist(),
            title=title,
            right=["top-1 %", "top-5 %", "channels", "trials (train)", "trials (test)"],
        )
        say()
    say(f"{NOTE} An empty cell is what the source does not say.")


def _contact_sheet(what: What, out: Path | None, picture: Path | None) -> None:
    from phosphene.cli._output import save_figure
    from phosphene.data.stimuli import decode_image
    from phosphene.errors import DataError
    from phosphene.reports.sheets import contact_sheet

    if what is not What.views or out is None:
        raise DataError(
            "a contact sheet shows views", expected="phosphene list views --figure FILE.png"
        )
    if picture is None:
        from phosphene.simulation.pictures import picture_set

        stimuli = picture_set(["dog"], exemplars=1)
        image = stimuli.image(stimuli.ids[0])
    else:
        image = decode_image(picture)
    save_figure(contact_sheet(image), out)


def _details(entry: Entry) -> dict[str, Any]:
    """What else is known: facts given at registration, and the fields of a plain record."""
    import dataclasses

    facts = {k: v for k, v in entry.info.items() if k != "summary"}
    if dataclasses.is_dataclass(entry.obj) and not isinstance(entry.obj, type):
        facts |= dataclasses.asdict(entry.obj)
    return {k: v for k, v in facts.items() if k not in ("kind", "name")}

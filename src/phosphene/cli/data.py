"""``phosphene data``: look at recordings, download data sets, prepare them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Optional

import typer

from phosphene.cli._output import Verbose, guarded, print_table, say
from phosphene.cli._words import WordsCommand

app = typer.Typer(
    name="data",
    help="Recordings: check what is there, download data sets, make them ready.",
    no_args_is_help=True,
)
Subjects = Annotated[
    Optional[list[str]],  # noqa: UP045 - older typer reads this form only
    typer.Option("--subjects", help="One or more subjects, e.g. 01 02; all by default."),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="key=value: an argument of the reader or of the preparation."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _Words(WordsCommand):
    """The options that take several words here."""

    several: ClassVar[tuple[str, ...]] = ("--subjects", "--set")


def check(
    path: Annotated[Path, typer.Argument(help="A file or folder with recordings.")],
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", help="Folder or CSV list of the pictures that were shown."),
    ] = None,
    label: Annotated[
        str, typer.Option("--label", help="Trial column that is to be decoded.")
    ] = "concept",
    reader: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--reader", help="Which reader; see `phosphene list readers`."),
    ] = None,
    subjects: Subjects = None,
    settings: Settings = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Say what was recorded, what is wrong with it, and what is to be done before decoding.

    Exit code 1 if something would make decoding wrong or impossible.
    """
    from phosphene.runs.data_check import check_data

    report = check_data(
        path,
        reader=reader,
        subjects=subjects or None,
        options=_settings(settings),
        images=images,
        label=label,
    )
    if as_json:
        import json

        from phosphene._saving import jsonable

        say(json.dumps(jsonable(report.to_dict()), indent=2))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(1)


def _show(report: Any) -> None:
    rows = [("read as", report.reader), *_fact_rows(report.facts)]
    print_table(["what", "found"], [(name, cell) for name, cell in rows if cell not in ("", None)])
    say()
    names = {"error": "ERROR", "warning": "warning", "step": "to do"}
    for finding in report.findings:
        say(f"{names[finding.level]}: {finding.what}")
        if finding.evidence:
            say(f"  found: {finding.evidence}")
        if finding.fix:
            say(f"  what to do: {finding.fix}")
    shared = [row for row in report.overlaps if row["n_shared"]]
    if shared:
        say()
        print_table(
            ["parts", "shared", "how many", "examples"],
            [(r["parts"], r["what"], r["n_shared"], r["examples"]) for r in shared],
            right=("how many",),
        )
    counts = {level: sum(f.level == level for f in report.findings) for level in names}
    say()
    say(
        f"{counts['error']} error(s), {counts['warning']} warning(s), {counts['step']} step(s) "
        "left before decoding"
    )


def _fact_rows(facts: dict[str, Any]) -> list[tuple[str, object]]:
    if not facts:
        return []
    people = facts["subjects"]
    times, counts = facts["times"], facts["repetitions"]
    unit = "voxels" if "voxels" in facts else "channels"
    marks = facts["trials_by_split"]
    return [
        ("modality", ", ".join(facts["modality"])),
        ("recordings", facts["recordings"]),
        ("subjects", f"{len(people)}: {', '.join(people[:8])}{' ...' if len(people) > 8 else ''}"),
        ("sessions", facts["sessions"]),
        ("runs", facts["runs"]),
        ("trials", facts["trials"]),
        ("marked as", ", ".join(f"{name} {n}" for name, n in marks.items())),
        ("stimuli", facts["stimuli"]),
        ("concepts", facts["concepts"]),
        ("repetitions", f"{counts['min']} to {counts['max']}, median {counts['median']:g}"),
        (unit, ", ".join(map(str, facts[unit]))),
        ("places known", facts["positions_known"]),
        ("regions", ", ".join(facts["regions"][:12])),
        ("rate", "" if facts["sfreq"] is None else f"{facts['sfreq']:g} Hz"),
        ("window", "" if times is None else f"{times['first']:g} to {times['last']:g} s"),
        ("values", f"{facts['dtype']}, {facts['megabytes']} MB"),
        ("checksums", "verified" if facts["verified"] else "not verifiable: none are known"),
        ("done so far", ", ".join(facts["history"])),
    ]


def download(
    name: Annotated[str, typer.Argument(help="A data set; see `phosphene list datasets`.")],
    root: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--root", help="Folder for it; [default: the data set's name]"),
    ] = None,
    subjects: Subjects = None,
    url_list: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--url-list", help="CSV of path, url, size, digest, subject."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    unpack: Annotated[
        bool, typer.Option("--unpack/--no-unpack", help="Unpack archives beside themselves.")
    ] = True,
    verbose: Verbose = False,
) -> None:
    """Download a data set: resumed after an interruption, checked, never without its terms."""
    from phosphene.runs.data_download import fetch_dataset, plan_dataset

    plan = plan_dataset(name, root, subjects=subjects or None, url_list=url_list)
    info = plan.info
    rows: list[tuple[str, object]] = [
        ("data set", info.title),
        ("licence", info.licence or "not stated here: look it up before you use the data"),
        ("cite", " ".join(filter(None, (info.citation, info.doi)))),
        ("folder", plan.root),
        ("files", f"{len(plan.files)}, of which {len(plan.files) - len(plan.missing)} are there"),
        ("to come", f"{plan.needed / 1e9:.2f} GB"
         + (f" and {plan.unknown} file(s) of unknown size" if plan.unknown else "")),
        ("free", f"{plan.free / 1e9:.1f} GB"),
    ]  # fmt: skip
    print_table(["what", "found"], rows)
    plan.check_space()
    if plan.missing and not yes and not _agreed():
        say("nothing was downloaded")
        raise typer.Exit(1)
    done = fetch_dataset(plan, unpack=unpack)
    print_table(
        ["file", "outcome", "checked by"], [(f.file.path, f.outcome, f.checked) for f in done]
    )
    loose = sum(f.checked == "not verifiable" for f in done)
    if loose:
        say(f"{loose} file(s) are not verifiable: neither size nor digest is known here")


def _agreed() -> bool:
    try:
        return typer.confirm("download under these terms?")
    except typer.Abort:  # nobody is there to answer
        return False


def prepare(
    name: Annotated[str, typer.Argument(help="A preparation; see `phosphene list preparers`.")],
    root: Annotated[Path, typer.Option("--root", help="Folder of the data set.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for what is prepared.")],
    subjects: Subjects = None,
    settings: Settings = None,
    verbose: Verbose = False,
) -> None:
    """Make a data set ready for decoding, person by person; run it again after an interruption."""
    from phosphene.runs.data_prepare import PAGE, prepare_data

    done = prepare_data(name, root, out, subjects=subjects or None, settings=_settings(settings))
    rows = [
        (person.subject, part, facts["trials"], facts["stimuli"], facts["size"],
         facts["findings"], person.outcome)
        for person in done
        for part, facts in person.parts.items()
    ]  # fmt: skip
    columns = ["subject", "part", "trials", "stimuli", "signals", "findings", "outcome"]
    print_table(columns, rows, right=("trials", "stimuli"))
    say()
    say(f"recordings: {out}")
    say(f"quality: {out / PAGE}")


def _settings(words: list[str] | None) -> dict[str, Any]:
    from phosphene.runs.data_prepare import parse_settings

    return parse_settings(words or [])


for _name, _function in (("check", check), ("download", download), ("prepare", prepare)):
    app.command(_name, cls=_Words)(guarded(_function))

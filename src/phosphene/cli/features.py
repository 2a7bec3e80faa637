"""``phosphene features``: vectors of pictures - extract, look at, verify, import, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Optional

import typer

from phosphene.cli._output import Verbose, guarded, print_table, say
from phosphene.cli._words import WordsCommand

app = typer.Typer(
    name="features",
    help="Vectors of pictures: extract, look at, verify, import, export.",
    no_args_is_help=True,
)
Bank = Annotated[Path, typer.Argument(help="Folder of a saved FeatureBank.")]
Pictures = Annotated[
    Optional[str],  # noqa: UP045 - older typer reads this form only
    typer.Option("--stimuli", help="The pictures: a folder, a CSV file, or 'demo'."),
]


class Format(StrEnum):
    """Number format of vectors on the disk."""

    float32 = "float32"
    float16 = "float16"


class Precision(StrEnum):
    """Number format of the computation."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class _Words(WordsCommand):
    """The options that take several words here."""

    several: ClassVar[tuple[str, ...]] = ("--views", "--layers", "--probe", "--key")


def extract(
    stimuli: Annotated[
        str,
        typer.Option(
            "--stimuli",
            help="Folder of pictures, CSV file with columns stimulus and path, or 'demo'.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bank.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder", help="Name, or kind:FOLDER_OR_ID; see `phosphene list encoders`."
        ),
    ] = "efficientnet-lite0",
    views: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--views", help="One or more views, e.g. original fovea; [default: original]"),
    ] = None,
    layers: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--layers", help="One or more layers; the encoder's default layer otherwise."),
    ] = None,
    dtype: Annotated[Format, typer.Option("--dtype", help="Number format on disk.")] = (
        Format.float32
    ),
    precision: Annotated[
        Precision, typer.Option("--precision", help="Number format of the computation.")
    ] = Precision.auto,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda ...")] = "auto",
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Pictures per batch.")
    ] = 32,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out pictures that cannot be read.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Run an image encoder over views of pictures, once; a second run finds what is known."""
    from phosphene.runs.banks import extract_bank

    bank = extract_bank(
        stimuli,
        out,
        encoder=encoder,
        views=views or ["original"],
        layers=layers or None,
        dtype=dtype.value,
        on_error="skip" if skip_broken else "raise",
        precision=precision.value,
        device=device,
        batch_size=batch_size,
    )
    passes, known = bank.timings.get("encoder_passes", 0), bank.timings.get("from_cache", 0)
    say(f"{bank!r}")
    say(
        f"{passes:.0f} pass(es) of the encoder, {known:.0f} known already, "
        f"{bank.timings.get('seconds', 0.0):.1f} s"
    )
    for name, reason in (bank.provenance.get("skipped") or {}).items():
        say(f"left out {name}: {reason}")
    say(f"saved in {out}")


def info(
    bank: Bank,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Say which vectors a bank holds and where they came from."""
    from phosphene.runs.banks import bank_facts, load_bank

    facts = bank_facts(load_bank(bank))
    if as_json:
        import json

        say(json.dumps(facts, indent=2, default=str))
        return
    origin = facts["provenance"]
    encoder = origin.get("encoder") or {}
    rows: list[tuple[str, object]] = [
        ("stimuli", f"{facts['stimuli']} of {facts['concepts']} concepts"),
        ("kind", origin.get("kind")),
        ("encoder", facts["encoder"]),
        ("weights", str(encoder.get("weights_hash", ""))[:16]),
        ("revision", encoder.get("revision") or origin.get("revision")),
        ("layers", ", ".join(f"{name} ({width})" for name, width in facts["layers"].items())),
        *(("view", name) for name in facts["views"]),
        ("computed in", origin.get("precision")),
        ("stored as", f"{', '.join(facts['dtype'])}, {facts['megabytes']:.1f} MB"),
        ("left out", len(facts["skipped"]) or None),
        ("versions", ", ".join(f"{k} {v}" for k, v in (origin.get("versions") or {}).items())),
        ("hash", facts["hash"][:16]),
    ]
    print_table(["what", "found"], [row for row in rows if row[1] not in (None, "")])


def verify(
    bank: Bank,
    stimuli: Pictures = None,
    encoder: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--encoder", help="What the vectors came from; the recorded one otherwise."),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="How many vectors are computed again.")
    ] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check files, pictures, encoder and a sample of vectors; exit code 1 if something is wrong."""
    from phosphene.runs.banks import load_bank, read_stimuli

    found = load_bank(bank).verify(
        None if stimuli is None else read_stimuli(stimuli), encoder, sample=sample
    )
    if as_json:
        import dataclasses
        import json

        say(json.dumps({**dataclasses.asdict(found), "passed": found.passed}, indent=2))
    else:
        say(str(found))
    if not found.passed:
        raise typer.Exit(1)


def similarity(
    bank: Bank,
    out: Annotated[Path, typer.Option("--out", "-o", help="Figure: .png, .pdf or .svg.")] = Path(
        "similarity.png"
    ),
    stimuli: Pictures = None,
    view: Annotated[Optional[str], typer.Option("--view", help="View of the bank.")] = None,  # noqa: UP045
    layer: Annotated[Optional[str], typer.Option("--layer", help="Layer of the bank.")] = None,  # noqa: UP045
    probe: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--probe", help="Stimuli whose neighbours are shown; six drawn otherwise."),
    ] = None,
    k: Annotated[int, typer.Option("--neighbours", "-k", min=1, help="Neighbours of each.")] = 5,
    verbose: Verbose = False,
) -> None:
    """Draw the similarity of a bank's stimuli and print some nearest neighbours."""
    from phosphene.cli._output import save_figure
    from phosphene.reports.neighbours import nearest_neighbours, similarity_map
    from phosphene.runs.banks import load_bank, read_stimuli

    found = load_bank(bank)
    pictures = None if stimuli is None else read_stimuli(stimuli)
    figure = similarity_map(found, view=view, layer=layer, stimuli=pictures, probes=probe, k=k)
    save_figure(figure, out)
    if probe:
        table = nearest_neighbours(found, probe, k, view=view, layer=layer)
        rows = [[*row[:4], f"{row[4]:.3f}"] for row in table.itertuples(index=False)]
        print_table(list(table.columns), rows, right=("place", "similarity"))
    say(f"figure: {out}")


def import_file(
    file: Annotated[Path, typer.Argument(help="Feature file: .pt, .npy or .npz.")],
    encoder: Annotated[
        str, typer.Option("--encoder", help="What made the vectors, as its maker declares.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bank.")],
    ids: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--ids", help="Text file: the stimulus id of each row, one per line."),
    ] = None,
    view: Annotated[str, typer.Option("--view", help="View, as declared.")] = "original",
    layer: Annotated[str, typer.Option("--layer", help="Layer, as declared.")] = "vector",
    key: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--key", help="Where the vectors are in a dict; several words lead inwards."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Make a bank of a feature file that another program wrote; its origin stays "declared"."""
    from phosphene.runs.banks import read_ids
    from phosphene.stimuli.foreign import import_features

    bank = import_features(
        file,
        encoder=encoder,
        ids=None if ids is None else read_ids(ids),
        view=view,
        layer=layer,
        key=key or None,
    )
    bank.save(out)
    say(f"{bank!r}")
    say(f"saved in {out}")


def export(
    bank: Bank,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npz file.")],
    verbose: Verbose = False,
) -> None:
    """Write a bank as one .npz file, for programs that only have numpy."""
    from phosphene.runs.banks import load_bank
    from phosphene.stimuli.foreign import export_npz

    say(f"saved in {export_npz(load_bank(bank), out)}")


for _name, _function in (
    ("extract", extract),
    ("info", info),
    ("verify", verify),
    ("similarity", similarity),
    ("import", import_file),
    ("export", export),
):
    app.command(_name, cls=_Words)(guarded(_function))

"""``phosphene name``: the words that are nearest to decoded vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from phosphene.cli._output import Verbose, print_table, say


def name(
    vectors: Annotated[
        Path, typer.Argument(help="CSV of decoded vectors: one per row, its name first.")
    ],
    vocabulary: Annotated[
        Path, typer.Argument(help="CSV of words with vectors of the same space, likewise.")
    ],
    k: Annotated[int, typer.Option("-k", min=1, help="Words per vector.")] = 5,
    truth: Annotated[
        bool,
        typer.Option(
            "--truth", help="Names of the vectors are the true words: print top-1, top-k."
        ),
    ] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045 - older typer reads this form only
        typer.Option("--out", "-o", help="Write the ranked words to this CSV file."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Print the words nearest to each decoded vector, nearest first."""
    from phosphene._saving import write_text
    from phosphene.evaluation.naming import name as nearest
    from phosphene.evaluation.naming import naming_accuracy
    from phosphene.runs.aligning_tables import read_vectors

    decoded, words = read_vectors(vectors), read_vectors(vocabulary)
    ranked = nearest(decoded.to_numpy(), words, k)
    names = list(decoded.index)
    ranked["query"] = [names[row] for row in ranked["query"]]
    rows = [
        [
            query,
            ", ".join(f"{w} {c:.2f}" for w, c in zip(part["word"], part["cosine"], strict=True)),
        ]
        for query, part in ranked.groupby("query", sort=False)
    ]
    print_table(["vector", "words, nearest first, with cosine"], rows)
    if truth:
        n = len(words)
        for among in dict.fromkeys((1, k)):
            hits = naming_accuracy(decoded.to_numpy(), names, words, among)
            say(
                f"true word among the first {among}: {100 * hits.mean():.1f} % of {len(hits)} "
                f"(chance {100 * min(among / n, 1.0):.1f} %)"
            )
    if out is not None:
        write_text(out, ranked.to_csv(index=False, float_format="%.6g"))
        say(f"written to {out}")

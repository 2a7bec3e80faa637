"""Align vectors with RSMs that lie in CSV files, and ask about held-out people and categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene.errors import DataError, listing

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.methods.brain_alignment import BrainAligner

DRAWS = 10
LEAST_TEST = 4
"""Test categories below which their similarities are too few pairs to be correlated."""


@dataclass(frozen=True, eq=False)
class TablesOutcome:
    """What was aligned and written.

    Attributes
    ----------
    aligner : BrainAligner
        Fitted to all people on training categories.
    table : DataFrame or None
        ``row``, ``score``, ``mean``, ``low``, ``high`` and the gain of the aligned vectors over the
        row with its interval, each person left out in turn; None without test categories.
    files : list of str
        What was written.
    """

    aligner: BrainAligner
    table: pd.DataFrame | None
    files: list[str] = field(default_factory=list)

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table that people read."""
        assert self.table is not None
        scores = list(dict.fromkeys(self.table["score"]))
        part = self.table.set_index(["row", "score"])
        heads = ["row"]
        for score in scores:
            heads += [score.replace("_", " "), "gain", "[low, high]"]
        cells = []
        for row in dict.fromkeys(self.table["row"]):
            line = [row]
            for score in scores:
                facts = part.loc[(row, score)]
                line.append(f"{facts['mean']:.3f}")
                if row == "aligned":
                    line += ["", ""]
                else:
                    ends = f"[{facts['gain_low']:+.3f}, {facts['gain_high']:+.3f}]"
                    line += [f"{facts['gain']:+.3f}", ends]
            cells.append(line)
        return heads, cells


def align_tables(
    vectors: str | Path,
    rsms: Sequence[str | Path],
    out: str | Path,
    *,
    test: str | Path | None = None,
    variant: str = "linear",
    seed: int = 0,
) -> TablesOutcome:
    """Fit an aligner to files; with test categories, compare it with every control.

    Writes ``aligned.csv`` (vectors of all categories) and ``aligner/`` (for
    ``BrainAligner.from_pretrained``); with test categories ``alignment.csv`` and ``queries.csv``.

    Parameters
    ----------
    vectors : path
        CSV with a header; a category per row, its name in the first column.
    rsms : sequence of path
        One CSV per person, named by the file: similarities, with the names of the categories in the
        header and in the first column, in any order.
    out : path
        Folder for the results.
    test : path, optional
        Names of test categories, one per line. They take no part in the fit.
    variant : {"linear", "autoencoder", "residual"}
        Of the aligner.
    seed : int
        Of initialisation, cross-validation and shuffling.

    Returns
    -------
    TablesOutcome

    Raises
    ------
    DataError
        If a file cannot be read, categories are missing or occur twice, vectors are not finite,
        an RSM is not symmetric or of other categories, there are fewer than 20 training or 4 test
        categories, or only one person where test categories are given.
    StorageError
        If the files cannot be written.
    """
    import numpy as np
    import pandas as pd

    from phosphene._saving import write_table, write_text
    from phosphene.methods.alignment_table import alignment_table
    from phosphene.methods.brain_alignment import BrainAligner
    from phosphene.runs.aligning_files import summarise

    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", expected="a folder")
    known = _table(Path(vectors))
    names = list(known.index)
    brain = _brain([Path(path) for path in rsms], names)
    asked = [] if test is None else _names(Path(test), names)
    if asked and len(brain) < 2:
        raise DataError(
            "a person is left out in turn, so there must be two or more",
            found=f"{len(brain)} RSM",
            fix="give --rsm once per person, or leave the test categories out",
        )
    held_out = set(asked)
    learn = [i for i, name in enumerate(names) if name not in held_out]
    ask = [i for i, name in enumerate(names) if name in held_out]
    aligner = BrainAligner(variant=variant, random_state=seed)  # type: ignore[arg-type]
    train = known.iloc[learn]
    aligner.fit(
        train, {s: rsm[np.ix_(learn, learn)] for s, rsm in brain.items()}, test=asked or None
    )
    compared = queries = None
    if asked:
        found = alignment_table(
            aligner, known.to_numpy(), brain, train=learn, test=ask, categories=names, draws=DRAWS
        )
        compared = summarise(found.queries, found.subjects, "").drop(columns="modality")
        queries = found.queries
    folder.mkdir(parents=True, exist_ok=True)
    aligned = pd.DataFrame(aligner.transform(known.to_numpy()), index=names)
    write_text(folder / "aligned.csv", aligned.to_csv(index_label="category", float_format="%.7g"))
    aligner.save_pretrained(folder / "aligner")
    files = ["aligned.csv", "aligner/"]
    if compared is not None and queries is not None:
        text = compared.to_csv(index=False, float_format="%.6g")
        write_text(folder / "alignment.csv", text)
        write_table(folder / "queries.csv", queries)
        files += ["alignment.csv", "queries.csv"]
    return TablesOutcome(aligner, compared, files)


def read_vectors(path: str | Path) -> pd.DataFrame:
    """Named vectors from a CSV file: a row each, its name in the first column.

    Raises
    ------
    DataError
        If it cannot be read, names occur twice, or cells are no numbers (the rows are named).
    """
    return _table(Path(path))


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    from phosphene._validation import require_unique

    try:
        table = pd.read_csv(path, index_col=0, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table", found=error) from error
    table.index = table.index.astype(str)
    require_unique(list(table.index), f"{path.name}: name")
    numbers = table.apply(pd.to_numeric, errors="coerce")
    bad = numbers.isna().any(axis=1)
    if numbers.empty or bad.any():
        rows = [str(name) for name in table.index[bad]]
        raise DataError(
            f"{path.name} holds cells that are no numbers, or empty",
            found=f"{len(rows)} rows: {listing(rows)}" if rows else f"shape {numbers.shape}",
            expected="a name and then numbers in every row",
            fix="leave out categories whose words or pictures have no vector",
        )
    found: pd.DataFrame = numbers.astype(float)
    return found


def _brain(paths: list[Path], names: list[str]) -> dict[str, Any]:
    """RSMs by the stem of their files, in the order of the vectors."""
    from phosphene.evaluation.rsm import check_rsm

    found: dict[str, Any] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(f"two RSMs are of one person: {path.stem!r}", fix="rename a file")
        table = _table(path)
        table.columns = table.columns.astype(str)
        for what, there in (("rows", table.index), ("columns", table.columns)):
            missing = [name for name in names if name not in set(there)]
            extra = [str(name) for name in there if name not in set(names)]
            if missing or extra:
                raise DataError(
                    f"{path.name} is of other categories than the vectors",
                    found=f"{what}: missing {listing(missing) or 'none'}; "
                    f"not among the vectors {listing(extra) or 'none'}",
                    expected=f"the {len(names)} categories of the vectors",
                )
        found[path.stem] = check_rsm(table.loc[names, names].to_numpy(), None, path.name)
    return found


def _names(path: Path, known: list[str]) -> list[str]:
    from phosphene._validation import require_unique

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read", found=error) from error
    names = [line.strip() for line in lines if line.strip()]
    require_unique(names, f"{path.name}: test category")
    if missing := [name for name in names if name not in set(known)]:
        raise DataError(
            "test categories have no vectors", found=f"{len(missing)}: {listing(missing)}"
        )
    if len(names) < LEAST_TEST:
        raise DataError(
            "too few test categories", found=len(names), expected=f"{LEAST_TEST} or more"
        )
    return names

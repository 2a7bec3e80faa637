"""Ablations: a method with parts switched off or a parameter swept, every row under the same data.

A method names its ablations in ``ablations``, an ordered mapping from the label of a row to the
constructor parameters that differ from the full method. Here every row is fitted and scored with
every seed, in a run folder of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _registry
from phosphene._saving import jsonable, write_json, write_table
from phosphene.config import (
    ConceptSplit,
    ImageFeatures,
    Recipe,
    SimulatedData,
    parse_recipe,
    read_value,
    reconstructs,
)
from phosphene.errors import RecipeError, UnknownNameError, listing
from phosphene.runs.features import union_views
from phosphene.runs.fitting import fit, make_decoder
from phosphene.runs.run import Run
from phosphene.runs.scoring import evaluate
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.evaluation.result import Result

FULL = "full method"
TABLE, MARKED, ABOUT = "table.csv", "table_marked.csv", "ablation.json"


@dataclass(frozen=True)
class Row:
    """A row of the table: what it is called and which parameters it changes."""

    label: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Ablation:
    """What an ablation found.

    Attributes
    ----------
    folder : Path
        Where the tables and the runs are.
    full : str
        Label of the row that the others are compared with.
    table : DataFrame
        One row per inductive row of the ablation; see `ablation_table.comparison`.
    marked : DataFrame
        The rows whose scores used test labels or the other test queries, with what they used.
    results : dict of str to Result
        By label, the seeds merged.
    """

    folder: Path
    full: str
    table: pd.DataFrame
    marked: pd.DataFrame
    results: Mapping[str, Result]


def switches(method: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> list[Row]:
    """The ablations that a registered method names, in its order, and those of a recipe.

    Parameters
    ----------
    method : str
        Registered name.
    own : mapping, optional
        ``method.ablations`` of a recipe: parameters by label.

    Examples
    --------
    >>> [row.label for row in switches("ubp")]
    ['no blur', 'static fovea blur', 'uncertainty-aware blur']
    """
    named = getattr(_registry.get("method", method), "ablations", {})
    together = {**named, **(own or {})}
    return [Row(str(label), dict(params)) for label, params in together.items()]


def choose_rows(
    method: str,
    wanted: Sequence[str] | None = None,
    sweeps: Sequence[str] = (),
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Row]:
    """Rows of an ablation; the full method is always among them.

    Parameters
    ----------
    method : str
        Registered name.
    wanted : sequence of str, optional
        Labels of its ablations; by default all, or none where there are sweeps.
    sweeps : sequence of str
        Parameters with their values, such as ``"c=.1,.2,.3"``: a row for every value.
    own : mapping, optional
        ``method.ablations`` of a recipe: parameters by label.

    Raises
    ------
    UnknownNameError
        If the method has no such ablation; the nearest are listed.
    RecipeError
        If a sweep cannot be read, or there is nothing to ablate.

    Examples
    --------
    >>> [row.label for row in choose_rows("ubp", ["no blur"], ["smoothing=.1,.9"])]
    ['no blur', 'smoothing=0.1', 'smoothing=0.9', 'uncertainty-aware blur']
    """
    known = {row.label: row for row in switches(method, own)}
    full = next((row for row in known.values() if not row.params), Row(FULL))
    if wanted is None:
        rows = [] if sweeps else list(known.values())
    else:
        for label in wanted:
            if label not in known:
                raise UnknownNameError(
                    f"{method} has no ablation named {label!r}",
                    expected="one of " + ", ".join(known) if known else "no --switches",
                    fix=_registry.did_you_mean(label, known),
                )
        rows = [known[label] for label in dict.fromkeys(wanted)]
    rows += [row for sweep in sweeps for row in _swept(sweep)]
    if not rows:
        raise RecipeError(
            f"{method} names no ablations",
            fix="vary a parameter: --sweep NAME=VALUE,VALUE",
        )
    if full.label not in [row.label for row in rows]:
        rows.append(full)
    labels = [row.label for row in rows]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise RecipeError(f"rows are asked for twice: {listing(twice)}")
    return rows


def ablate(
    recipe: Recipe,
    out: str | Path,
    *,
    wanted: Sequence[str] | None = None,
    sweeps: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    subjects: Sequence[str] | None = None,
    say: Callable[[str], None] | None = None,
    progress: bool = True,
) -> Ablation:
    """Fit and score every row with every seed, and compare the rows with the full method.

    Recordings, split and features are loaded once and are the same for all rows and seeds: what is
    drawn (a simulated person, concepts that are held out) is drawn from the recipe's own seed, and
    ``seeds`` are those of the training. Finished runs are not done again; an interrupted one
    continues.

    Parameters
    ----------
    recipe : Recipe
        The full method and its data.
    out : path
        Folder for the runs, ``table.csv``, ``table_marked.csv`` and ``ablation.json``.
    wanted, sweeps
        See :func:`choose_rows`.
    seeds : sequence of int, optional
        Seeds of the training; the recipe's own by default.
    subjects : sequence of str, optional
        Only the folds that test these people (``evaluation.subjects``).
    say : callable, optional
        Gets a line of text after every run.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Ablation

    Raises
    ------
    UnknownNameError, RecipeError
        If a switch, parameter or subject does not exist, before anything is trained.
    """
    from phosphene.evaluation.result import Result
    from phosphene.runs.ablation_table import comparison

    if reconstructs(recipe.method.name):
        raise RecipeError(
            f"{recipe.method.name} makes pictures; accuracies of retrieval are what is ablated",
            fix="fit recipes with other method.params, and reconstruct each",
        )
    rows = choose_rows(recipe.method.name, wanted, sweeps, recipe.method.ablations)
    draws = list(dict.fromkeys([recipe.seed] if seeds is None else seeds))
    if not draws:
        raise RecipeError("an ablation needs a seed", fix="--seeds 0,1,2")
    recipes = _recipes(recipe, rows, draws, subjects)
    for one in recipes.values():
        make_decoder(one)  # refuses values that the constructor does not take
    folder = Path(out)
    full = next(row.label for row in rows if not row.params)
    shared = _Shared(list(recipes.values()), progress)
    parts: dict[str, list[Result]] = {row.label: [] for row in rows}
    names = _folder_names([row.label for row in rows])
    for number, ((seed, label), one) in enumerate(recipes.items(), 1):
        started = time.perf_counter()
        result, fresh = _step(folder / "runs" / f"{names[label]}-seed-{seed}", one, shared)
        parts[label].append(result)
        if say is not None:
            done = f"{time.perf_counter() - started:.0f} s" if fresh else "was done before"
            accuracy = f"top-1 {100 * result.top1:.1f} %"
            say(f"[{number}/{len(recipes)}] {label}, seed {seed}: {accuracy} ({done})")
    results = {label: Result.merge(found, name=label) for label, found in parts.items()}
    table, marked = comparison(results, full)
    about = {
        "recipe": recipe.to_dict(),
        "full": full,
        "rows": [{"label": row.label, "params": row.params} for row in rows],
        "seeds": draws,
        "subjects": subjects,
    }
    write_json(folder / ABOUT, jsonable(about))
    for name, content in ((TABLE, table), (MARKED, marked)):
        write_table(folder / name, content)
    return Ablation(folder, full, table, marked, results)


class _Shared:
    """What the runs share: data and features, loaded when the first run needs them."""

    def __init__(self, recipes: Sequence[Recipe], progress: bool) -> None:
        self.recipes, self.progress = recipes, progress
        self._sources: Sources | None = None

    def sources(self) -> Sources:
        if self._sources is None:
            from phosphene.methods._views import resolve_views

            loaded = load_sources(self.recipes[0], progress=self.progress)
            for recipe in self.recipes:  # no row is trained when another cannot be
                views = getattr(make_decoder(recipe), "views", None)
                if views is not None:
                    resolve_views(views, loaded.bank.views)
            self._sources = loaded
        return self._sources


def _step(folder: Path, recipe: Recipe, shared: _Shared) -> tuple[Result, bool]:
    """Fit and score one row with one seed, unless that was done."""
    from phosphene.evaluation.result import Result

    run = Run.claim(folder, recipe)
    if run.state.get("evaluated"):
        return Result.load(folder, verify=False), False  # verified as a run just now
    sources = shared.sources()
    run = fit(recipe, folder, sources=sources, progress=shared.progress)
    return evaluate(run, sources=sources, progress=shared.progress), True


def _recipes(
    recipe: Recipe, rows: Sequence[Row], seeds: Sequence[int], subjects: Sequence[str] | None
) -> dict[tuple[int, str], Recipe]:
    """The recipe of every seed and row, on the same data and with the views of all rows."""
    base = recipe.to_dict()
    if len(seeds) > 1 and "random_state" in recipe.method.params:
        raise RecipeError(
            "method.params.random_state is fixed, so that all seeds would be the same",
            fix="leave it out of the recipe",
        )
    if isinstance(recipe.data, SimulatedData) and recipe.data.seed is None:
        base["data"]["seed"] = recipe.seed
    if isinstance(recipe.split, ConceptSplit) and recipe.split.seed is None:
        base["split"]["seed"] = recipe.seed
    if subjects is not None:
        base["evaluation"]["subjects"] = list(subjects)
    changed = {row.label: _changed(base, {**recipe.method.params, **row.params}) for row in rows}
    if isinstance(recipe.features, ImageFeatures):
        needed = [parse_recipe(values, origin=label) for label, values in changed.items()]
        views = union_views(needed)
        for values in changed.values():
            values["features"] = {**values["features"], "views": views}
    return {
        (seed, label): parse_recipe({**values, "seed": seed}, origin=f"row {label!r}")
        for seed in seeds
        for label, values in changed.items()
    }


def _changed(base: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return {**base, "method": {"name": base["method"]["name"], "params": jsonable(dict(params))}}


def _swept(sweep: str) -> list[Row]:
    import yaml

    name, equals, text = sweep.partition("=")
    try:
        values = read_value(f"[{text}]") if equals and name.strip().isidentifier() else None
    except yaml.YAMLError:
        values = None
    if not values:
        raise RecipeError(
            f"cannot understand the sweep {sweep!r}",
            expected="a parameter with values, e.g. lr=1.0e-4,3.0e-4",
        )
    name = name.strip()
    return [Row(f"{name}={value}", {name: value}) for value in map(_numbers, values)]


def _numbers(value: Any) -> Any:
    """The value with numbers such as 1e-4, which YAML takes for text, as numbers."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _folder_names(labels: Sequence[str]) -> dict[str, str]:
    """A folder name for every label, no two alike."""
    names: dict[str, str] = {}
    for label in labels:
        plain = re.sub(r"[^\w.=]+", "-", label.lower()).strip("-.") or "row"
        same = sum(1 for other in names.values() if other.partition("~")[0] == plain)
        names[label] = f"{plain}~{same + 1}" if same else plain
    return names

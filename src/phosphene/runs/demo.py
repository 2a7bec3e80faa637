"""The demo: the whole way from pictures to a report, on a simulated EEG experiment.

Every (method, subject) pair is a run folder of its own with the recipe that made it, so the demo
continues where it was interrupted, and each part can be trained again with ``phosphene fit``.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene import _registry
from phosphene._logging import get_logger
from phosphene._saving import write_json, write_manifest, write_table, write_text
from phosphene.config import Recipe, SimulatedData, parse_recipe
from phosphene.errors import DataError
from phosphene.runs.fitting import fit
from phosphene.runs.run import STATE, Run, recipe_hash
from phosphene.runs.scoring import evaluate
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.data.stimuli import StimulusSet
    from phosphene.evaluation.result import Result
    from phosphene.simulation.scene import Scene

logger = get_logger(__name__)

# What differs from the methods' own settings, and why. Everything is in each run's recipe.yaml and
# in the protocol of the results.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "standard": {
        "ridge": {},
        "nice": {"epochs": 60},
        "ubp": {},
    },
    "quick": {
        "ridge": {},
        "nice": {"epochs": 60},
        "ubp": {},
    },
}
WORLDS = {True: "quick", False: "standard"}
SUBJECTS = {True: 2, False: 3}
CHANNELS = "occipito-parietal"
# Test repetitions of the curve; the results themselves use all of a world's.
REPETITIONS = (1, 5, 10, 20, 40, 80)
COLUMNS = (
    "method", "subject", "seed", "n_queries", "n_gallery", "top1", "top1_low", "top1_high",
    "top5", "top5_low", "top5_high", "chance", "ceiling",
)  # fmt: skip
LICENCES = (
    ("EfficientNet-Lite0 (image features)", "Apache-2.0"),
    ("Universal Sentence Encoder (text features)", "Apache-2.0"),
    ("Twemoji (pictures)", "CC BY 4.0, Twitter, Inc and other contributors"),
)


@dataclass(frozen=True)
class Outcome:
    """What the demo found.

    Parameters
    ----------
    folder : Path
        Where everything lies.
    results : tuple of Result
        One per method, all subjects.
    title : str
        Says what was run, and that the data are simulated.
    notes : tuple of str
        What a reader of the table must know.
    """

    folder: Path
    results: tuple[Result, ...]
    title: str
    notes: tuple[str, ...]


def demo(
    out: str | Path,
    *,
    quick: bool = False,
    seed: int = 0,
    subjects: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: bool = True,
) -> Outcome:
    """Simulate an experiment, train and compare ridge, NICE and UBP, and write a report.

    Writes ``results.csv``, ``queries.csv``, ``protocol.json``, ``report.html`` and
    ``manifest.json``, and below ``runs/`` a run folder per method and subject. Finished steps of
    the same settings are not done again.

    Parameters
    ----------
    out : path
        Folder of the results.
    quick : bool
        A small world and fewer subjects, for a first look.
    seed : int
        Seed of people, noise and training.
    subjects : int, optional
        Number of simulated people.
    say : callable, optional
        Gets a line of text after every step.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    Outcome
    """
    from phosphene.evaluation.result import Result

    folder = Path(out)
    said = say or (lambda line: None)
    count = SUBJECTS[quick] if subjects is None else subjects
    if count < 1:
        raise DataError("the demo needs people", found=f"subjects={count}", expected="at least 1")
    shared = _Shared(WORLDS[quick], seed, said, progress)
    results: dict[str, list[Result]] = {name: [] for name in SETTINGS[shared.world]}
    steps = [(f"{n + 1:02d}", name) for n in range(count) for name in results]
    for number, (subject, name) in enumerate(steps, 1):
        started = time.perf_counter()
        recipe = step_recipe(name, subject, world=shared.world, seed=seed)
        result, fresh = _step(folder, recipe, subject, shared)
        results[name].append(result)
        low, high = result.interval("top1")
        done = f"{time.perf_counter() - started:.0f} s" if fresh else "was done before"
        said(
            f"[{number}/{len(steps)}] {name}, subject {subject}: top-1 {100 * result.top1:.1f} % "
            f"[{100 * low:.1f}, {100 * high:.1f}] ({done})"
        )
    merged = tuple(Result.merge(parts, name=name) for name, parts in results.items())
    outcome = Outcome(folder, merged, _title(shared.world, count, seed), _notes(merged))
    _write(outcome, shared)
    return outcome


def step_recipe(method: str, subject: str, *, world: str, seed: int) -> Recipe:
    """The recipe of one step of the demo."""
    from phosphene.simulation.world import get_world

    # With the digest in its name, a recipe is another one when the world's parameters change.
    version = f"{world} {get_world(world).hash[:12]}"
    return parse_recipe(
        {
            "name": f"demo: {method}, subject {subject}, world {version}",
            "seed": seed,
            "data": {
                "kind": "simulated",
                "world": world,
                "subjects": [subject],
                "channels": CHANNELS,
            },
            "features": {"kind": "images"},
            "split": {"kind": "column"},
            "method": {"name": method, "params": SETTINGS[world][method]},
        },
        origin=f"the demo's recipe for {method}",
    )


class _Shared:
    """What the steps of a demo share, made when it is first needed."""

    def __init__(self, world: str, seed: int, say: Callable[[str], None], progress: bool) -> None:
        self.world, self.seed, self.say, self.progress = world, seed, say, progress
        self._scene: Scene | None = None
        self._sources: tuple[str, Sources] | None = None

    def scene(self) -> Scene:
        """Pictures and features; an interrupted extraction continues from its cache."""
        if self._scene is None:
            from phosphene.simulation.scene import make_scene
            from phosphene.simulation.world import get_world

            world = get_world(self.world)
            self.say(
                f"pictures and features: {world.n_stimuli} pictures, "
                f"up to {world.encoder_passes} passes of {world.encoder}"
            )
            started = time.perf_counter()
            self._scene = make_scene(world, progress=self.progress)
            self.say(f"pictures and features: {time.perf_counter() - started:.0f} s")
        return self._scene

    def sources(self, recipe: Recipe, subject: str) -> Sources:
        """Recording and features of a subject; one subject is kept at a time."""
        if self._sources is None or self._sources[0] != subject:
            self._sources = None
            loaded = load_sources(recipe, scene=self.scene(), progress=self.progress)
            self._sources = (subject, loaded)
        return self._sources[1]


def _step(folder: Path, recipe: Recipe, subject: str, shared: _Shared) -> tuple[Result, bool]:
    """Fit and evaluate one method on one subject, unless that was done."""
    from phosphene.evaluation.result import Result

    out = folder / "runs" / f"{recipe.method.name}-sub-{subject}-seed-{recipe.seed}"
    known = _known(out, recipe)
    if known is not None:
        return Result.load(out, verify=False), False
    sources = shared.sources(recipe, subject)
    run = fit(recipe, out, sources=sources, progress=shared.progress)
    result = evaluate(run, sources=sources, progress=shared.progress)
    curve = _repetition_curve(run, recipe, sources, shared.scene())
    result = dataclasses.replace(result, tables={**result.tables, "repetitions": curve})
    with run.changing():
        result.save(out, manifest=False)
        run.update(demo=True)
    return result, True


def _known(out: Path, recipe: Recipe) -> Run | None:
    """The finished run of this very recipe; a run of another one is removed."""
    if not (out / STATE).is_file():
        return None
    from phosphene._saving import read_json

    state = read_json(out / STATE)
    if not isinstance(state, dict) or state.get("recipe") != recipe_hash(recipe):
        logger.info("%s holds a run with other settings; it is done anew", out)
        shutil.rmtree(out)
        return None
    return Run.open(out) if state.get("demo") else None


def _repetition_curve(run: Run, recipe: Recipe, sources: Sources, scene: Scene) -> pd.DataFrame:
    """Accuracy against the number of test repetitions, from further draws of the same person.

    Only averages are drawn, so that this costs seconds. It plays no part in the results.
    """
    import pandas as pd

    from phosphene.evaluation.noise_ceiling import noise_ceiling
    from phosphene.runs.data import channel_names
    from phosphene.simulation.study import simulate

    data = recipe.data
    assert isinstance(data, SimulatedData)
    decoder = run.decoder()
    rows = []
    for count in REPETITIONS:
        if count > data.test_repetitions:
            continue
        study = simulate(
            data.world,
            subjects=data.subjects,
            seed=recipe.seed,
            scene=scene,
            channels=channel_names(data),
            train_repetitions=1,
            test_repetitions=count,
            averaged=True,
            progress=False,
        )
        (subject,) = study.subjects
        result = decoder.evaluate(study.test(subject), sources.bank, name=recipe.method.name)
        ceiling = noise_ceiling(study.truth[subject], count)
        rows.append(
            {
                "repetitions": count,
                "top1": result.top1,
                "top5": result.top5,
                "ceiling": ceiling,
            }
        )
    curve = pd.DataFrame(rows)
    return curve.assign(method=recipe.method.name, subject=subject, seed=recipe.seed)


def _title(world: str, subjects: int, seed: int) -> str:
    people = f"{subjects} simulated {'person' if subjects == 1 else 'people'}"
    return f"SIMULATED DATA: world {world!r}, {people}, seed {seed}"


def _notes(results: Sequence[Result]) -> tuple[str, ...]:
    first = results[0].protocol
    return (
        "These numbers are from a simulation, not from people: they compare methods under its "
        "assumptions.",
        f"Top-1: which of {first.gallery_size} pictures of concepts never seen in training was "
        f"looked at (chance {100 / (first.gallery_size or 1):.1f} %); "
        f"{first.test_repetitions} test repetitions averaged.",
        "[low, high]: 95 % bootstrap over pictures and people. Ceiling: the ideal observer who "
        "knows every expected response and the noise.",
    )


def summary_rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table that people read, one row per method."""
    from phosphene.evaluation.result import show

    rows = []
    for result in results:
        facts = result.summary()
        cells = [result.name]
        for metric in ("top1", "top5"):
            low, high = (show(metric, facts[f"{metric}_{end}"]) for end in ("low", "high"))
            cells += [show(metric, facts[metric]), f"[{low}, {high}]"]
        rows.append([*cells, show("top1", facts["chance"]), show("top1", facts["ceiling"])])
    return ["method", "top-1", "[low, high]", "top-5", "[low, high] ", "chance", "ceiling"], rows


def _write(outcome: Outcome, shared: _Shared) -> None:
    """Write what the whole demo found; the manifest last."""
    import pandas as pd

    from phosphene.evaluation.result import summary_table

    folder, results = outcome.folder, outcome.results
    table = summary_table(results)[list(COLUMNS)]
    write_text(folder / "results.csv", table.to_csv(index=False, float_format="%.6g"))
    write_table(folder / "queries.csv", pd.concat([r.table for r in results], ignore_index=True))
    write_json(
        folder / "protocol.json",
        {
            "title": outcome.title,
            "notes": outcome.notes,
            "simulated": True,
            "settings": SETTINGS[shared.world],
            "methods": {result.name: result.protocol.to_dict() for result in results},
            "versions": results[0].versions,
            "licences": dict(LICENCES),
        },
    )
    _report(outcome, shared)
    write_manifest(folder, kind="demo")


def _report(outcome: Outcome, shared: _Shared) -> None:
    from phosphene.reports import write_report

    write_report(
        outcome.results,
        outcome.folder / "report.html",
        title="phosphene demo: which picture was seen?",
        subtitle=outcome.title,
        intro=" ".join(outcome.notes),
        stimuli=_pictures(outcome.results, shared.world),
        extras={"licences": LICENCES},
    )


def _pictures(results: Sequence[Result], name: str) -> StimulusSet | None:
    """Pictures of the gallery; the report does without where the packages are missing."""
    from phosphene.errors import PhospheneError
    from phosphene.simulation.pictures import picture_set
    from phosphene.simulation.world import get_world

    world = get_world(name)
    concepts = sorted(set(results[0].table["concept"]))
    try:
        return picture_set(concepts, 1, world.picture_seed, world.picture_size)
    except PhospheneError as error:
        logger.warning("the report has no pictures: %s", error.what)
        return None


@_registry.register("section", "licences", order=95)
def licences_section(about: Any) -> Any:
    """Licences of what a report shows or rests on, if ``extras["licences"]`` names them."""
    from html import escape

    from phosphene.reports import Section

    licences = about.extras.get("licences")
    if not licences:
        return None
    rows = "".join(f"<li>{escape(part)}: {escape(licence)}</li>" for part, licence in licences)
    return Section("Licences", f"<ul>{rows}</ul>")

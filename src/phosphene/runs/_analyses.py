"""The analyses of a run, each from its data and decoders to tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phosphene.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.analysis.clusters import ClusterTest
    from phosphene.data.recording import Recording
    from phosphene.evaluation.result import Result
    from phosphene.reports.analysis_sections import AnalysisPart
    from phosphene.runs.run import Run
    from phosphene.runs.sources import Sources

_INTERVAL = "Shaded or drawn: 95 % bootstrap intervals over stimuli, crossed with people."


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """What is analysed, and how; see `phosphene.runs.analysing.analyse`."""

    run: Run
    sources: Sources
    result: Result
    tests: list[Recording]
    make: Callable[[], Any]
    decoder_name: str
    metric: str
    window: float
    step: float | None
    mode: str
    how: str
    categories: Mapping[str, str] | None
    rdm: str
    compare: str

    @property
    def trains(self) -> list[Recording]:
        """Training trials of every fold."""
        return [fold.train for fold in self.sources.folds]

    @property
    def simulated(self) -> bool:
        """Whether the data are simulated."""
        return bool(self.result.protocol.simulated)

    @property
    def zero_shot(self) -> bool:
        """Whether test concepts must be new."""
        return bool(self.run.recipe.evaluation.zero_shot)

    @property
    def averages(self) -> bool:
        """Whether the run's method averages the repetitions of training stimuli."""
        return bool(self.run.recipe.method.params.get("average_repetitions", True))

    def decoders(self) -> list[Any]:
        """The trained decoders of all folds."""
        return [self.run.decoder(name) for name in self.run.folds]


def time_parts(about: Subject) -> list[AnalysisPart]:
    """Sliding windows and generalisation over time, with cluster tests from six people on."""
    from phosphene.analysis import time
    from phosphene.analysis.clusters import cluster_test, people_needed
    from phosphene.reports import analysis_plots
    from phosphene.reports.analysis_sections import AnalysisPart

    folds = list(zip(about.trains, about.tests, strict=True))
    how: dict[str, Any] = {
        "metric": about.metric,
        "window": about.window,
        "zero_shot": about.zero_shot,
        "average_train": about.averages,
        "layer": about.run.recipe.method.params.get("layer"),
    }
    if about.decoder_name != "ridge":
        how["decoder"] = about.make
    bank = about.sources.bank
    step = about.window if about.step is None else about.step
    curve = time.pool_curves([time.sliding_window(a, b, bank, step=step, **how) for a, b in folds])
    # Pairs of windows: as many as steps squared, so that windows never overlap here.
    square = time.pool_generalisation(
        [time.temporal_generalisation(a, b, bank, step=max(step, about.window), **how)
         for a, b in folds]
    )  # fmt: skip
    parts: list[AnalysisPart] = []
    tests: list[ClusterTest | None] = [None, None]
    notes: tuple[str, ...] = ()
    if len(curve.subjects) >= people_needed():
        tests = [
            cluster_test(scores, curve.chance) for scores in (curve.by_subject, square.by_subject)
        ]
    else:
        notes = (
            f"No cluster test: {len(curve.subjects)} people cannot reach p = .05, "
            f"{people_needed()} can.",
        )
    who = f"Decoder: {about.decoder_name}, fitted anew in every window."
    caption = f"Score by window of {about.window:g} s. {_INTERVAL} {who}"
    parts.append(
        AnalysisPart(
            "time",
            "Score by time",
            curve.table(),
            analysis_plots.time_curve(curve, tests[0], ceiling=_ceiling(about)),
            caption,
            notes,
        )
    )
    parts.append(
        AnalysisPart(
            "time-generalisation",
            "Generalisation over time",
            square.table(),
            analysis_plots.generalisation(square, tests[1]),
            f"Decoders of one time tested at another. {who}",
            notes,
        )
    )
    for name, test, times in (
        ("time-clusters", tests[0], curve.times),
        ("time-generalisation-clusters", tests[1], square.times),
    ):
        if test is not None:
            parts.append(AnalysisPart(name, name.replace("-", " ").capitalize(), test.table(times)))
    return parts


class _Trained:
    """A trained decoder in the place of one to be fitted."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def fit(self, *_: Any, **__: Any) -> Any:
        return self.decoder


def space_parts(about: Subject) -> list[AnalysisPart]:
    """Ablation of channels or regions, of bands where there is a time axis, and patterns."""
    import numpy as np

    from phosphene.analysis import space
    from phosphene.analysis.patterns import decoder_patterns
    from phosphene.reports import analysis_maps, analysis_plots
    from phosphene.reports.analysis_sections import AnalysisPart

    first = about.trains[0]
    decoder: Any = about.make
    name = about.decoder_name
    if about.how == "test":
        decoder = [lambda one=one: _Trained(one) for one in about.decoders()]
        name = about.run.recipe.method.name
    how: dict[str, Any] = {
        "metric": about.metric, "mode": about.mode, "how": about.how, "decoder": decoder,
        "zero_shot": about.zero_shot, "average_train": False,
    }  # fmt: skip
    bank, caption = about.sources.bank, f"{_INTERVAL} Decoder: {name}."
    unit = "regions" if first.sensors.rois else first.sensors.unit_name
    found = space.ablate_sensors(about.trains, about.tests, bank, **how)
    parts = [
        AnalysisPart(
            "space-sensors",
            f"Ablation of {unit}",
            found,
            analysis_plots.ablation(found, simulated=about.simulated),
            caption,
        )
    ]
    if first.times is not None:
        found = space.ablate_bands(about.trains, about.tests, bank, **how)
        parts.append(
            AnalysisPart(
                "space-bands",
                "Ablation of frequency bands",
                found,
                analysis_plots.ablation(found, simulated=about.simulated),
                caption,
            )
        )
    pairs = list(zip(about.decoders(), about.trains, strict=True))
    pattern = np.mean([decoder_patterns(one, train) for one, train in pairs], axis=0)
    table = _pattern_table(pattern, first)
    figure, notes = None, []
    if first.times is not None:
        try:
            figure = analysis_maps.topomaps(
                pattern, first.sensors, first.times, simulated=about.simulated
            )
        except DataError as error:
            notes.append(f"No maps: {error.what}.")
    else:
        notes.append("Voxels: phosphene.data.preprocess.masking.to_image makes an image of them.")
    parts.append(
        AnalysisPart(
            "space-patterns",
            "Patterns of the trained decoders",
            table,
            figure,
            "Standard deviation of the signals that the decoded vectors account for (patterns "
            "after Haufe et al. 2014), on training trials.",
            tuple(notes),
        )
    )
    return parts


def _pattern_table(pattern: Any, recording: Recording) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    names = recording.channel_names
    if pattern.ndim == 1:
        return pd.DataFrame({recording.sensors.unit_name[:-1]: names, "strength": pattern})
    times = np.asarray(recording.times)
    return pd.DataFrame(
        {
            "channel": np.repeat(names, len(times)),
            "time": np.tile(times, len(names)),
            "strength": pattern.ravel(),
        }
    )


def curve_parts(about: Subject) -> list[AnalysisPart]:
    """Gallery size, repetitions of the test, training concepts."""
    from phosphene.analysis import curves
    from phosphene.reports import analysis_plots
    from phosphene.reports.analysis_sections import AnalysisPart

    bank, parts = about.sources.bank, []
    made: list[tuple[str, str, str, Callable[[], pd.DataFrame]]] = [
        (
            "curves-gallery", "Gallery size",
            "Expected top-1 among N candidates, exact rather than sampled.",
            lambda: curves.gallery_curve(about.result.table),
        ),
        (
            "curves-repetitions", "Test repetitions",
            "The trained decoders on averages of n trials.",
            lambda: curves.repetition_curve(
                about.decoders(), about.tests, bank, metric=about.metric
            ),
        ),
        (
            "curves-concepts", "Training concepts",
            f"Decoder: {about.decoder_name}, fitted anew on selections of the concepts.",
            lambda: curves.concept_curve(
                about.trains, about.tests, bank, decoder=about.make, metric=about.metric,
                zero_shot=about.zero_shot,
            ),
        ),
    ]  # fmt: skip
    for name, title, caption, make in made:
        metric = "top1" if name == "curves-gallery" else about.metric
        try:
            table = make()
        except DataError as error:
            import pandas as pd

            note = f"Not for this run: {error.what}."
            parts.append(AnalysisPart(name, title, pd.DataFrame(), notes=(note,)))
            continue
        ceiling = _ceiling(about) if name == "curves-concepts" else None
        figure = analysis_plots.accuracy_curve(
            table, metric=metric, ceiling=ceiling, simulated=about.simulated
        )
        parts.append(AnalysisPart(name, title, table, figure, f"{caption} {_INTERVAL}"))
    return parts


def category_parts(about: Subject) -> list[AnalysisPart]:
    """Accuracy by category, and the confusion matrix."""
    from phosphene.analysis.categories import category_accuracy, confusion_matrix
    from phosphene.reports import analysis_maps, analysis_plots
    from phosphene.reports.analysis_sections import AnalysisPart

    named = (
        "" if about.categories else "Every concept is a category of its own: no table was given."
    )
    notes = (named,) if named else ()
    table = category_accuracy(about.result.table, about.categories, metric=about.metric)
    parts = [
        AnalysisPart(
            "categories",
            "Accuracy by category",
            table,
            analysis_plots.categories(table, metric=about.metric, simulated=about.simulated),
            f"In brackets: queries. {_INTERVAL}",
            notes,
        )
    ]
    scores = about.result.scores
    if scores is None or scores.gallery_concepts is None:
        why = "The run kept no scores" if scores is None else "The gallery's concepts are unknown"
        notes = (f"{why}: there is no confusion matrix.",)
        return [
            *parts,
            AnalysisPart("categories-confusion", "Confusion", table.iloc[:0], None, "", notes),
        ]
    matrix = confusion_matrix(scores, about.categories)
    figure = analysis_maps.confusion(matrix, simulated=about.simulated)
    caption = "Share of a category's queries whose best candidate lies in another."
    parts.append(
        AnalysisPart("categories-confusion", "Confusion", matrix.reset_index(), figure, caption)
    )
    return parts


def rsa_parts(about: Subject) -> list[AnalysisPart]:
    """Brain and decoded geometry against that of the layers of the bank."""
    import numpy as np

    from phosphene.analysis.rdm import rdm
    from phosphene.analysis.rsa import brain_rdm, rsa
    from phosphene.data.recording import Recording
    from phosphene.methods._decoder import canonical
    from phosphene.reports import analysis_maps, analysis_plots, plots
    from phosphene.reports.analysis_sections import AnalysisPart

    bank, metric = about.sources.bank, about.rdm
    plain = "correlation" if metric == "crossnobis" else metric
    tests = [canonical(test, bank) for test in about.tests]
    people = list(dict.fromkeys(name for test in tests for name in test.subjects))
    own = {who: [t.select(subject=who) for t in tests if who in t.subjects] for who in people}
    shared = set.intersection(*({s for t in parts for s in t.stimuli} for parts in own.values()))
    ids = [name for name in bank.ids if name in shared]
    if len(ids) < 4:
        raise DataError(
            "representations of fewer than four stimuli have no geometry",
            found=f"{len(ids)} test stimuli that all people saw",
        )
    brains = {
        who: brain_rdm(Recording.concat(parts) if len(parts) > 1 else parts[0], ids, metric)  # type: ignore[arg-type]
        for who, parts in own.items()
    }
    decoders, vectors = about.decoders(), {who: {name: [] for name in ids} for who in people}  # type: ignore[var-annotated]
    for decoder, test in zip(decoders, tests, strict=True):
        chosen = test.select(stimulus=[name for name in ids if name in set(test.stimuli)])
        averages = chosen.average(by=("subject", "stimulus"))
        embedded = decoder.embed(averages).vectors
        trials = averages.trials
        for who, name, vector in zip(trials["subject"], trials["stimulus"], embedded, strict=True):
            vectors[who][name].append(vector)
    decoded = {}
    for who in people:
        rows = np.stack([np.mean(vectors[who][name], axis=0) for name in ids]).astype(np.float64)
        decoded[who] = rdm(rows - rows.mean(axis=0), plain)  # type: ignore[arg-type]
    view = "original" if "original" in bank.views else bank.views[0]
    models, notes = {}, []
    for layer in bank.layers:
        matrix = rdm(bank.vectors(view, layer, ids), plain)  # type: ignore[arg-type]
        if np.ptp(matrix[np.triu_indices(len(ids), 1)]) < 1e-9:
            notes.append(f"Layer {layer} tells no two stimuli apart from two others: left out.")
            continue
        models[layer] = matrix
    if not models:
        raise DataError(
            "no layer of the bank has a geometry: all pairs of stimuli are equally different",
            fix="use features of pictures or names instead of indicators of classes",
        )
    parts = []
    for name, title, spaces in (
        ("rsa-brain", "Brain and model", brains),
        ("rsa-decoded", "Decoded vectors and model", decoded),
    ):
        table = rsa(spaces, models, method=about.compare)  # type: ignore[arg-type]
        figure = analysis_plots.rsa_bars(
            table, method=about.compare, space=name.split("-")[1], simulated=about.simulated
        )
        caption = (
            f"Agreement of RDMs over {len(ids)} test stimuli. {_INTERVAL} Star: p < .05 by "
            "permutation of the stimuli, uncorrected. Band: noise ceiling, from two people on."
        )
        parts.append(AnalysisPart(name, title, table, figure, caption, tuple(notes)))
    figure, axes = plots.panels(2 + len(models), width=3.6, height=3.2)
    shown = {"brain": np.mean(list(brains.values()), axis=0),
             "decoded": np.mean(list(decoded.values()), axis=0), **models}  # fmt: skip
    for ax, (label, matrix) in zip(axes, shown.items(), strict=True):
        analysis_maps.rdm_image(matrix, label=label, simulated=about.simulated, ax=ax)
    import pandas as pd

    pairs = np.triu_indices(len(ids), 1)
    names = np.asarray(ids, dtype=object)
    table = pd.DataFrame({"first": names[pairs[0]], "second": names[pairs[1]]}).assign(
        **{label: matrix[pairs] for label, matrix in shown.items()}
    )
    parts.append(
        AnalysisPart("rsa-rdms", "Dissimilarities", table, figure, "Means over people, as ranks.")
    )
    return parts


def _ceiling(about: Subject) -> float | None:
    """The noise ceiling of the whole response, where the truth is known."""
    value = about.result.ceiling.get(about.metric)
    return None if value is None else float(value)


ANALYSES: dict[str, Callable[[Subject], list[AnalysisPart]]] = {
    "time": time_parts,
    "space": space_parts,
    "curves": curve_parts,
    "categories": category_parts,
    "rsa": rsa_parts,
}

"""Coverage of the 95 % interval of a group mean, and the time of its bootstrap.

Simulated studies of 4, 10 and 20 subjects who all saw the same stimuli: a score is the sum of a
subject's level, a stimulus' ease and the noise of the single response, either taken as it is or as
hit and miss (above a threshold). An interval is right if it holds the expected score, over
new subjects and new stimuli. Beside the library's interval: a percentile bootstrap over stimuli
alone and a percentile bootstrap crossed over subjects and stimuli. All studies of a world are
resampled with the same weights, as they would be one by one.

Writes a table (CSV) and a figure (SVG) beside the JSON.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _table import Table, best_seconds, parse_arguments
from matplotlib.figure import Figure
from scipy.special import ndtr
from scipy.stats import binomtest

from phosphene import _random
from phosphene.evaluation import _bootstrap as bootstrap
from phosphene.evaluation.statistics import group_interval

SUBJECTS = (4, 10, 20)
# Standard deviations of subjects, stimuli and single responses.
SPREAD = {
    "noise only": (0.0, 0.0, 1.0),
    "subjects": (0.3, 0.0, 1.0),
    "stimuli": (0.1, 1.0, 0.3),
    "both": (0.3, 0.5, 1.0),
    "mostly stimuli": (0.1, 0.5, 1.0),
}
KINDS = {"normal scores": None, "hits, 50 %": 0.0, "hits, about 17 %": 1.0, "hits, about 9 %": 1.5}
METHODS = ("stimuli only", "crossed, percentile", "phosphene")
LEVEL, TAIL = 0.95, 0.025


def simulate(
    rng: np.random.Generator,
    studies: int,
    people: int,
    stimuli: int,
    spread: Any,
    cut: float | None,
) -> tuple[Any, float]:
    """Scores (studies, people, stimuli) and what they are expected to be."""
    who, what, rest = spread
    scores = (
        who * rng.standard_normal((studies, people, 1))
        + what * rng.standard_normal((studies, 1, stimuli))
        + rest * rng.standard_normal((studies, people, stimuli))
    )
    if cut is None:
        return scores, 0.0
    return (scores > cut).astype(np.float64), float(
        ndtr(-cut / np.sqrt(who**2 + what**2 + rest**2))
    )


def intervals(scores: Any, bounds: Any, resamples: int) -> dict[str, Any]:
    """Low and high end for every study and method."""
    _, people, stimuli = scores.shape
    draws = _random.generator(0, "crossed bootstrap")
    blocks = list(bootstrap.weights_of(draws, stimuli, resamples, people * stimuli))
    weights = np.concatenate(blocks) / stimuli
    drawn = bootstrap.counts(_random.generator(0, "subjects"), resamples, people) / people
    ends: dict[str, list[Any]] = {name: [] for name in METHODS}
    for part in np.array_split(scores, max(1, scores[:, 0].size * resamples // 20_000_000)):
        within = np.moveaxis(np.tensordot(part, weights, axes=(2, 1)), 2, 1)
        variances = bootstrap.stimulus_variance(within, stimuli)
        ours = bootstrap.mean_interval(part.mean(axis=2), variances, stimuli, LEVEL, bounds)
        ends["phosphene"].append(ours)
        for name, means in (
            ("stimuli only", within.mean(axis=2)),
            ("crossed, percentile", np.einsum("bns,ns->bn", within, drawn)),
        ):
            ends[name].append(np.quantile(means, [TAIL, 1 - TAIL], axis=1).T)
    return {name: np.concatenate(parts) for name, parts in ends.items()}


def coverage(studies: int, stimuli: int, resamples: int) -> pd.DataFrame:
    """One row per kind of score, world, number of subjects and method."""
    rows = []
    for kind, cut in KINDS.items():
        for world, spread in SPREAD.items():
            for people in SUBJECTS:
                rng = _random.generator(0, "coverage", kind, world, people)
                scores, truth = simulate(rng, studies, people, stimuli, spread, cut)
                bounds = None if cut is None else (0.0, 1.0)
                for method, ends in intervals(scores, bounds, resamples).items():
                    right = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
                    margin = binomtest(int(right.sum()), studies).proportion_ci(LEVEL)
                    rows.append(
                        {
                            "scores": kind, "spread": world, "subjects": people,
                            "stimuli": stimuli, "method": method, "studies": studies,
                            "coverage": right.mean(), "low": margin.low, "high": margin.high,
                            "too_low": (ends[:, 1] < truth).mean(),
                            "too_high": (ends[:, 0] > truth).mean(),
                            "mean_width": (ends[:, 1] - ends[:, 0]).mean(),
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame) -> Figure:
    """Coverage by number of subjects: a dot per world, the wanted range shaded."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    ax = figure.add_subplot()
    ax.axhspan(93, 97, color="#009E73", alpha=0.15, lw=0, label="93 to 97 %")
    ax.axhline(95, color="#009E73", lw=1)
    looks = {"stimuli only": ("#D55E00", "v"), "crossed, percentile": ("#E69F00", "s"),
             "phosphene": ("#0072B2", "o")}  # fmt: skip
    for i, (method, (colour, marker)) in enumerate(looks.items()):
        for j, people in enumerate(SUBJECTS):
            own = table[(table["method"] == method) & (table["subjects"] == people)]
            place = j + 0.27 * (i - 1) + np.linspace(-0.09, 0.09, len(own))
            ax.scatter(place, 100 * own["coverage"], s=14, color=colour, marker=marker, alpha=0.8,
                       label=method if j == 0 else None)  # fmt: skip
    ax.set_xticks(range(len(SUBJECTS)), [f"{people} subjects" for people in SUBJECTS])
    ax.set_ylabel("studies whose interval is right (%)")
    ax.set_ylim(top=100.5)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    return figure


def literal(scores: Any, resamples: int) -> Any:
    """A crossed bootstrap as a loop: subjects and stimuli are drawn, the mean is taken."""
    rng = np.random.default_rng(0)
    people, stimuli = scores.shape
    means = np.empty(resamples)
    for i in range(resamples):
        who, what = rng.integers(0, people, people), rng.integers(0, stimuli, stimuli)
        means[i] = scores[np.ix_(who, what)].mean()
    return np.quantile(means, [TAIL, 1 - TAIL])


def by_pandas(table: pd.DataFrame, resamples: int) -> Any:
    """The same on a table of queries, as scripts have it: rows are drawn by label."""
    rng = np.random.default_rng(0)
    wide = table.set_index(["subject", "stimulus"])["value"].sort_index()
    people, stimuli = wide.index.levels
    means = []
    for _ in range(resamples):
        who = rng.choice(people, len(people))
        what = rng.choice(stimuli, len(stimuli))
        pairs = pd.MultiIndex.from_product([who, what])
        means.append(wide.reindex(pairs).mean())
    return np.quantile(means, [TAIL, 1 - TAIL])


def main() -> None:
    arguments = parse_arguments(__doc__, "coverage.json")
    studies, resamples = (100, 400) if arguments.quick else (2000, 2000)
    table = Table("Intervals of group means")
    started = time.perf_counter()
    found = coverage(studies, 100, resamples)
    seconds = time.perf_counter() - started
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found.round(5).to_csv(arguments.out.with_suffix(".csv"), index=False)
    draw(found).savefig(arguments.out.with_suffix(".svg"), metadata={"Date": None})
    for people in SUBJECTS:
        for method in METHODS:
            own = found[(found["subjects"] == people) & (found["method"] == method)]
            wanted = method == "phosphene" and not arguments.quick
            name = f"{people} subjects, {method}"
            share = 100 * own["coverage"]
            table.add(f"{name}: lowest coverage", share.min(), 93.0 if wanted else None, s=seconds)
            table.add(
                f"{name}: highest coverage", share.max(), 97.0 if wanted else None, better="lower"
            )
    scores, _ = simulate(np.random.default_rng(0), 1, 10, 200, SPREAD["both"], None)
    long = pd.DataFrame(
        {
            "subject": np.repeat([f"{i:02d}" for i in range(10)], 200),
            "stimulus": np.tile([f"image{i:03d}" for i in range(200)], 10),
            "value": scores[0].ravel(),
        }
    )
    draws = 10_000
    ours = best_seconds(lambda: group_interval(long, "value", n=draws), repeats=5)
    few = draws // (100 if arguments.quick else 20)
    loop = best_seconds(lambda: literal(scores[0], few), repeats=3) * draws / few
    slow = best_seconds(lambda: by_pandas(long, few // 10), repeats=1) * draws * 10 / few
    table.add("10,000 resamples of 10 x 200: seconds", ours, 2.0, better="lower")
    table.add("times faster than a loop over arrays", loop / ours, s=ours, loop_s=loop)
    table.add("times faster than a loop over tables", slow / ours, s=ours, loop_s_from_a_part=slow)
    table.show()
    table.write(Path(arguments.out))


if __name__ == "__main__":
    main()

"""Simple figures from fMRI blocks, pixel by pixel: what sessions, figures and leaks do to a score.

Three analyses of one recording, each with the penalty chosen inside the training sessions: figures
that occur in training, figures that never do, and the former with each test session's own mean
removed, which uses the other test blocks and is therefore a row apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from phosphene._logging import progress as progress_bar
from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.decoding.ridge_kfold import RidgeKFold
from phosphene.errors import DataError
from phosphene.evaluation._image_sums import unit_deviations
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.statistics import bootstrap_interval
from phosphene.reconstruction.baselines import LinearPixel

PENALTIES: tuple[float, ...] = tuple(float(a) for a in np.logspace(0, 6, 13))
SEEN = "figures seen in training"
UNSEEN = "figures not seen in training"
CENTRED = "figures seen in training, test session's mean removed"
ANALYSES = (SEEN, UNSEEN, CENTRED)
_TIE = 1e-10
Floats = npt.NDArray[np.float64]
Folds = list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]


@dataclass(frozen=True, eq=False)
class FigureStudy:
    """What was found.

    Attributes
    ----------
    table : DataFrame
        One row per analysis: ``analysis``, ``transductive``, ``top1``, ``top1_low``, ``top1_high``
        (share of the blocks whose reconstruction is most like the figure that was shown, among
        those of its session), ``two_way`` and its interval, ``pixcorr``, ``candidates`` (their mean
        number), ``n_blocks``. Intervals are a bootstrap over figures.
    blocks : DataFrame
        One row per analysis and block: ``analysis``, ``stimulus``, ``session``, ``top1``,
        ``two_way``, ``pixcorr``, ``alpha``.
    pictures : dict of str to ndarray, shape (blocks, size, size, 3)
        Reconstructions by analysis, in the order of the recording.
    protocols : dict of str to Protocol
        How each came about.
    """

    table: pd.DataFrame
    blocks: pd.DataFrame
    pictures: dict[str, npt.NDArray[np.float32]]
    protocols: dict[str, Protocol]


def reconstruct_figures(
    recording: Recording,
    stimuli: StimulusSet,
    *,
    size: int = 28,
    alphas: npt.ArrayLike = PENALTIES,
    analyses: Sequence[str] = ANALYSES,
    progress: bool = True,
) -> FigureStudy:
    """Reconstruct figures by pixel ridge, leaving one session out at a time.

    Parameters
    ----------
    recording : Recording
        Averaged blocks with ``session`` and ``stimulus``, e.g. of
        `phosphene.data.readers.miyawaki2008.read_miyawaki2008`.
    stimuli : StimulusSet
        The figures.
    size : int
        Side of the reconstructions in pixels.
    alphas : sequence of float
        Penalties to choose from.
    analyses : sequence of str
        Which of ``ANALYSES``.
    progress : bool
        Show a bar when someone is watching.

    Returns
    -------
    FigureStudy

    Raises
    ------
    DataError
        With fewer than three sessions, when a session shows a single figure, or when figures
        cannot be left out because all sessions show the same.

    Notes
    -----
    For each test session, voxels are standardised on the training sessions only, and the penalty is
    the one of least error over these sessions, each left out in turn. For unseen figures all blocks
    of all figures of the test session are left out of training, so that truth and wrong answers are
    equally new, and the choice of the penalty leaves out figures in the same way.
    """
    unknown = [name for name in analyses if name not in ANALYSES]
    if unknown or not analyses:
        raise DataError("there is no such analysis", found=unknown or "none",
                        expected="some of " + ", ".join(map(repr, ANALYSES)))  # fmt: skip
    trials = recording.trials
    session = np.asarray(trials["session"], dtype=np.str_)
    shown = np.asarray(trials["stimulus"], dtype=np.str_)
    sessions = [str(name) for name in dict.fromkeys(session)]
    if len(sessions) < 3:
        raise DataError("leaving sessions out twice over needs three or more", found=len(sessions))
    generator = LinearPixel(size)
    x = np.asarray(recording.signals, dtype=np.float64).reshape(len(session), -1)
    figures = [str(name) for name in dict.fromkeys(shown)]
    colours = generator.targets("init_latents", stimuli, figures)
    place = np.array([figures.index(name) for name in shown])
    y = colours[place].reshape(len(x), -1)
    decoded = {name: np.empty_like(y) for name in analyses}
    chosen = {name: np.empty(len(x)) for name in decoded}
    for name in progress_bar(sessions, total=len(sessions), desc="sessions", enabled=progress):
        test = session == name
        if len(set(shown[test])) < 2:
            raise DataError("a session shows a single figure: nothing to tell it from", found=name)
        models: dict[bool, _Decoder] = {}
        for analysis in analyses:
            new = analysis == UNSEEN
            if new not in models:
                train = ~test & ~np.isin(shown, shown[test]) if new else ~test
                folds = _folds(session[train], shown[train] if new else None, str(name))
                models[new] = _Decoder(alphas, folds).fit(x[train], y[train])
            rows = x[test]
            if analysis == CENTRED:
                rows = rows - rows.mean(axis=0) + models[new].mean
            decoded[analysis][test] = models[new].predict(rows)
            chosen[analysis][test] = models[new].ridge.alpha_
    pictures = {
        analysis: generator.generate(
            init_latents=values.reshape(-1, 3, size, size), progress=False
        )[:, 0]
        for analysis, values in decoded.items()
    }
    parts = []
    for analysis, made in pictures.items():
        part = _scores(analysis, made, colours, place, shown, session)
        parts.append(part.assign(alpha=chosen[analysis]))
    blocks = pd.concat(parts, ignore_index=True)
    table = pd.DataFrame(
        [_summary(str(analysis), rows) for analysis, rows in blocks.groupby("analysis", sort=False)]
    )
    protocols = {analysis: _protocol(recording, analysis, sessions) for analysis in pictures}
    return FigureStudy(table, blocks, pictures, protocols)


class _Decoder:
    """Pixel ridge on standardised voxels; scale and penalty are those of the training blocks."""

    def __init__(self, alphas: npt.ArrayLike, folds: Folds) -> None:
        # One penalty for all pixels: hundreds of them would be chosen on ten figures.
        self.ridge = RidgeKFold(
            alphas, cv=folds, alpha_per_target=False, device="cpu", progress=False
        )

    def fit(self, x: Floats, y: Floats) -> Self:
        """Learn the scaling, choose the penalty and fit."""
        self.mean, scale = x.mean(axis=0), x.std(axis=0)
        self.scale = np.where(scale > 0, scale, 1.0)
        self.ridge.fit((x - self.mean) / self.scale, y)
        return self

    def predict(self, x: Floats) -> Floats:
        """Colours of new blocks."""
        return np.asarray(self.ridge.predict((x - self.mean) / self.scale))


def _folds(session: npt.NDArray[np.str_], shown: npt.NDArray[np.str_] | None, name: str) -> Folds:
    """Training sessions, each left out; with ``shown`` together with all of its figures."""
    folds: Folds = []
    for one in np.unique(session):
        out = session == one
        rest = ~out if shown is None else ~out & ~np.isin(shown, shown[out])
        if rest.sum() > 1:
            folds.append((np.flatnonzero(rest), np.flatnonzero(out)))
    if not folds:
        raise DataError(
            "figures cannot be left out: nothing is left to choose the penalty on",
            found=f"one set of figures without those of session {name}",
            expected="two sets or more",
            fix=f"leave out the analysis {UNSEEN!r}",
        )
    return folds


def _scores(
    analysis: str,
    made: npt.NDArray[np.float32],
    colours: npt.NDArray[np.float32],
    place: npt.NDArray[np.int64],
    shown: npt.NDArray[np.str_],
    session: npt.NDArray[np.str_],
) -> pd.DataFrame:
    """Identification of every block among the figures of its session; ties count by half."""
    real = unit_deviations(colours.transpose(0, 2, 3, 1).reshape(len(colours), -1))
    r = unit_deviations(made.reshape(len(made), -1)) @ real.T
    own = r[np.arange(len(r)), place]
    allowed = np.zeros(r.shape, dtype=bool)
    for name in np.unique(session):
        rows = session == name
        allowed[np.ix_(rows, np.unique(place[rows]))] = True
    allowed[np.arange(len(r)), place] = False
    lead = own[:, None] - r
    wins = ((lead > _TIE) & allowed).sum(axis=1)
    level = ((np.abs(lead) <= _TIE) & allowed).sum(axis=1)
    wrong = allowed.sum(axis=1)
    return pd.DataFrame({
        "analysis": analysis, "stimulus": shown, "session": session,
        "top1": np.where(wins + level == wrong, 1 / (1 + level), 0.0),
        "two_way": (wins + level / 2) / wrong, "pixcorr": own, "candidates": wrong + 1,
    })  # fmt: skip


def _summary(analysis: str, rows: pd.DataFrame) -> dict[str, object]:
    found: dict[str, object] = {"analysis": analysis, "transductive": analysis == CENTRED}
    for score in ("top1", "two_way"):
        low, high = bootstrap_interval(rows[score], rows["stimulus"], bounds=(0.0, 1.0))
        found |= {score: rows[score].mean(), f"{score}_low": low, f"{score}_high": high}
    return found | {"pixcorr": rows["pixcorr"].mean(), "candidates": rows["candidates"].mean(),
                    "n_blocks": len(rows)}  # fmt: skip


def _protocol(recording: Recording, analysis: str, sessions: list[str]) -> Protocol:
    transductive = ("mean of the test session removed",) if analysis == CENTRED else ()
    return Protocol(
        dataset=recording.name, modality=recording.modality, sessions=tuple(sessions),
        method="pixel ridge + linear_pixel", split_rule="leave one session out",
        split_kind="session" if analysis != UNSEEN else "session and its figures",
        zero_shot=analysis == UNSEEN, selection="inner leave one session out",
        gallery="figures of the session", transductive=transductive, uses_test_labels=False,
        uses_names=False, score="Pearson correlation over pixels",
    )  # fmt: skip

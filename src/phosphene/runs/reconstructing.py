"""Pictures of the held-out trials of a run, their scores, and the bounds beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phosphene._logging import get_logger
from phosphene.config import reconstructs
from phosphene.errors import RecipeError
from phosphene.runs.fitting import check_unchanged
from phosphene.runs.picture_scores import TRUE, PictureScores, score_pictures
from phosphene.runs.run import Run
from phosphene.runs.sources import Sources, load_sources

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phosphene.data.stimuli import StimulusSet
    from phosphene.evaluation.image_networks import Network
    from phosphene.evaluation.memorisation import Memorisation
    from phosphene.methods._reconstruction import Reconstruction

logger = get_logger(__name__)
PICTURES = "pictures"
# Pictures are compared at 425 pixels at most, as NSD shows them.
LARGEST = 425


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """The pictures of one person by one method, with what they are compared with.

    Attributes
    ----------
    label, modality, subject : str
        Method, and where the brain data are from.
    made : Reconstruction
        What was made of brain data.
    truths : ndarray of uint8, shape (queries, H, W, 3)
        What was seen.
    true : ndarray, optional
        Pictures (queries, samples, H, W, 3) of the true features, the method's upper bound.
    copies : Memorisation, optional
        Nearest training picture of every reconstruction.
    """

    label: str
    modality: str
    subject: str
    made: Reconstruction
    truths: NDArray[np.uint8]
    true: NDArray[np.float32] | None = None
    copies: Memorisation | None = None

    def rows(self) -> dict[str, NDArray[np.float32]]:
        """Pictures by row of the table: every stage, and the upper bound."""
        stages = dict(self.made.stages)
        named = {stage_label(self.label, s, len(stages)): p for s, p in stages.items()}
        return named | ({} if self.true is None else {TRUE: self.true})


@dataclass(frozen=True, eq=False)
class PictureOutcome:
    """What was reconstructed and how good it is.

    Attributes
    ----------
    folder : Path
        Where everything lies.
    title : str
        What was run; says so where data are simulated.
    parts : tuple of Reconstructed
        By person, modality and method.
    scores : PictureScores
        Of every picture.
    stimuli : StimulusSet
        With the training pictures, for the report.
    intro, licences
        What a reader must know.
    """

    folder: Path
    title: str
    parts: tuple[Reconstructed, ...]
    scores: PictureScores
    stimuli: StimulusSet
    intro: str = ""
    verdicts: Sequence[str] = ()
    licences: Sequence[tuple[str, str]] = field(default=())
    settings: Mapping[str, Any] = field(default_factory=dict)


def stage_label(method: str, stage: str, n_stages: int) -> str:
    """Name of a row.

    Examples
    --------
    >>> stage_label("minddiffuser", "stage2", 2), stage_label("linear pixels", "images", 1)
    ('minddiffuser, stages 1 + 2', 'linear pixels')
    """
    if n_stages == 1:
        return method
    number = stage.removeprefix("stage")
    return f"{method}, stage 1" if number == "1" else f"{method}, stages 1 + {number}"


def reconstruct(
    run: Run | str | Path,
    *,
    n: int = 1,
    seed: int = 0,
    bound: bool = True,
    networks: Mapping[str, Network] | None = None,
    sources: Sources | None = None,
    progress: bool = True,
) -> PictureOutcome:
    """Make pictures of the held-out trials of every fold of a run, and score them.

    Writes ``metrics.csv``, ``images.csv`` (scores of every picture), ``protocol.json`` and
    ``report.html`` into the run folder and the pictures below ``pictures/``. An interrupted call
    goes on at the next picture.

    Parameters
    ----------
    run : Run or path
        What ``fit`` wrote for a method that makes pictures.
    n : int
        Samples per query.
    seed : int
        Seed of the pictures.
    bound : bool
        Also make pictures of the true features: the method's upper bound, at the same cost.
    networks : mapping of str to Network, optional
        Networks that compare; those that come with pip by default.
    sources : Sources, optional
        Data and features of the run's recipe, when they are loaded already.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    PictureOutcome

    Raises
    ------
    RecipeError
        If the run's method retrieves and makes no pictures.
    DataError
        If the data are not those that the run was trained with.
    """
    from phosphene.runs.picture_files import write_run

    run = run if isinstance(run, Run) else Run.open(run)
    method = run.recipe.method.name
    if not reconstructs(method):
        raise RecipeError(
            f"{run.folder} holds a run of {method}, which retrieves and makes no pictures",
            fix=f"phosphene evaluate {run.folder}",
        )
    with run.changing():
        sources = sources or load_sources(run.recipe, progress=progress)
        check_unchanged(run, sources)
        # Counted before the first look: an interrupted call was a look too.
        run.update(opened=int(run.state["opened"]) + 1)
        assert sources.stimuli is not None
        parts = []
        for (name, label), fold in zip(run.folds.items(), sources.folds, strict=True):
            model = run.decoder(name)
            below = run.folder / PICTURES / (name or "all")
            made = model.reconstruct(
                fold.test, n=n, seed=seed, folder=below / "decoded",
                repetitions=run.recipe.evaluation.repetitions,
                zero_shot=run.recipe.evaluation.zero_shot,
                stimuli=sources.stimuli, progress=progress,
            )  # fmt: skip
            facts = {key: value for key, value in sources.facts.items() if value is not None}
            protocol = made.protocol.replace(test_openings=run.state["opened"], **facts)
            part = examine(
                replace(made, protocol=protocol), model, sources.stimuli, method, n=n, seed=seed,
                folder=below if bound else None, progress=progress,
            )  # fmt: skip
            logger.info("%s: %d pictures", label, len(made))
            parts.append(part)
        scores = PictureScores.join([_scored(part, networks, progress) for part in parts])
        outcome = PictureOutcome(
            run.folder, f"{run.recipe.name}: {method}", tuple(parts), scores, sources.stimuli,
            licences=(_licence(run.decoder(next(iter(run.folds)))),),
        )  # fmt: skip
        write_run(outcome)
        run.update(evaluated=True)
    return outcome


def examine(
    made: Reconstruction,
    model: Any,
    stimuli: StimulusSet,
    label: str,
    *,
    n: int,
    seed: int,
    folder: Path | None,
    copies: bool = True,
    progress: bool = False,
) -> Reconstructed:
    """Put the truth, the upper bound and the nearest training pictures beside a reconstruction.

    Parameters
    ----------
    made : Reconstruction
        Of held-out trials.
    model : Reconstructor
        That made it.
    stimuli : StimulusSet
        Pictures of training and test.
    label : str
        Name of the method.
    n, seed : int
        As for the reconstruction.
    folder : Path or None
        Where pictures of the true features are kept; None makes none.
    copies : bool
        Look for the nearest training picture of every reconstruction.
    progress : bool
        Show bars when someone is watching.
    """
    from phosphene.evaluation.image_networks import Network
    from phosphene.evaluation.memorisation import nearest_training_pictures

    truths = true_pictures(stimuli, made.ids)
    true = None
    if folder is not None:
        features = model.encode(stimuli, made.ids)
        true = model.generate(
            features, made.queries, n=n, seed=seed, folder=folder / "true", progress=progress
        ).images
    nearest = None
    if copies:
        nearest = nearest_training_pictures(
            made.images[:, 0], truths, stimuli, Network.from_encoder("efficientnet-lite0"),
            ids=made.ids, training_ids=model.train_stimuli_,
        )  # fmt: skip
    people = list(dict.fromkeys(made.queries["subject"]))
    modality = str(made.protocol.modality or model.modality_)
    return Reconstructed(label, modality, ", ".join(people), made, truths, true, nearest)


def true_pictures(stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[np.uint8]:
    """What was seen, as squares of one size (queries, H, H, 3)."""
    from phosphene.stimuli.images import fit

    pictures = list(stimuli.load_images(stimuli.select(list(ids)).ids))
    size = min(max(min(picture.shape[:2]) for picture in pictures), LARGEST)
    return np.stack([fit(picture, size) for picture in pictures])


def _scored(
    part: Reconstructed, networks: Mapping[str, Network] | None, progress: bool
) -> PictureScores:
    rows = part.rows()
    last = [name for name in rows if name != TRUE][-1]
    return score_pictures(
        rows, part.truths, part.made.ids, modality=part.modality, subject=part.subject,
        networks=networks, shuffled=last, progress=progress,
    )  # fmt: skip


def _licence(model: Any) -> tuple[str, str]:
    facts = model.generator_facts_
    return str(facts.get("id", "generator")), str(facts.get("licence", "unknown"))

"""A study of aligned vectors on recordings, as a recipe such as ``recipes/god`` describes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import get_logger
from phosphene.config import AlignmentRecipe, BankVectors, GodVectors, TableVectors
from phosphene.errors import DataError

if TYPE_CHECKING:
    from phosphene.data.recording import Recording
    from phosphene.runs.aligning import AlignmentOutcome
    from phosphene.stimuli.bank import FeatureBank

logger = get_logger(__name__)
GOD_FILE = "ImageFeatures.h5"


def align_recipe(
    recipe: AlignmentRecipe,
    out: str | Path,
    *,
    say: Callable[[str], None] | None = None,
) -> AlignmentOutcome:
    """Align vectors with recorded people, each left out in turn, decode, compare and report.

    Writes what `phosphene.runs.aligning.align_demo` writes. What was seen and what was imagined are
    parts of their own; both are decoded by what was learnt from seen training categories.

    Parameters
    ----------
    recipe : AlignmentRecipe
        See `phosphene.config.load_alignment_recipe`.
    out : path
        Folder of the results; an interrupted run continues from the finished parts there.
    say : callable, optional
        Gets a line of text after every step.

    Returns
    -------
    AlignmentOutcome

    Raises
    ------
    DataError
        If files are missing or damaged, categories have no vectors, regions are missing, there are
        fewer than 20 training or 4 test categories, or only one person.
    LeakError
        If test categories are among those of training, or candidates among either.
    StorageError
        If the files cannot be written.
    """
    from phosphene import __version__
    from phosphene._manifest import sha256_array, sha256_json
    from phosphene.runs._alignment_recorded import RecordedAlignment
    from phosphene.runs._alignment_study import Choices
    from phosphene.runs.aligning import require_folder, run_study

    folder, said = Path(out), say or (lambda line: None)
    require_folder(folder)
    people = _people(recipe)
    shown = {str(c) for one in people.values() for c in one.trials["concept"].unique()}
    vectors, candidates = _vectors(recipe, shown)
    decoder = recipe.decoder
    choices = Choices(
        region=recipe.region, alphas=tuple(recipe.alphas), aligner=recipe.aligner,
        others=recipe.others, decoder=decoder.name, voxels=decoder.voxels,
        penalty=decoder.penalty, components=decoder.components, draws=recipe.draws,
        clusters=recipe.clusters, seed=recipe.seed,
    )  # fmt: skip
    about = RecordedAlignment(
        people, vectors, candidates, choices, grid=list(dict.fromkeys(recipe.regions)),
        name=recipe.name, dataset=recipe.data.reader,
    )  # fmt: skip
    about.check()
    said(f"{len(people)} people, {len(about.names)} categories, {len(candidates)} candidates")
    signals = {subject: sha256_array(one.signals) for subject, one in people.items()}
    settings = {
        "recipe": recipe.to_dict(),
        "given": sha256_json([signals, vectors.hash, candidates.hash]),
        "version": __version__,
    }
    return run_study(about, folder, settings, said)


def _people(recipe: AlignmentRecipe) -> dict[str, Recording]:
    """One recording per person."""
    from phosphene.runs.data import select_signals
    from phosphene.runs.readers import read_people

    found: dict[str, Recording] = {}
    for recording in read_people(recipe.data):
        recording = select_signals(recording, recipe.data)
        subjects = recording.trials["subject"].astype(str)
        for subject in subjects.unique():
            if subject in found:
                raise DataError(f"the person {subject!r} was read twice", found=recording.name)
            found[subject] = recording.select((subjects == subject).to_numpy())
    return found


def _vectors(recipe: AlignmentRecipe, shown: set[str]) -> tuple[FeatureBank, FeatureBank]:
    """Vectors of what was shown, and of the wrong answers."""
    choice = recipe.vectors
    if isinstance(choice, GodVectors):
        return _of_god(choice, recipe.data.root, shown, recipe.seed)
    if isinstance(choice, TableVectors):
        return _of_table(choice.path), _of_table(choice.candidates)
    assert isinstance(choice, BankVectors)
    return _of_bank(choice.path, choice.layer), _of_bank(choice.candidates, choice.layer)


def _of_god(
    choice: GodVectors, root: Path, shown: set[str], seed: int
) -> tuple[FeatureBank, FeatureBank]:
    from phosphene import _random
    from phosphene.data.readers.god import read_god_features
    from phosphene.stimuli.bank import FeatureBank

    path = choice.path or (root if root.is_dir() else root.parent) / GOD_FILE
    about: dict[str, Any] = {"encoder": {"id": f"god:{choice.layer}"}}
    banks = []
    for kinds in (("train", "test"), ("candidate",)):
        found = read_god_features(path, choice.layer, kinds)
        banks.append(
            FeatureBank.from_arrays(
                found.ids,
                {("original", choice.layer): found.vectors},
                concepts=found.concepts,
                provenance=about,
            )
        )
    vectors, candidates = banks
    # The list of candidates may hold categories that were shown.
    free = sorted(
        id
        for id, concept in zip(candidates.ids, candidates.stimuli["concept"], strict=True)
        if str(concept) not in shown
    )
    if not free:
        raise DataError(f"{path} has no candidates that nobody was shown")
    order = _random.generator(seed, "alignment candidates").permutation(len(free))
    kept = sorted(free[i] for i in order[: choice.n_candidates])
    if len(free) < choice.n_candidates:
        logger.warning(
            "%s has %d candidates, fewer than the %d asked for", path, len(free),
            choice.n_candidates,
        )  # fmt: skip
    return vectors, candidates.select(kept)


def _of_table(path: Path) -> FeatureBank:
    from phosphene.runs.aligning_tables import read_vectors
    from phosphene.stimuli.bank import FeatureBank

    table = read_vectors(path)
    names = [str(name) for name in table.index]
    return FeatureBank.from_arrays(names, {"original": table.to_numpy("float32")}, concepts=names)


def _of_bank(path: Path, layer: str | None) -> FeatureBank:
    from phosphene.stimuli.bank import FeatureBank

    bank = FeatureBank.load(path)
    if layer is None:
        return bank
    view = "original" if "original" in bank.views else bank.views[0]
    return FeatureBank.from_arrays(
        bank.ids, {(view, layer): bank.vectors(view, layer)},
        concepts=bank.stimuli["concept"].astype(str).tolist(), provenance=bank.provenance,
    )  # fmt: skip

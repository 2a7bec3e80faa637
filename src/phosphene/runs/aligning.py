"""Brain-aligned vectors, end to end on a simulated study of fMRI, MEG and ECoG.

Vectors of pictures are aligned with the fMRI of all people but one, and test categories are
decoded from that one, and from the MEG and ECoG of others, into the aligned space and into every
control's. Finished parts of the same settings are not computed again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phosphene._logging import get_logger
from phosphene._tables import read_table, write_table
from phosphene.errors import ArtefactError, DataError
from phosphene.runs._kept import keep_if_same

if TYPE_CHECKING:
    import pandas as pd

    from phosphene.methods.alignment_decoders import DecoderName
    from phosphene.reports.alignment_sections import AlignmentFindings
    from phosphene.runs._alignment_study import AlignmentStudy, Choices
    from phosphene.simulation.multimodal import MultimodalStudy
    from phosphene.simulation.world import World
    from phosphene.stimuli.bank import FeatureBank

logger = get_logger(__name__)
WORLDS = {True: "multimodal-quick", False: "multimodal"}
# All named pictures that the full world shows nobody; a part of them in the quick one.
CANDIDATES = {True: 300, False: 660}
DRAWS = {True: 3, False: 10}
# The quick demo stops the variants that are trained early, where they score as after 500 epochs;
# its report says so.
EPOCHS = {True: {"autoencoder": 300, "residual": 100}, False: {}}
PARTS = "parts"
TABLES = ("queries", "subjects", "words")


@dataclass(frozen=True, eq=False)
class AlignmentOutcome:
    """What the study of aligned vectors found and where it lies.

    Attributes
    ----------
    folder : Path
        Where everything lies.
    findings : AlignmentFindings
        Tables, figures' data and what follows from them.
    title : str
        Says what was run, and that the data are simulated.
    """

    folder: Path
    findings: AlignmentFindings
    title: str


def align_demo(
    out: str | Path,
    *,
    quick: bool = False,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
    progress: bool = True,
    study: MultimodalStudy | None = None,
    candidates: FeatureBank | None = None,
    decoder: DecoderName = "ridge",
    voxels: int | None = None,
) -> AlignmentOutcome:
    """Align, decode three modalities, compare with every control, and write a report.

    Writes ``alignment.csv`` (the table), ``queries.csv``, ``subjects.csv``, ``grid.csv``,
    ``words.csv``, ``statistics.csv``, ``embedding.csv``, ``protocol.json``, ``report.html`` and
    ``manifest.json``, and below ``parts/`` what every finished part found, from which an
    interrupted run continues.

    Parameters
    ----------
    out : path
        Folder of the results.
    quick : bool
        60 training categories, 20 of test and 300 candidates instead of 150, 50 and 660, and
        autoencoder and residual trained for 300 and 100 epochs instead of 500.
    seed : int
        Seed of people, noise and shufflings.
    say : callable, optional
        Gets a line of text after every step.
    progress : bool
        Show bars when someone is watching.
    study, candidates : MultimodalStudy and FeatureBank, optional
        A simulated study with fMRI, and vectors of concepts that it does not show, instead of the
        library's own.
    decoder, voxels : {"ridge", "ols", "pls"}, int, optional
        How responses are turned into vectors, see
        `phosphene.methods.alignment_decoders.linear_decoder`.

    Returns
    -------
    AlignmentOutcome

    Raises
    ------
    DataError
        If only one of ``study`` and ``candidates`` is given, or nobody was measured by fMRI.
    LeakError
        If candidates are concepts of the study.
    StorageError
        If the files cannot be written.
    """
    from phosphene.runs._alignment_simulated import SimulatedAlignment
    from phosphene.runs._alignment_study import VARIANTS, Choices
    from phosphene.simulation.world import get_world

    folder, said = Path(out), say or (lambda line: None)
    require_folder(folder)
    if (study is None) != (candidates is None):
        raise DataError("a study and its candidates are given together, or neither")
    if study is not None and "fmri" not in study.modalities:
        raise DataError(
            "vectors are aligned with fMRI, and nobody was measured by it",
            found=", ".join(study.modalities),
        )
    world = get_world(WORLDS[quick])
    early = EPOCHS[quick]
    others = {row: {**p, "epochs": early.get(row, 500)} for row, p in VARIANTS.items()}
    choices = Choices(draws=DRAWS[quick], seed=seed, decoder=decoder, voxels=voxels, others=others)
    settings = _settings(world, quick, choices)
    if study is not None and candidates is not None:
        settings |= {"given": _digest(study, candidates), "candidates": len(candidates)}
    if study is None or candidates is None:
        study, candidates = _own_study(world, quick, seed, said, progress)
    about = SimulatedAlignment(study, candidates, choices, world=world.name, world_hash=world.hash)
    about.check()
    return run_study(about, folder, settings, said)


def require_folder(folder: Path) -> None:
    """Refuse a file where the folder of the results should be."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", expected="a folder")


def run_study(
    about: AlignmentStudy, folder: Path, settings: dict[str, Any], said: Callable[[str], None]
) -> AlignmentOutcome:
    """Compute the parts of a study that are not finished, and write the results."""
    from phosphene.runs.aligning_files import findings, write

    keep_if_same(folder / PARTS, settings)
    steps = [*about.modalities, *(f"region {region}" for region in about.regions)]
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for number, step in enumerate(steps, 1):
        started = time.perf_counter()
        tables[step], fresh = _step(folder / PARTS, step, about)
        done = f"{time.perf_counter() - started:.1f} s" if fresh else "was done before"
        said(f"[{number}/{len(steps)}] {step} ({done})")
    found = findings(about, tables)
    outcome = AlignmentOutcome(folder, found, about.title)
    write(outcome, tables, settings)
    return outcome


def _settings(world: World, quick: bool, choices: Choices) -> dict[str, Any]:
    from dataclasses import asdict

    from phosphene import __version__
    from phosphene.runs._alignment_study import WINDOWS

    return {
        "world": world.name,
        "world_hash": world.hash,
        "candidates": CANDIDATES[quick],
        **asdict(choices),
        "alphas": list(choices.alphas),
        "windows": WINDOWS,
        "version": __version__,
    }


def _digest(study: MultimodalStudy, candidates: FeatureBank) -> str:
    """What was given, in a word."""
    from phosphene._manifest import sha256_array, sha256_json

    signals = {
        subject: sha256_array(recording.signals)
        for modality in study.modalities
        for subject, recording in study.recordings(modality).items()
    }
    return sha256_json([signals, study.bank.hash, candidates.hash])


def _own_study(
    world: World, quick: bool, seed: int, said: Callable[[str], None], progress: bool
) -> tuple[MultimodalStudy, FeatureBank]:
    from phosphene.simulation.multimodal import simulate_multimodal

    started = time.perf_counter()
    said(
        f"pictures and features: {world.n_stimuli + CANDIDATES[quick]} pictures, "
        f"up to {world.encoder_passes + CANDIDATES[quick]} passes of {world.encoder}"
    )
    study = simulate_multimodal(world, seed=seed, averaged=True, progress=progress)
    shown = set(study.scene.table["concept"])
    candidates = candidate_bank(world, shown, CANDIDATES[quick], progress=progress)
    people = ", ".join(f"{len(study.recordings(m))} {m}" for m in study.modalities)
    said(f"pictures, features and people ({people}): {time.perf_counter() - started:.0f} s")
    return study, candidates


def candidate_bank(
    world: World, shown: Sequence[str] | set[str], n: int, *, progress: bool = True
) -> FeatureBank:
    """Vectors of one picture of each of ``n`` concepts that are not shown, in the world's space.

    Parameters
    ----------
    world : World
        Of the encoder, layer and pictures.
    shown : collection of str
        Concepts that are left out.
    n : int
        How many; all there are when fewer.
    progress : bool
        Show bars when someone is watching.
    """
    from phosphene import _random
    from phosphene.simulation.pictures import demo_pictures, picture_set
    from phosphene.stimuli.bank import FeatureBank

    free = [name for name, _ in demo_pictures() if name not in set(shown)]
    order = _random.generator(world.picture_seed, "alignment candidates").permutation(len(free))
    chosen = sorted(free[i] for i in order[:n])
    pictures = picture_set(chosen, 1, world.picture_seed, world.picture_size)
    return FeatureBank.extract(
        pictures, world.encoder, ("original",), (world.target_layer,), progress=progress
    )


def _step(parts: Path, step: str, about: AlignmentStudy) -> tuple[dict[str, pd.DataFrame], bool]:
    """Tables of one part, computed unless they were before; the last table marks the end."""
    region = step.removeprefix("region ") if step.startswith("region ") else None
    names = ("grid",) if region else TABLES
    paths = {name: parts / f"{step.replace(' ', '-')}-{name}.csv" for name in names}
    if paths[names[-1]].is_file():
        try:
            return {name: read_table(path) for name, path in paths.items()}, False
        except ArtefactError as error:
            logger.warning("%s; computed anew", error.what)
    tables = {"grid": about.region(region)} if region else about.modality(step)
    for name, path in paths.items():
        write_table(path, tables[name])
    return tables, True

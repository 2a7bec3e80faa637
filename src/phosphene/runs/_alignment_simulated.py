"""A simulated study of fMRI, MEG and ECoG, as `AlignmentStudy` asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from phosphene.data.recording import Recording
from phosphene.evaluation.protocol import Protocol, git_commit
from phosphene.methods._alignment_inputs import bank_rows
from phosphene.runs._alignment_study import WINDOWS, AlignmentStudy, Choices, Matrix
from phosphene.runs.demo_files import LICENCES

if TYPE_CHECKING:
    from phosphene.simulation.multimodal import MultimodalStudy
    from phosphene.stimuli.bank import FeatureBank


class SimulatedAlignment(AlignmentStudy):
    """People of a multimodal world; vectors are aligned with those measured by fMRI.

    Parameters
    ----------
    study : MultimodalStudy
        Recordings and vectors.
    candidates : FeatureBank
        Vectors of the wrong answers, of concepts that nobody was shown.
    choices : Choices
        How it is done.
    world, world_hash : str
        For titles and protocol.
    """

    def __init__(
        self,
        study: MultimodalStudy,
        candidates: FeatureBank,
        choices: Choices,
        *,
        world: str = "multimodal",
        world_hash: str = "",
    ) -> None:
        super().__init__(choices)
        self.study, self._candidates = study, candidates
        self._world, self._world_hash = world, world_hash

    @property
    def modalities(self) -> tuple[str, ...]:
        """What was measured, fMRI first."""
        return tuple(sorted(self.study.modalities, key=lambda name: name != "fmri"))

    def categories(self, split: str) -> list[str]:
        """Sorted names of the concepts that are ``train`` or ``test``."""
        return self.study.concepts(split)

    def recordings(self, modality: str) -> Mapping[str, Recording]:
        """People by name."""
        return self.study.recordings(modality)

    def vectors_of(self, names: list[str]) -> Matrix:
        """Mean vector of the pictures of every category."""
        return bank_rows(self.study.bank, names)

    @property
    def candidates(self) -> FeatureBank:
        """Vectors of the wrong answers."""
        return self._candidates

    @property
    def title(self) -> str:
        """World and seed."""
        return f"SIMULATED DATA: world {self._world!r}, seed {self.choices.seed}"

    @property
    def licences(self) -> list[tuple[str, str]]:
        """Of pictures and image vectors."""
        return [pair for pair in LICENCES if "text" not in pair[0]]

    def protocol(self, modality: str) -> Protocol:
        """How the numbers of a modality came about."""
        from phosphene import __version__

        recordings = self.study.recordings(modality)
        first = next(iter(recordings.values()))
        tested = first.trials[first.trials["split"] == "test"]
        learned = first.trials[first.trials["split"] == "train"]
        origin = self.study.bank.provenance.get("encoder") or {}
        steps = ["trials of a category averaged", "units z-scored by training categories"]
        window: tuple[float, float] | None = None
        if first.times is not None:
            window = (float(first.times[0]), float(first.times[-1]))
            steps.insert(0, f"averaged in windows of {WINDOWS[modality]:g} s")
        region = self.choices.region
        left = "each fMRI person left out in turn" if modality == "fmri" else "all fMRI people"
        return Protocol(
            dataset="simulated multimodal study",
            simulated=True,
            world=f"{self._world} {self._world_hash[:12]}",
            modality=modality,
            subjects=tuple(recordings),
            n_channels=None if modality == "fmri" else len(first.sensors),
            rois=(region,) if modality == "fmri" else None,
            time_window=window,
            sfreq=first.sensors.sfreq,
            preprocessing=tuple(steps),
            train_repetitions=int(learned["n_averaged"].max()),
            test_repetitions=int(tested["n_averaged"].max()),
            split_rule="by concept",
            split_kind="concepts",
            zero_shot=True,
            n_train_stimuli=int(learned["stimulus"].nunique()),
            n_train_concepts=int(learned["concept"].nunique()),
            validation="cross-validation over training categories (alpha, penalty)",
            direction="brain_to_image",
            gallery="exact",
            gallery_size=len(self.wrong) + 1,
            gallery_view="original",
            uses_names=False,
            score="Pearson correlation of decoded and candidate vectors",
            transductive=(),
            uses_test_labels=False,
            image_encoder=origin.get("id"),
            image_encoder_hash=origin.get("weights_hash"),
            layer=self.study.bank.layers[0],
            views=("original",),
            method=f"{self.choices.method}; RSMs of {region}, {left}",
            selection="held_out_concepts",
            seeds=(self.choices.seed,),
            library_version=__version__,
            git_commit=git_commit(),
            notes=self.choices.notes,
        )

"""One scene seen by many people, each measured by fMRI, MEG or ECoG.

For questions that cross modalities: vectors aligned with the fMRI of some people, decoded from the
MEG and ECoG of others. All people see the same pictures of the same concepts, some of them only in
the test; each responds in an own way, as far as the world's ``similarity`` allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phosphene.data.recording import Recording
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.simulation.meg import meg_names
from phosphene.simulation.scene import Scene, make_scene
from phosphene.simulation.study import Study, simulate
from phosphene.simulation.world import World, WorldModality, get_world, in_modality
from phosphene.stimuli.bank import FeatureBank

SUBJECTS: Mapping[WorldModality, int] = {"fmri": 5, "meg": 3, "ecog": 4}
"""How many people by modality, as in the study of brain-aligned semantic vectors."""


@dataclass(frozen=True, eq=False)
class MultimodalStudy:
    """Studies of one scene, by modality.

    Parameters
    ----------
    scene : Scene
        Pictures and features, common to all.
    studies : mapping of str to Study
        By modality; each with its recordings and the truth of its people.
    """

    scene: Scene
    studies: Mapping[str, Study]

    @property
    def modalities(self) -> tuple[str, ...]:
        """What was measured."""
        return tuple(self.studies)

    @property
    def stimuli(self) -> StimulusSet | None:
        """The pictures, unless only features were given."""
        return self.scene.stimuli

    @property
    def bank(self) -> FeatureBank:
        """Features for decoders."""
        return self.scene.bank

    def concepts(self, split: str) -> list[str]:
        """Sorted names of the concepts that are ``train`` or ``test``."""
        table = self.scene.table
        return sorted(set(table.loc[table["split"] == split, "concept"]))

    def recordings(self, modality: str, split: str | None = None) -> dict[str, Recording]:
        """Recordings of all people measured so, by subject; all trials or those of a split.

        Raises
        ------
        DataError
            If the modality was not measured.
        """
        if modality not in self.studies:
            raise DataError(
                f"nobody was measured by {modality!r}", found=", ".join(self.modalities)
            )
        found = self.studies[modality].recordings
        if split is None:
            return dict(found)
        return {name: one.select(split=split) for name, one in found.items()}


def simulate_multimodal(
    world: str | World = "multimodal",
    *,
    subjects: Mapping[WorldModality, int] = SUBJECTS,
    seed: int = 0,
    bank: FeatureBank | None = None,
    early: FeatureBank | None = None,
    text: FeatureBank | None = None,
    scene: Scene | None = None,
    overrides: Mapping[WorldModality, Mapping[str, Any]] | None = None,
    averaged: bool = False,
    progress: bool = True,
) -> MultimodalStudy:
    """Show one scene to people who are measured differently.

    Parameters
    ----------
    world : str or World
        Pictures, concepts, repetitions and what people are like; every modality is this world by
        `in_modality`. ``multimodal`` has 150 concepts to learn from and 50 to test,
        ``multimodal-quick`` 60 and 20.
    subjects : mapping of modality to int
        How many people by modality: five fMRI, three MEG and four ECoG by default. They are
        different people: ``fmri-01``, ``meg-01``, ``ecog-01`` and so on.
    seed : int
        Seed of people, trials and noise.
    bank, early, text, scene
        Pictures and features to use instead of the world's own, see `make_scene`.
    overrides : mapping of modality to mapping, optional
        Parameters of the world to replace in one modality, e.g. ``{"ecog": {"noise": 0.5}}``.
    averaged : bool
        One average per stimulus instead of single trials.
    progress : bool
        Show bars when someone is watching.

    Returns
    -------
    MultimodalStudy
        MEG holds the 32 magnetometers over the back of the head.
    """
    world = get_world(world)
    overrides = {} if overrides is None else overrides
    if not subjects or min(subjects.values()) < 1:
        raise DataError("every modality needs at least one subject", found=dict(subjects))
    if idle := sorted(set(overrides) - set(subjects)):
        raise DataError(f"overrides for modalities that nobody is measured by: {listing(idle)}")
    worlds = {
        modality: get_world(in_modality(world, modality), **overrides.get(modality, {}))
        for modality in subjects
    }
    if scene is None:
        scene = make_scene(world, bank=bank, early=early, text=text, progress=progress)
    studies: dict[str, Study] = {
        modality: simulate(
            worlds[modality],
            subjects=[f"{modality}-{number + 1:02d}" for number in range(n)],
            seed=seed,
            scene=scene,
            channels=meg_names("mag", posterior=True) if modality == "meg" else None,
            averaged=averaged,
        )
        for modality, n in subjects.items()
    }
    return MultimodalStudy(scene, studies)

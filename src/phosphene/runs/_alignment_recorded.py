"""Recordings of voxels, such as of GOD, as `AlignmentStudy` asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import pandas as pd

from phosphene.data.recording import Recording
from phosphene.errors import DataError, listing
from phosphene.evaluation.protocol import Protocol, git_commit
from phosphene.methods._alignment_inputs import bank_rows
from phosphene.runs._alignment_study import AlignmentStudy, Choices, Matrix
from phosphene.stimuli.bank import FeatureBank

SEEN, IMAGINED = "seen", "imagined"


class RecordedAlignment(AlignmentStudy):
    """People whose voxels were recorded, with what they saw and, where they did, imagined.

    Parameters
    ----------
    people : mapping of str to Recording
        By subject. Trials say ``concept``, ``split`` (train, test) and, where something was
        imagined, ``condition`` (seen, imagined).
    vectors : FeatureBank
        Of the pictures or categories that were shown.
    candidates : FeatureBank
        Vectors of the wrong answers.
    choices : Choices
        How it is done.
    grid : sequence of str
        Regions of the grid.
    name, dataset : str
        Of the recipe; what was recorded.
    """

    def __init__(
        self,
        people: Mapping[str, Recording],
        vectors: FeatureBank,
        candidates: FeatureBank,
        choices: Choices,
        *,
        grid: list[str],
        name: str,
        dataset: str,
    ) -> None:
        super().__init__(choices)
        self.people, self.bank, self._candidates = dict(people), vectors, candidates
        self._grid, self._name, self._dataset = grid, name, dataset

    def check(self) -> None:
        """Refuse what cannot be a study, see `AlignmentStudy.check`; regions are looked for too."""
        for subject, recording in self.people.items():
            if recording.modality != "fmri":
                raise DataError(
                    f"{subject!r} was not measured in voxels", found=recording.modality,
                    fix="other modalities take part in phosphene align --demo only",
                )  # fmt: skip
            wanted = dict.fromkeys([self.choices.region, *self._grid])
            if missing := [r for r in wanted if r not in recording.sensors.rois]:
                raise DataError(
                    f"{recording.name!r} lacks regions of the recipe",
                    found=f"no {listing(missing)}; it has {listing(recording.sensors.rois, 20)}",
                    fix="set region and regions to those that all people have",
                )
        super().check()
        for modality in self.modalities:
            for recording in self.recordings(modality).values():
                shown = set(recording.trials["concept"].astype(str))
                if missing := [name for name in self.names if name not in shown]:
                    raise DataError(
                        f"categories were never {modality} in {recording.name!r}",
                        found=f"{len(missing)} missing: {listing(missing)}",
                        expected="every category for every person",
                    )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Seen images, and imagined ones where all people imagined some."""
        tables = [recording.trials for recording in self.people.values()]
        imagined = all("condition" in t and (t["condition"] == IMAGINED).any() for t in tables)
        return (SEEN, IMAGINED) if imagined else (SEEN,)

    def categories(self, split: str) -> list[str]:
        """Sorted names of the concepts that anyone saw in a split."""
        names: set[str] = set()
        for recording in self._by_modality[SEEN].values():
            trials = recording.trials
            names |= set(trials.loc[trials["split"] == split, "concept"].astype(str))
        return sorted(names)

    def recordings(self, modality: str) -> Mapping[str, Recording]:
        """People with their training trials and the test trials that were seen or imagined."""
        return self._by_modality[modality]

    @cached_property
    def _by_modality(self) -> dict[str, dict[str, Recording]]:
        found: dict[str, dict[str, Recording]] = {}
        for modality in self.modalities:
            found[modality] = {}
            for subject, recording in self.people.items():
                trials = recording.trials
                kept = trials["split"].isin(["train", "test"])
                if "condition" in trials:
                    imagined = trials["condition"] == IMAGINED
                    own = imagined if modality == IMAGINED else ~imagined
                    kept &= (trials["split"] == "train") & ~imagined | (
                        trials["split"] == "test"
                    ) & own
                found[modality][subject] = recording.select(kept.to_numpy())
        return found

    def vectors_of(self, names: list[str]) -> Matrix:
        """Mean vector of the pictures of every category."""
        return bank_rows(self.bank, names)

    @property
    def candidates(self) -> FeatureBank:
        """Vectors of the wrong answers."""
        return self._candidates

    @property
    def regions(self) -> list[str]:
        """Regions of the grid."""
        return self._grid

    @property
    def title(self) -> str:
        """Recipe, data and people."""
        return f"{self._name}: {self._dataset}, {len(self.people)} people, seed {self.choices.seed}"

    @property
    def licences(self) -> list[tuple[str, str]]:
        """Nothing that the library brings along."""
        return []

    def protocol(self, modality: str) -> Protocol:
        """How the numbers of seen or imagined images came about."""
        from phosphene import __version__

        recordings = self.recordings(modality)
        first = next(iter(recordings.values()))
        tables = {
            split: first.trials[first.trials["split"] == split] for split in ("train", "test")
        }
        origin = self.bank.provenance.get("encoder") or {}
        region = self.choices.region
        return Protocol(
            dataset=self._dataset,
            simulated=False,
            modality="fmri",
            subjects=tuple(recordings),
            n_channels=len(first.pick(roi=region).sensors),
            rois=(region,),
            preprocessing=(
                "trials of a category averaged",
                "units z-scored by training categories",
            ),
            train_repetitions=_most(tables["train"]),
            test_repetitions=_most(tables["test"]),
            split_rule="column split",
            split_kind="concepts",
            zero_shot=True,
            n_train_stimuli=int(tables["train"]["stimulus"].nunique()),
            n_train_concepts=len(self.names[self.train]),
            validation="cross-validation over training categories (alpha, penalty)",
            direction="brain_to_image",
            gallery="exact",
            gallery_size=len(self.wrong) + 1,
            gallery_view=self.bank.views[0],
            uses_names=False,
            score="Pearson correlation of decoded and candidate vectors",
            transductive=(),
            uses_test_labels=False,
            image_encoder=origin.get("id"),
            image_encoder_hash=origin.get("weights_hash"),
            layer=self.bank.layers[0],
            views=(self.bank.views[0],),
            method=f"{self.choices.method}; RSMs of {region}, each person left out in turn",
            selection="held_out_concepts",
            seeds=(self.choices.seed,),
            library_version=__version__,
            git_commit=git_commit(),
            notes=(f"{modality} images", *self.choices.notes),
        )


def _most(trials: pd.DataFrame) -> int:
    """Trials of the category that was shown most."""
    return int(trials.groupby("concept").size().max())

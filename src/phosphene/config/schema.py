"""The sections of a recipe as pydantic models: every key, its type and its default.

A recipe has the sections ``data``, ``features``, ``split``, ``method`` and ``evaluation``. Unknown
keys are errors that name the nearest valid one. Paths may be relative to the recipe's folder and
may hold ``~`` and environment variables.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from phosphene.errors import PhospheneError, listing


def _expand(path: Path, info: ValidationInfo) -> Path:
    """Make a recipe's path absolute: environment variables, ``~``, then the recipe's folder."""
    text = os.path.expandvars(str(path))
    if missing := re.findall(r"\$\{?(\w+)\}?", text):
        raise ValueError(f"the environment variable {listing(missing)} is not set")
    base = Path((info.context or {}).get("folder", "."))
    return Path(os.path.normpath(base.absolute() / Path(text).expanduser()))


RecipePath = Annotated[Path, AfterValidator(_expand)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Signals(_Section):
    """What every kind of data can be cut to.

    Parameters
    ----------
    channels : list of str, or str, optional
        Names, or ``occipito-parietal`` for the 17 channels over visual cortex.
    roi : str, optional
        Region of interest (voxels).
    window : two floats, optional
        First and last time, seconds.
    """

    channels: list[str] | Literal["occipito-parietal"] | None = None
    roi: str | None = None
    window: tuple[float, float] | None = None


class SimulatedData(Signals):
    """A recording from a named simulated world.

    Parameters
    ----------
    world : str
        Registered name (``phosphene list worlds``).
    params : dict
        Parameters of the world that differ from its definition, e.g. ``{signal: 0}``.
    subjects : int or list of str
        How many people, or their names ("01", "02", ...).
    seed : int, optional
        Seed of people, trials and noise; the recipe's own by default.
    averaged : bool
        One average per stimulus instead of single trials.
    train_repetitions, test_repetitions : int
        Trials per stimulus.
    """

    kind: Literal["simulated"]
    world: str = "standard"
    params: dict[str, Any] = Field(default_factory=dict)
    subjects: PositiveInt | list[str] = 1
    seed: int | None = Field(default=None, ge=0)
    averaged: bool = True
    train_repetitions: PositiveInt = 4
    test_repetitions: PositiveInt = 80


class RecordingData(Signals):
    """Recordings that were saved by phosphene, ``-epo.fif`` files of MNE or ``.npz`` archives.

    Parameters
    ----------
    path : path or list of paths
        One file or folder per part; parts are joined.
    stimulus, concept : str
        Columns of the metadata of ``-epo.fif`` files; the concept follows from the stimulus's path
        when its column is not named.
    """

    kind: Literal["recording"]
    path: RecipePath | list[RecipePath]
    stimulus: str = "stimulus"
    concept: str | None = None


class BlockAverage(_Section):
    """One average per block of volumes, labels moved later by the delay of the blood response.

    Parameters
    ----------
    shift_trs : int
        Delay in volumes.
    drop : list of str
        Labels that are no stimulus.
    """

    shift_trs: int = Field(default=2, ge=0)
    drop: list[str] = Field(default_factory=lambda: ["rest"])


class NiftiPreprocess(_Section):
    """What is done to the voxels; every step works within one run and learns from none.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend.
    zscore : "run" or None
        Divide by the standard deviation of the run.
    block_average : BlockAverage or None
        Average blocks; single volumes otherwise.
    """

    detrend: bool = True
    zscore: Literal["run"] | None = "run"
    block_average: BlockAverage | None = BlockAverage()


class NiftiData(Signals):
    """A 4-D NIfTI image with a mask and a table of labels (one row per volume).

    Parameters
    ----------
    bold, mask, labels : path
        The files.
    subject : str
        Who it is.
    tr : float, optional
        Seconds between volumes; from the header by default.
    concepts : dict of str to str
        Words for labels, where a label is no word.
    preprocess : NiftiPreprocess
        What is done to the voxels.
    """

    kind: Literal["nifti"]
    bold: RecipePath
    mask: RecipePath
    labels: RecipePath
    subject: str = "01"
    tr: float | None = Field(default=None, gt=0)
    concepts: dict[str, str] = Field(default_factory=dict)
    preprocess: NiftiPreprocess = NiftiPreprocess()


class ReaderData(Signals):
    """People of a data set, found below a folder by a registered reader.

    Parameters
    ----------
    reader : str
        Registered name, such as ``things_eeg2``.
    root : path
        Folder of the data set (of a reader of single files: the file).
    subject : int, str or list of them
        Who: 8, "08" or "sub-08" as the reader understands it, several, or ``all``.
    params : dict
        Further arguments of the reader, e.g. ``{dtype: float16}``. Paths among them that exist
        below ``root`` are taken from there.
    """

    kind: Literal["reader"]
    reader: str
    root: RecipePath
    subject: int | str | Annotated[list[int | str], Field(min_length=1)] = "all"
    params: dict[str, Any] = Field(default_factory=dict)

    def people(self) -> list[int | str] | None:
        """Who is asked for, each once; None for all."""
        if self.subject == "all":
            return None
        return list(dict.fromkeys(self.subject if isinstance(self.subject, list)
                                  else [self.subject]))  # fmt: skip


class NameVectors(_Section):
    """Vectors of the concepts' names beside those of the pictures.

    Parameters
    ----------
    encoder : str
        Registered text encoder, e.g. ``use`` or ``clip-text:openai/clip-vit-base-patch32``.
    prompt : str or list of str
        Template with ``{concept}``, or the name of known ones, such as ``photo``.
    """

    encoder: str
    prompt: str | list[str] = "photo"


class ImageFeatures(_Section):
    """Vectors of an image encoder, for the pictures of a folder or of the simulated world.

    Parameters
    ----------
    folder : path, optional
        Pictures: a folder, a CSV file with columns ``stimulus`` and ``path``, or NSD's
        ``nsd_stimuli.hdf5``. Without it a simulated world has its own, and data of kind ``reader``
        are searched below ``data.root``.
    encoder : str
        Registered image encoder, or ``kind:SOURCE`` such as ``clip:openai/clip-vit-base-patch32``.
    views : list of str, optional
        Views of the pictures; those that the method asks for by default.
    layers : list of str, optional
        Layers of the encoder; its default layer by default.
    text : NameVectors, optional
        Vectors of the concepts' names, for methods that use them.
    captions : path, optional
        CSV file with columns ``stimulus`` and ``caption``, for methods that make pictures from
        words; the concepts' names by default.
    """

    kind: Literal["images"]
    folder: RecipePath | None = None
    captions: RecipePath | None = None
    encoder: str = "efficientnet-lite0"
    views: list[str] | None = Field(default=None, min_length=1)
    layers: list[str] | None = Field(default=None, min_length=1)
    text: NameVectors | None = None


class BankFeatures(_Section):
    """Vectors that are ready.

    Parameters
    ----------
    path : path
        Folder of a saved ``FeatureBank``.
    text : NameVectors, optional
        Vectors of the concepts' names; those saved with the bank by default.
    """

    kind: Literal["bank"]
    path: RecipePath
    text: NameVectors | None = None


class TextFeatures(_Section):
    """Vectors of the concepts' names."""

    kind: Literal["text"]
    encoder: str = "use"
    prompt: str = "{concept}"


class OneHotFeatures(_Section):
    """One dimension per concept: retrieval among these vectors is plain classification."""

    kind: Literal["onehot"]


class ColumnSplit(_Section):
    """The column ``split`` of the trials says which are for training and which for the test."""

    kind: Literal["column"]


class ConceptSplit(_Section):
    """Hold out whole concepts, drawn from the recipe's seed."""

    kind: Literal["concept"]
    test: PositiveInt | float | list[str] = 50
    seed: int | None = None


class LeaveOneOutSplit(_Section):
    """One fold per run (or session, or subject), which is left out."""

    kind: Literal["leave_one_run_out"]
    column: str = "run"


class LeaveOneSubjectOutSplit(_Section):
    """One fold per person: trained on the others, tested on concepts that nobody was trained on.

    The field's inter-subject protocol. Training has the other people's training trials, the test
    has the left-out person's test trials.

    Parameters
    ----------
    test : int, float or list of str, optional
        Test concepts: how many to draw, their share, or their names; by default the trials that
        the column ``split`` marks as test.
    seed : int, optional
        Seed of the draw; the recipe's own by default.
    """

    kind: Literal["leave_one_subject_out"]
    test: PositiveInt | float | list[str] | None = None
    seed: int | None = None


class ConceptPairsSplit(_Section):
    """One fold per pair of concepts, both left out."""

    kind: Literal["concept_pairs"]


class MethodChoice(_Section):
    """A registered method and its hyper-parameters.

    Parameters
    ----------
    name : str
    params : dict
        Parameters of its constructor that differ from the defaults.
    ablations : dict of str to dict
        Rows of ``phosphene ablate`` beside those that the method names: parameters by label.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    ablations: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Evaluation(_Section):
    """How the test data are scored.

    Parameters
    ----------
    repetitions : "all" or int
        Test repetitions averaged into one query.
    zero_shot : bool
        Refuse test concepts that occur in training.
    subjects : list of str, optional
        Train and score only the folds that test these people; all by default.
    transductive : list of str
        Steps that score the queries of a person together, e.g. ``[whiten, "csls(k=10)",
        hungarian]``; none by default. The result says so and is not compared with others.
    shuffle_labels : int, optional
        Shuffle which training trial belongs to which stimulus, from this seed: the accuracy must
        then fall to chance.
    """

    repetitions: Literal["all"] | PositiveInt = "all"
    zero_shot: bool = True
    subjects: list[str] | None = Field(default=None, min_length=1)
    transductive: list[str] = Field(default_factory=list)
    shuffle_labels: int | None = None

    @field_validator("transductive")
    @classmethod
    def _steps(cls, words: list[str]) -> list[str]:
        if not words:
            return words
        from phosphene.evaluation.transductive import get_steps

        try:
            return [step.name for step in get_steps(words)]
        except PhospheneError as error:
            raise ValueError("; ".join(str(error).split("\n"))) from None


Data = Annotated[
    SimulatedData | RecordingData | NiftiData | ReaderData, Field(discriminator="kind")
]
Features = Annotated[
    ImageFeatures | BankFeatures | TextFeatures | OneHotFeatures, Field(discriminator="kind")
]
SplitChoice = Annotated[
    ColumnSplit | ConceptSplit | LeaveOneOutSplit | LeaveOneSubjectOutSplit | ConceptPairsSplit,
    Field(discriminator="kind"),
]


class Recipe(_Section):
    """A whole experiment.

    Parameters
    ----------
    name : str
        Printed in tables and reports.
    seed : int
        The one seed of the run.
    data, features, split, method, evaluation
        The sections; see their classes.
    per_subject : bool
        Train one decoder per person (the field's intra-subject protocol) instead of one for all.

    Examples
    --------
    >>> recipe = Recipe.model_validate({
    ...     "name": "example", "data": {"kind": "simulated"}, "features": {"kind": "images"},
    ...     "split": {"kind": "column"}, "method": {"name": "ridge"}})
    >>> recipe.data.world, recipe.evaluation.repetitions
    ('standard', 'all')
    """

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    data: Data
    features: Features
    split: SplitChoice
    method: MethodChoice
    evaluation: Evaluation = Evaluation()
    per_subject: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved recipe as plain values, every default filled in."""
        return self.model_dump(mode="json")

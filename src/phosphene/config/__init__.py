"""Recipes: what is trained on what and how it is scored, as a YAML file checked field by field.

A recipe has the sections ``data``, ``features``, ``split``, ``method`` and ``evaluation``. Unknown
keys are errors that name the nearest valid one. Paths may be relative to the recipe's folder and
may hold ``~`` and environment variables.
"""

from phosphene.config.alignment import (
    AlignmentRecipe,
    BankVectors,
    DecoderChoice,
    GodVectors,
    TableVectors,
    load_alignment_recipe,
)
from phosphene.config.methods import method_class, reconstructs
from phosphene.config.reading import load_recipe, parse_recipe, read_value
from phosphene.config.schema import (
    BankFeatures,
    BlockAverage,
    ColumnSplit,
    ConceptPairsSplit,
    ConceptSplit,
    Evaluation,
    ImageFeatures,
    LeaveOneOutSplit,
    LeaveOneSubjectOutSplit,
    MethodChoice,
    NameVectors,
    NiftiData,
    NiftiPreprocess,
    OneHotFeatures,
    ReaderData,
    Recipe,
    RecordingData,
    Signals,
    SimulatedData,
    TextFeatures,
)

__all__ = [
    "AlignmentRecipe",
    "BankFeatures",
    "BankVectors",
    "BlockAverage",
    "ColumnSplit",
    "ConceptPairsSplit",
    "ConceptSplit",
    "DecoderChoice",
    "Evaluation",
    "GodVectors",
    "ImageFeatures",
    "LeaveOneOutSplit",
    "LeaveOneSubjectOutSplit",
    "MethodChoice",
    "NameVectors",
    "NiftiData",
    "NiftiPreprocess",
    "OneHotFeatures",
    "ReaderData",
    "Recipe",
    "RecordingData",
    "Signals",
    "SimulatedData",
    "TableVectors",
    "TextFeatures",
    "load_alignment_recipe",
    "load_recipe",
    "method_class",
    "parse_recipe",
    "read_value",
    "reconstructs",
]

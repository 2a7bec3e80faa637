"""What a command does, callable from Python; the run folder."""

from phosphene.runs.ablation import ablate
from phosphene.runs.comparison import compare
from phosphene.runs.fitting import fit
from phosphene.runs.prediction import predict
from phosphene.runs.run import Run
from phosphene.runs.scoring import evaluate, summary_rows

__all__ = ["Run", "ablate", "compare", "evaluate", "fit", "predict", "summary_rows"]

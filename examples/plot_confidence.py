"""
Confidence and withheld answers
===============================

A ranking always names something. Its confidence says how often such answers are right, and answers
of little confidence can be withheld.
"""

import matplotlib.pyplot as plt
import numpy as np

import phosphene as ph
from phosphene.data.splits import hold_out_concepts
from phosphene.evaluation.temperature import softmax
from phosphene.reports.confidence_plots import reliability, risk_against_coverage
from phosphene.testing import tiny_problem

# %%
# Ridge learns from all concepts that it is given, so that some are held out to calibrate it.
# Several small problems give enough answers for a curve.
given, plain, right = [], [], []
for seed in range(8):
    problem = tiny_problem(seed, snr=0.18)
    ids = problem.test.stimuli
    held = hold_out_concepts(problem.train.trials, 0.3, seed)
    decoder = ph.Ridge().fit(problem.train.select(~held), problem.bank, progress=False)
    decoder.calibrate(problem.train.select(held), problem.bank)
    ranking = decoder.rank(problem.test, problem.bank, ids=ids, abstain_below=0.5)
    given.append(ranking.confidence[:, 0])
    right.append(ranking.correct(problem.test.trials["stimulus"]))
    scores = decoder.similarity(problem.test, problem.bank, ids=ids).matrix
    plain.append(softmax(scores, 20.0).max(axis=1))
given, plain, right = (np.concatenate(values) for values in (given, plain, right))
print(f"{right.mean():.0%} of the answers are right, with a mean confidence of {given.mean():.0%}")
sure = given >= 0.5
print(f"{right[sure].mean():.0%} of the {sure.mean():.0%} that are not withheld")

# %%
# Left: on the diagonal, confidence is right; the same scores at a temperature that nobody fitted
# are too sure. Right: the more answers are withheld, the fewer are wrong.
figure, (left, other) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
answers = {"calibrated": (given, right), "T = 1/20": (plain, right)}
reliability(answers, chance=1 / 20, simulated=True, ax=left)
risk_against_coverage(
    {"calibrated": (given, right)}, threshold=0.5, chance=1 / 20, simulated=True, ax=other
)
plt.show()

"""
A control that every decoder should pass
========================================

When training trials are paired with the wrong pictures, nothing is left to learn, and the accuracy
must fall to chance. If it does not, information reaches the scores on another way.
"""

import matplotlib.pyplot as plt
import numpy as np

import phosphene as ph
from phosphene.testing import check_method, tiny_problem

problem = tiny_problem()
train = problem.train


def shuffled(seed: int) -> ph.Recording:
    """The training trials with stimuli exchanged at random."""
    names = train.trials["stimulus"].unique()
    swap = dict(zip(names, np.random.default_rng(seed).permutation(names), strict=True))
    stimulus = train.trials["stimulus"].map(swap)
    concept = stimulus.str.partition("/")[0]
    return train.with_trials(train.trials.assign(stimulus=stimulus, concept=concept))


# %%
# Two-way identification says how often the true picture beats another one: chance is a half.
true = ph.Ridge().fit(train, problem.bank).evaluate(problem.test, problem.bank)
control = [
    ph.Ridge().fit(shuffled(seed), problem.bank).evaluate(problem.test, problem.bank)
    for seed in range(20)
]
print(f"true pairs: {true.two_way:.2f}")
print(f"shuffled:   {np.mean([result.two_way for result in control]):.2f} on average")

figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
axis.hist([result.two_way for result in control], bins=np.linspace(0, 1, 21), label="shuffled")
axis.axvline(true.two_way, color="C1", label="true pairs")
axis.set(xlabel="two-way identification", ylabel="shuffles")
axis.legend()
plt.show()

# %%
# This control, and fourteen others, run with one line on any decoder, also on your own:
check_method("ridge")

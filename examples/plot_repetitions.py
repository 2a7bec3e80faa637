"""
Repetitions at test
===================

Averaging repetitions of the same picture makes queries easier, so an accuracy means little without
their number. The protocol of every result says it.
"""

import matplotlib.pyplot as plt

import phosphene as ph
from phosphene.testing import tiny_problem

# %%
# A tiny problem: signals are a noisy linear function of the stimulus vectors. Its test trials show
# each of 20 unseen concepts four times.
problem = tiny_problem(snr=0.12)
decoder = ph.Ridge().fit(problem.train, problem.bank)

counts = [1, 2, 3, 4]
results = [
    decoder.evaluate(problem.test, problem.bank, repetitions=count, name=f"{count} averaged")
    for count in counts
]
for result in results:
    low, high = result.interval("top1")
    print(
        f"{result.protocol.test_repetitions} repetitions: top-1 {result.top1:.0%} "
        f"({low:.0%} to {high:.0%}), chance {result.chance:.0%}"
    )

# %%
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
top1 = [result.top1 for result in results]
intervals = [result.interval("top1") for result in results]
below = [value - low for value, (low, _) in zip(top1, intervals, strict=True)]
above = [high - value for value, (_, high) in zip(top1, intervals, strict=True)]
axis.errorbar(counts, top1, yerr=[below, above], marker="o", capsize=3)
axis.axhline(results[0].chance, color="0.5", linestyle=":", label="chance")
axis.set(xlabel="repetitions averaged at test", ylabel="top-1 of 20", xticks=counts, ylim=(0, 1))
axis.legend()
plt.show()

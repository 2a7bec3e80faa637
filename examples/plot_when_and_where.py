"""
When and where
==============

A simulated person sees pictures; windows of time, channels and frequency bands are decoded by
themselves. The simulation says when its sources are active, so the curve can be checked.
"""

import matplotlib.pyplot as plt
import numpy as np

from phosphene import FeatureBank
from phosphene.analysis.space import ablate_bands
from phosphene.analysis.time import sliding_window, temporal_generalisation
from phosphene.reports import analysis_plots
from phosphene.simulation.scene import make_scene
from phosphene.simulation.study import simulate
from phosphene.simulation.world import get_world

# %%
# Features of 150 concepts stand in for pictures. One layer moves the simulated brain, another one
# is to be decoded; both are mixtures of the same eight properties.
rng = np.random.default_rng(0)
properties = rng.standard_normal((150, 8))
ids = [f"thing{i:03d}/thing{i:03d}_01.png" for i in range(150)]
layers = {
    ("original", name): np.tanh(properties @ rng.standard_normal((8, 24)) / 3)
    for name in ("driver", "target")
}
bank = FeatureBank.from_arrays(ids, layers)
world = get_world(
    "standard",
    train_concepts=120,
    train_exemplars=1,
    test_concepts=30,
    early_uv=0.0,
    meaning_uv=0.0,
    foveation=0.0,
    driver_layer="driver",
    target_layer="target",
    object_dims=8,
    sfreq=125.0,
    n_times=88,
    noise=4.0,
)
study = simulate(world, scene=make_scene(world, bank=bank), averaged=True, progress=False)
train, test = study.train("01"), study.test("01")

# %%
# A decoder of its own in every window of 40 ms. The sources of this world peak between 150 and
# 400 ms after the picture appears; the first windows are at chance.
curve = sliding_window(train, test, bank, window=0.04, step=0.024, layer="target")
print(f"best window: {1000 * curve.peak:.0f} ms, chance {curve.chance:.1%}")
analysis_plots.time_curve(curve, ax=plt.subplots(figsize=(6, 3.5), layout="constrained")[1])
plt.show()

# %%
# Decoders of one time, tested at another. Sources with different latencies take turns: what is
# learnt at one time holds for its neighbourhood only.
square = temporal_generalisation(train, test, bank, window=0.04, metric="two_way", layer="target")
analysis_plots.generalisation(square, ax=plt.subplots(figsize=(5, 4), layout="constrained")[1])
plt.show()

# %%
# What each band of frequencies holds by itself: the responses are slow.
bands = ablate_bands(train.pick(range(0, 63, 3)), test.pick(range(0, 63, 3)), bank, mode="keep")
print(bands[["part", "value", "low", "high"]].round(2).to_string(index=False))
analysis_plots.ablation(
    bands, simulated=True, ax=plt.subplots(figsize=(6, 3), layout="constrained")[1]
)
plt.show()

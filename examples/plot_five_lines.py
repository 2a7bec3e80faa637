"""
Five lines on your own epochs
=============================

From ``mne.Epochs`` and a folder of pictures to a zero-shot retrieval result. Pictures and epochs
are made up here; with your own, only the five lines remain.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

# %%
# Pictures: 70 concepts with one picture each. A picture is a coarse random pattern, so that a few
# numbers tell its look.
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
coarse = rng.integers(0, 256, (70, 4, 4, 3), dtype=np.uint8)
paths = []
for number, pattern in enumerate(coarse):
    path = folder / "images" / f"pattern{number:02d}" / f"pattern{number:02d}_01.png"
    path.parent.mkdir(parents=True)
    picture = Image.fromarray(pattern).resize((224, 224), Image.Resampling.NEAREST)
    picture.filter(ImageFilter.GaussianBlur(8)).save(path)
    paths.append(path.relative_to(folder / "images").as_posix())

# %%
# Epochs: 8 channels, 0.4 s, four trials per picture; a noisy linear response to the pattern. The
# metadata column ``image`` names the picture of each trial.
shown = np.repeat(np.arange(70), 4)
pattern = (coarse.reshape(70, -1) - 127.5) / 74.0
mixing = rng.standard_normal((pattern.shape[1], 8 * 100)) / np.sqrt(pattern.shape[1])
signal = (pattern @ mixing).reshape(70, 8, 100)
data = 1e-6 * (signal[shown] + 0.5 * rng.standard_normal((len(shown), 8, 100)))
info = mne.create_info(["P7", "P3", "Pz", "P4", "P8", "O1", "Oz", "O2"], 250.0, "eeg")
metadata = pd.DataFrame({"image": [paths[i] for i in shown]})
epochs = mne.EpochsArray(data, info, metadata=metadata, verbose="error")

# %%
# The five lines. ``encoder`` may be any model; this one comes with pip.
import phosphene as ph

recording = ph.Recording.from_epochs(epochs, stimulus="image")
stimuli = ph.StimulusSet.from_folder(folder / "images")
bank = ph.FeatureBank.extract(stimuli, encoder="efficientnet-lite0", views=["original", "fovea"])
train, test = ph.split_concepts(recording, test=50, random_state=0)
result = ph.UBP().fit(train, bank).evaluate(test, gallery=bank)

# %%
# Twenty pictures are far too few to learn from (UBP's settings are made for 16,540), so that this
# is near the chance of 2 %. What counts here is that the result says what it is: one row per query,
# and how it came about.
low, high = result.interval("top1")
print(f"top-1 {result.top1:.0%} ({low:.0%} to {high:.0%}), chance {result.chance:.0%}")
print(result.table[["stimulus", "rank", "best"]].head())
print("\n".join(result.protocol.lines(unknown=False)[:12]))
report = result.report(folder / "report.html")

# %%
# Where the true picture ended up among the 50 candidates.
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
axis.hist(result.table["rank"], bins=np.arange(0.5, 51.5, 2))
axis.set(xlabel="rank of the true picture", ylabel="queries")
plt.show()

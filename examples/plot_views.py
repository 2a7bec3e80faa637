"""
What is left of a picture, and what a network makes of it
=========================================================

Decoders are trained towards vectors of pictures, so it is worth a look what the pictures are and
which of them the network takes for alike. The pictures are the demo's: drawn objects on textures.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import phosphene as ph
from phosphene.reports.neighbours import nearest_neighbours, similarity_map
from phosphene.reports.sheets import contact_sheet
from phosphene.simulation.pictures import picture_set


def show(figure: Figure) -> None:
    """Draw a figure that was made without pyplot."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    plt.figure(figsize=figure.get_size_inches(), layout="constrained")
    plt.imshow(np.asarray(canvas.buffer_rgba()))
    plt.axis("off")
    plt.show()


# %%
# One picture in a view of every kind. UBP and BVSA blur towards the corners, as the eye does; the
# first row holds the augmentations that NeuroBridge and SSR average.
concepts = [
    "dog", "cat", "tiger", "horse", "cow", "red apple", "pear", "lemon", "banana", "cucumber",
    "car", "bus", "bicycle", "airplane", "sailboat", "guitar", "violin", "trumpet", "chair", "bed",
]  # fmt: skip
stimuli = picture_set(concepts, exemplars=2)
show(contact_sheet(stimuli.image("dog/dog_01.png")))

# %%
# The vectors of two views, from one reading of the pictures. A second run would find them kept.
bank = ph.FeatureBank.extract(stimuli, "efficientnet-lite0", views=["original", "fovea(k=51)"])
print(bank)

# %%
# Which pictures are alike to the network? A concept's other picture should be near.
for view in bank.views:
    first = nearest_neighbours(bank, bank.ids, k=1, view=view)
    same = [
        a.split("/")[0] == b.split("/")[0]
        for a, b in zip(first["stimulus"], first["neighbour"], strict=True)
    ]
    print(f"{view}: the nearest picture is of the same concept for {sum(same)} of {len(same)}")

show(similarity_map(bank, stimuli=stimuli, probes=["dog/dog_01.png", "pear/pear_01.png"], k=4))

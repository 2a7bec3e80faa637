r"""The linear aligner: ridge regression from vectors to the brain's coordinates, in closed form.

.. math::
    G = (1 - \alpha)\, H R H / \mathrm{tr} + \alpha\, Y Y^\top / \mathrm{tr} = X X^\top, \qquad
    L = \arg\min_L \lVert Y L - X \rVert^2 + \lambda \lVert L \rVert^2
      = Y^\top (Y Y^\top + \lambda I)^{-1} X

with centred vectors Y, the brain's RSM R and the centring matrix H. X are the coordinates in which
inner products are the brain's similarities (classical scaling, Torgerson 1952,
doi:10.1007/BF02288916); L L' is the learned metric. The problem is convex, and one decomposition of
Y Y' serves all penalties and all RSMs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """Centred vectors (n, d) with the decomposition of their inner products."""

    vectors: Matrix
    values: Matrix
    axes: Matrix

    @classmethod
    def of(cls, vectors: Matrix) -> Kernel:
        """Decompose the inner products of centred vectors."""
        values, axes = np.linalg.eigh(vectors @ vectors.T)
        return cls(vectors, np.maximum(values, 0.0), axes)

    def solve(self, coordinates: Matrix, penalty: float) -> Matrix:
        """The map (d, r); the penalty is in units of the mean eigenvalue of Y Y'."""
        shrunk = self.values + penalty * self.values.sum() / max(len(self.values) - 1, 1)
        inner = self.axes @ ((self.axes.T @ coordinates) / shrunk[:, None])
        result: Matrix = self.vectors.T @ inner
        return result

    def coordinates(self, rsm: Matrix, alpha: float, width: int | None) -> Matrix:
        """X of the module's formula, largest coordinates first; at most ``width`` of them."""
        brain = rsm - rsm.mean(axis=0) - rsm.mean(axis=1, keepdims=True) + rsm.mean()
        target = (1 - alpha) * brain / np.trace(brain)
        if alpha > 0:
            own = (self.axes * self.values) @ self.axes.T
            target = target + alpha * own / self.values.sum()
        values, axes = np.linalg.eigh(target)
        # What is negative has no coordinates; an RSM of averages has a little of it.
        keep = np.flatnonzero(values > 1e-9 * values[-1])[::-1][:width]
        found: Matrix = axes[:, keep] * np.sqrt(values[keep])
        return found

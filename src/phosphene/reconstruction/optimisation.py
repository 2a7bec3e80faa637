"""Stage 2: move a latent until the picture's structure is the one that was decoded.

The whole way from the latent through noise, denoising, autoencoder and vision network has
gradients. Per query, with decoded targets ``s_l`` of the kept units of layer l and ``f`` of the
final layer::

    x    = decode(denoise(add_noise(z, e), tokens(c)))                 e is fixed
    loss = sum_l w_l mean((s_l - s_l(x))^2) + .1 (1 - cos(f, f(x))) + h mean((z - z_decoded)^2)
    z   <- Adam(z, lr), lr <- .999 lr

The picture kept is that of the smallest loss: nothing but decoded features decides. The last term,
with h = 0 in the paper, holds the latent near the one decoded: that one is evidence as well, and
far from it there are textures that please the network and resemble nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from phosphene.errors import DataError

# Pictures (n, 3, H, W) of latents z and conditions c, for some of the queries (rows).
Render = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
# Features (n, units) by layer of pictures.
Look = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Search:
    """Settings of stage 2.

    Parameters
    ----------
    iterations : int
        At most so many steps of Adam.
    lr, decay : float
        Its rate, and the factor on it after every iteration.
    optimise : {"z", "c and z"}
        What is moved.
    final_weight : float
        Weight of the final layer's cosine.
    latent_weight : float
        Weight h of the mean squared distance from the decoded latent; latents are of about unit
        variance.
    patience : int or None
        Stop a query whose loss has not become smaller for so many iterations.
    seconds : float or None
        Stop all queries of a batch after so many seconds times their number. What is reached then
        depends on the machine.
    frames : int
        Keep the picture of every so many iterations; 0 keeps none.
    """

    iterations: int = 300
    lr: float = 0.01
    decay: float = 0.999
    optimise: str = "z"
    final_weight: float = 0.1
    latent_weight: float = 0.0
    patience: int | None = None
    seconds: float | None = None
    frames: int = 25

    def __post_init__(self) -> None:
        if self.optimise not in ("z", "c and z"):
            raise DataError("what stage 2 moves", found=self.optimise, expected="'z' or 'c and z'")
        for name, least in (("iterations", 1), ("lr", 1e-12), ("decay", 1e-12), ("frames", 0),
                            ("latent_weight", 0)):  # fmt: skip
            if not getattr(self, name) >= least:
                raise DataError(f"{name} of stage 2", found=getattr(self, name),
                                expected=f"{least} or more")  # fmt: skip
        for name in ("patience", "seconds"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise DataError(f"{name} of stage 2", found=value, expected="more than 0, or None")


@dataclass(frozen=True, eq=False)
class Targets:
    """Decoded structure of some queries.

    Parameters
    ----------
    layers : mapping of str to torch.Tensor, shape (queries, units)
        Decoded values of the kept units.
    units : mapping of str to torch.Tensor of int, shape (units,)
        Places of the kept units in the layer.
    weights : mapping of str to torch.Tensor, shape (queries,)
        ``w_l``.
    centre, scale : mapping of str to torch.Tensor, shape (units,)
        What is taken from, and divides, the kept units of a picture before they are compared.
    final : str or None
        Name of the final layer.
    direction : torch.Tensor, shape (queries, d), optional
        Decoded final layer.
    """

    layers: Mapping[str, Tensor]
    units: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    centre: Mapping[str, Tensor]
    scale: Mapping[str, Tensor]
    final: str | None = None
    direction: Tensor | None = None

    @classmethod
    def compare(
        cls,
        decoded: Mapping[str, Tensor],
        units: Sequence[NDArray[np.int64]],
        means: Sequence[NDArray[np.float32]],
        scales: Sequence[NDArray[np.float32]],
        shares: Sequence[float],
        *,
        standardise: bool = True,
        final: str | None = None,
        direction: Tensor | None = None,
    ) -> Self:
        """Targets in the units in which they are compared.

        Parameters
        ----------
        decoded : mapping of str to torch.Tensor, shape (queries, units)
            Decoded values by layer; all else one per layer, in its order.
        units, means, scales : sequence of ndarray, shape (units,)
            Places in the layer, what is taken from the values, and what they are divided by.
        shares : sequence of float
            Weights of the layers, which then sum to 1 for every query.
        standardise : bool
            False compares raw values, and weighs a layer by 1 over the length of its target.
        final, direction
            Kept as they are.
        """
        layers, places, weights, centre, scale = {}, {}, {}, {}, {}
        for (name, values), at, mean, spread, share in zip(
            decoded.items(), units, means, scales, shares, strict=False
        ):
            device = values.device
            middle, width = torch.from_numpy(mean), torch.from_numpy(spread)
            if not standardise:
                middle, width = torch.zeros_like(middle), torch.ones_like(width)
            centre[name], scale[name] = middle.to(device), width.to(device)
            layers[name] = (values - centre[name]) / scale[name]
            places[name] = torch.from_numpy(at).to(device)
            length = layers[name].norm(dim=1).clamp(min=1e-6)
            weights[name] = share * (torch.ones_like(length) if standardise else 1 / length)
        total = torch.stack(list(weights.values())).sum(dim=0)
        weights = {name: weight / total for name, weight in weights.items()}
        return cls(layers, places, weights, centre, scale, final, direction)

    def loss(self, seen: Mapping[str, Tensor], rows: Sequence[int], final_weight: float) -> Tensor:
        """Structural loss (n,) of pictures for the queries ``rows``."""
        chosen = list(rows)
        total = next(iter(seen.values())).new_zeros(len(chosen))
        for name, wanted in self.layers.items():
            found = (seen[name][:, self.units[name]] - self.centre[name]) / self.scale[name]
            error = (wanted[chosen] - found).square().mean(dim=1)
            total = total + self.weights[name][chosen] * error
        if self.final is not None and self.direction is not None and final_weight > 0:
            cosine = functional.cosine_similarity(self.direction[chosen], seen[self.final])
            total = total + final_weight * (1 - cosine)
        return total


@dataclass(frozen=True, eq=False)
class Found:
    """What stage 2 found for one query.

    Parameters
    ----------
    first, best : ndarray of float32, shape (H, W, 3)
        Picture before the first step, and that of the smallest loss.
    trace : list of float
        Loss at each iteration, the first before any step.
    chosen : int
        Iteration of ``best``.
    frames : dict of int to ndarray
        Pictures on the way.
    """

    first: NDArray[np.float32]
    best: NDArray[np.float32]
    trace: list[float]
    chosen: int
    frames: dict[int, NDArray[np.float32]] = field(default_factory=dict)


def optimise(
    render: Render, look: Look, z: Tensor, c: Tensor, targets: Targets, search: Search
) -> list[Found]:
    """Move the latents of some queries, together but without influence on one another.

    Parameters
    ----------
    render : callable
        Pictures of latents and conditions; its noise must not change from call to call.
    look : callable
        Structural features of pictures.
    z, c : torch.Tensor
        Decoded latents (n, C, h, w) and conditions (n, ...).
    targets : Targets
        Decoded structure of the same queries.
    search : Search
        Settings.

    Returns
    -------
    list of Found
        One per query.
    """
    # A tensor per query: Adam leaves alone those that have stopped, and no query sees another.
    latents = [row.detach().clone().requires_grad_() for row in z]
    moves = search.optimise == "c and z"
    conditions = [row.detach().clone().requires_grad_(moves) for row in c]
    optimiser = torch.optim.Adam([*latents, *(conditions if moves else [])], lr=search.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, search.decay)
    states = [_State() for _ in latents]
    active = list(range(len(latents)))
    began = time.monotonic()
    for iteration in range(search.iterations + 1):
        moved = torch.stack([latents[row] for row in active])
        pictures = render(moved, torch.stack([conditions[row] for row in active]), active)
        losses = targets.loss(look(pictures), active, search.final_weight)
        if search.latent_weight > 0:
            away = (moved - z[active]).square().flatten(1).mean(dim=1)
            losses = losses + search.latent_weight * away
        shown = pictures.detach().permute(0, 2, 3, 1).float().clamp(0, 1).cpu().numpy()
        values = losses.detach().cpu().tolist()
        for place, row in enumerate(active):
            states[row].see(iteration, values[place], shown[place], search)
        if iteration == search.iterations or _late(search, began, len(latents)):
            break
        kept = [k for k, row in enumerate(active) if not states[row].stopped(iteration, search)]
        if not kept:
            break
        optimiser.zero_grad(set_to_none=True)
        losses[kept].sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        active = [active[k] for k in kept]
    return [state.found() for state in states]


class _State:
    """What is remembered of a query."""

    def __init__(self) -> None:
        self.trace: list[float] = []
        self.frames: dict[int, NDArray[np.float32]] = {}
        self.best: tuple[float, int, Any] = (np.inf, -1, None)
        self.first: Any = None

    def see(self, iteration: int, loss: float, picture: NDArray[Any], search: Search) -> None:
        if iteration == 0:
            self.first = picture.copy()
            self.best = (loss, 0, self.first)
        self.trace.append(loss)
        if loss < self.best[0]:
            self.best = (loss, iteration, picture.copy())
        if search.frames and iteration % search.frames == 0:
            self.frames[iteration] = picture.copy()

    def stopped(self, iteration: int, search: Search) -> bool:
        # A loss that is no longer finite has no direction to go on in.
        if not np.isfinite(self.trace[-1]):
            return True
        return search.patience is not None and iteration - self.best[1] >= search.patience

    def found(self) -> Found:
        return Found(self.first, self.best[2], self.trace, self.best[1], self.frames)


def _late(search: Search, began: float, queries: int) -> bool:
    return search.seconds is not None and time.monotonic() - began > search.seconds * queries

"""The diffusion prior: from a vector decoded from the brain to vectors that pictures have.

A regression answers with a mean, and the mean of many pictures' vectors is no picture's vector. The
prior learns to draw from the distribution of the pictures' vectors given the decoded one::

    x_t = sqrt(a_t) x + sqrt(1 - a_t) e,    t ~ U{1..T},    e ~ N(0, I)
    v   = sqrt(a_t) e - sqrt(1 - a_t) x
    loss = |v - f(x_t, t, c)|^2             c is replaced by nothing for one case in ten
    v'   = f(x_t, t, -) + g (f(x_t, t, c) - f(x_t, t, -))      in sampling, guidance g
    x'   = sqrt(a_t) x_t - sqrt(1 - a_t) v'

after Ho et al., NeurIPS 2020, arXiv:2006.11239; Ho & Salimans, arXiv:2207.12598; and the prior of
Ramesh et al., arXiv:2204.06125. The network is the perceptron in the shape of a U-Net of ATM (Li et
al., NeurIPS 2024, arXiv:2403.07721): widths 1024-512-256-128-64 and back, skip connections added,
time and condition added at every width.

ATM's network predicts the noise e. At the first step of sampling x' is then what is left of the
difference of two nearly equal vectors, divided by sqrt(a_T) = .006: where the vectors are wider
than the network, as here, errors grow 158 times and samples come out a hundred times too long. The
velocity v (Salimans & Ho, ICLR 2022, arXiv:2202.00512) is the same information without the
division, and x' is kept within the range of each dimension in training, which guidance would leave
[ours].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn import functional

from phosphene import _random
from phosphene._device import resolve_device
from phosphene._logging import progress as progress_bar
from phosphene.errors import DataError, NotFittedError
from phosphene.reconstruction._noise import Noise

WIDTHS = (1024, 512, 256, 128, 64)
TRAIN_STEPS = 1000
_FREQUENCIES = 128


class PriorUNet(nn.Module):
    """Perceptron in the shape of a U-Net: noisy vectors, times and conditions to the velocity.

    Parameters
    ----------
    dim, condition_dim : int
        Widths of vectors and conditions.
    widths : sequence of int
        From the outer to the inner layers.
    dropout : float
        Probability.
    """

    def __init__(
        self,
        dim: int,
        condition_dim: int,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        steps = list(itertools.pairwise(widths))
        self.enter = _block(dim, widths[0], 0.0)
        self.down = nn.ModuleList(_block(wide, narrow, dropout) for wide, narrow in steps)
        self.up = nn.ModuleList(_block(narrow, wide, dropout) for wide, narrow in steps[::-1])
        self.leave = nn.Linear(widths[0], dim)
        places = [*widths[:-1], *[narrow for _, narrow in steps[::-1]]]
        self.times = nn.ModuleList(_time_block(width) for width in places)
        self.conditions = nn.ModuleList(nn.Linear(condition_dim, width) for width in places)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor, known: Tensor) -> Tensor:
        """Velocity (n, dim) of ``x``; ``known`` (n, 1) is 0 where there is no condition."""
        clock = _sinusoids(time)
        hints = [
            at(clock) + known * of(condition)
            for at, of in zip(self.times, self.conditions, strict=True)
        ]
        x = self.enter(x)
        skips = []
        for block, hint in zip(self.down, hints[: len(self.down)], strict=True):
            skips.append(x)
            x = block(x + hint)
        for block, hint in zip(self.up, hints[len(self.down) :], strict=True):
            x = block(x + hint) + skips.pop()
        return cast("Tensor", self.leave(x))


class DiffusionPrior(BaseEstimator):  # type: ignore[misc]
    """Draws vectors of pictures given vectors that were decoded.

    Parameters
    ----------
    widths : sequence of int
        Widths of the network, from outside to inside.
    epochs, batch_size, lr, dropout : int, int, float, float
        Of the training with Adam.
    condition_drop : float
        Probability that a case is trained without its condition, which guidance needs.
    steps : int
        Denoising steps of a sample, of the 1,000 of training.
    guidance : float
        Weight of the condition; 1 is none.
    random_state : int
        Seed of initialisation, order and noise of the training.
    device : str
        ``auto``, ``cpu``, ``cuda`` ...

    Attributes
    ----------
    losses_ : list of float
        Mean training loss per epoch.

    Notes
    -----
    Vectors and conditions are standardised per dimension with the training data, so that noise of
    unit variance is noise; samples are scaled back. Sampling is ancestral (DDPM), with the noise of
    every sample from its own stream.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c = rng.standard_normal((64, 4)).astype(np.float32)
    >>> prior = DiffusionPrior(widths=(32, 16), epochs=2, device="cpu").fit(c, c[:, :3])
    >>> prior.sample(c[:2], n=5, seed=0).shape
    (2, 5, 3)
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        *,
        epochs: int = 150,
        batch_size: int = 256,
        lr: float = 1e-3,
        dropout: float = 0.1,
        condition_drop: float = 0.1,
        steps: int = 50,
        guidance: float = 5.0,
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.widths = widths
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.dropout = dropout
        self.condition_drop = condition_drop
        self.steps = steps
        self.guidance = guidance
        self.random_state = random_state
        self.device = device

    def fit(self, conditions: ArrayLike, vectors: ArrayLike, *, progress: bool = True) -> Self:
        """Learn from pairs.

        Parameters
        ----------
        conditions : array, shape (n, condition_dim)
            Decoded vectors. They should carry the errors that decoded vectors of new trials carry:
            predictions for trials that the decoder was fitted on do not.
        vectors : array, shape (n, dim)
            Vectors of the pictures.
        progress : bool
            Show a bar when someone is watching.

        Raises
        ------
        DataError
            If lengths differ, there are fewer than two pairs, or values are not finite.
        """
        c, x = _table(conditions, "conditions"), _table(vectors, "vectors")
        if len(c) != len(x) or len(x) < 2:
            raise DataError("the prior learns from pairs, two at least",
                            found=f"{len(c)} conditions, {len(x)} vectors")  # fmt: skip
        if not 1 <= self.steps <= TRAIN_STEPS:
            raise DataError("steps of the prior", found=self.steps, expected=f"1 to {TRAIN_STEPS}")
        self._means = [array.mean(axis=0, dtype=np.float64) for array in (c, x)]
        # A dimension that never varies stays where it is.
        self._scales = [np.maximum(array.std(axis=0, dtype=np.float64), 1e-6) for array in (c, x)]
        scaled = self._standardised(1, x)
        self._range = np.stack([scaled.min(axis=0), scaled.max(axis=0)])
        device = resolve_device(self.device)
        self._build(x.shape[1], c.shape[1]).to(device)
        data = [
            torch.from_numpy(self._standardised(k, array)).to(device)
            for k, array in enumerate((c, x))
        ]
        optimiser = torch.optim.Adam(self.network_.parameters(), lr=self.lr)
        alphas = torch.from_numpy(_alphas()).float().to(device)
        self.losses_: list[float] = []
        self.network_.train()
        epochs = progress_bar(range(int(self.epochs)), desc="prior", unit="epoch", enabled=progress)
        for epoch in epochs:
            stream = _random.torch_generator(self.random_state, "prior", "epoch", epoch)
            order = torch.randperm(len(x), generator=stream)
            total = torch.zeros((), device=device)
            # Dropout draws from the global generator, which is set for this epoch alone.
            with _random.seeded(self.random_state, "prior", "dropout", epoch):
                for rows in torch.split(order, int(self.batch_size)):
                    loss = self._loss(data[0], data[1], rows.to(device), alphas, stream)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    total += loss.detach() * len(rows)
            self.losses_.append(float(total) / len(x))
        self.network_.eval().requires_grad_(False)
        return self

    def sample(
        self,
        conditions: ArrayLike,
        n: int = 1,
        seed: int = 0,
        *,
        ids: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """Draw vectors of pictures.

        Parameters
        ----------
        conditions : array, shape (queries, condition_dim)
            Decoded vectors.
        n : int
            Samples per query.
        seed : int
            Seed of the noise, which depends on it, the query's id and the sample's number only.
        ids : sequence of str, optional
            Ids of the queries; their rows by default.

        Returns
        -------
        ndarray, shape (queries, n, dim)
        """
        if not hasattr(self, "network_"):
            raise NotFittedError("this DiffusionPrior is not fitted yet")
        c = _table(conditions, "conditions")
        if c.shape[1] != len(self._means[0]):
            raise DataError("conditions of another width", found=c.shape[1],
                            expected=len(self._means[0]))  # fmt: skip
        names = [str(name) for name in (range(len(c)) if ids is None else ids)]
        noise = Noise(seed, [name for name in names for _ in range(n)], [*range(n)] * len(names))
        device = next(self.network_.parameters()).device
        condition = torch.from_numpy(self._standardised(0, c)).to(device).repeat_interleave(n, 0)
        dim = len(self._means[1])
        alphas = _alphas()
        low, high = torch.from_numpy(self._range).to(device)
        times = np.linspace(0, TRAIN_STEPS - 1, int(self.steps)).round().astype(int)[::-1]
        draws = noise.normal((len(times), dim), "prior").to(device)
        x = draws[:, 0]
        with torch.no_grad():
            for step, time in enumerate(times):
                a = alphas[time]
                before = alphas[times[step + 1]] if step + 1 < len(times) else 1.0
                v = self._guided(x, int(time), condition)
                clean = (math.sqrt(a) * x - math.sqrt(1 - a) * v).clamp(low, high)
                ratio = a / before
                mean = (
                    math.sqrt(before) * (1 - ratio) * clean + math.sqrt(ratio) * (1 - before) * x
                ) / (1 - a)
                spread = math.sqrt((1 - ratio) * (1 - before) / (1 - a))
                x = mean if step + 1 == len(times) else mean + spread * draws[:, step + 1]
        vectors = np.asarray(x.cpu().numpy()) * self._scales[1] + self._means[1]
        return np.asarray(vectors, np.float32).reshape(len(names), n, dim)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights and scaling by name, for safetensors."""
        found = {f"network.{k}": v.cpu().numpy() for k, v in self.network_.state_dict().items()}
        for k, kind in enumerate(("condition", "vector")):
            found |= {f"{kind}.mean": self._means[k], f"{kind}.scale": self._scales[k]}
        return {**found, "range": self._range}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of :meth:`arrays`, for an unfitted prior of the same parameters."""
        kinds = ("condition", "vector")
        self._means = [np.asarray(arrays[f"{kind}.mean"]) for kind in kinds]
        self._scales = [np.asarray(arrays[f"{kind}.scale"]) for kind in kinds]
        self._range = np.array(arrays["range"])
        network = self._build(len(self._means[1]), len(self._means[0]))
        weights = {k.removeprefix("network."): v for k, v in arrays.items() if "network." in k}
        network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()})
        network.to(resolve_device(self.device)).eval().requires_grad_(False)
        return self

    # ---------------------------------------------------------------------------------- the parts
    def _build(self, dim: int, condition_dim: int) -> PriorUNet:
        with _random.seeded(self.random_state, "prior", "network"):
            self.network_ = PriorUNet(dim, condition_dim, tuple(self.widths), self.dropout)
        return self.network_

    def _standardised(self, kind: int, array: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = (array.astype(np.float64) - self._means[kind]) / self._scales[kind]
        return np.asarray(scaled, np.float32)

    def _loss(
        self, c: Tensor, x: Tensor, rows: Tensor, alphas: Tensor, stream: torch.Generator
    ) -> Tensor:
        n = len(rows)
        time = torch.randint(0, TRAIN_STEPS, (n,), generator=stream).to(x.device)
        noise = torch.randn(n, x.shape[1], generator=stream).to(x.device)
        known = (torch.rand(n, 1, generator=stream) >= self.condition_drop).float().to(x.device)
        a = alphas[time][:, None]
        noisy = a.sqrt() * x[rows] + (1 - a).sqrt() * noise
        velocity = a.sqrt() * noise - (1 - a).sqrt() * x[rows]
        return functional.mse_loss(self.network_(noisy, time, c[rows], known), velocity)

    def _guided(self, x: Tensor, time: int, condition: Tensor) -> Tensor:
        times = torch.full((len(x),), time, device=x.device)
        known = torch.ones(len(x), 1, device=x.device)
        full = self.network_(x, times, condition, known)
        if self.guidance == 1:
            return cast("Tensor", full)
        empty = self.network_(x, times, condition, 0 * known)
        return cast("Tensor", empty + self.guidance * (full - empty))


def _alphas() -> NDArray[np.float64]:
    """Share of signal at each time, for variances of noise that rise from 1e-4 to .02."""
    return np.asarray(np.cumprod(1 - np.linspace(1e-4, 0.02, TRAIN_STEPS)), np.float64)


def _block(n_in: int, n_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU(),
                         nn.Dropout(dropout))  # fmt: skip


def _time_block(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))


def _sinusoids(time: Tensor) -> Tensor:
    rates = torch.exp(-math.log(10_000) * torch.arange(_FREQUENCIES, device=time.device)
                      / _FREQUENCIES)  # fmt: skip
    angles = time[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _table(values: ArrayLike, what: str) -> NDArray[np.float32]:
    array = np.asarray(values, np.float32)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise DataError(f"the prior's {what} are a table of finite numbers",
                        found=f"shape {array.shape}")  # fmt: skip
    return array

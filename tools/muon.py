"""Muon: momentum whose matrices are made nearly orthogonal before each step.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024),
https://kellerjordan.github.io/posts/muon/. PyTorch's own takes matrices only; most weights here are
convolutions, which count as matrices (out, in x height x width). Its Newton-Schulz iteration runs
on the Gram matrices, equal in exact arithmetic, several times cheaper for wide weights, and
batched over weights of one height.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Coefficients of the quintic iteration, as published: singular values end between .7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_MOMENTUM = 0.95
# Weights with fewer rows or columns have no matrix structure worth the work.
_SMALLEST = 32


class Muon(torch.optim.Optimizer):
    """Muon for large weights, AdamW for all others.

    Parameters
    ----------
    params
        Parameters.
    lr
        Learning rate of AdamW.
    matrix_lr
        Learning rate of the orthogonal steps, which have a root mean square of 1 over rows.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, matrix_lr: float) -> None:
        parts: dict[bool, list[Tensor]] = {True: [], False: []}
        for p in params:
            parts[p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= _SMALLEST].append(p)
        groups: list[dict[str, Any]] = [
            {"params": parts[True], "lr": matrix_lr, "matrices": True},
            {"params": parts[False], "lr": lr, "matrices": False},
        ]
        super().__init__(groups, {"betas": (0.9, 0.999), "eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                (self._matrices if group["matrices"] else self._others)(group, parameters)

    def _matrices(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters]
        momenta = [self._state(p, "momentum") for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)
        for p, update in zip(parameters, orthogonal([a.flatten(1) for a in ahead]), strict=True):
            tall = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
            p.add_(update.view(p.shape), alpha=-group["lr"] * tall)

    def _others(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters]
        first = [self._state(p, "first") for p in parameters]
        second = [self._state(p, "second") for p in parameters]
        low, high = group["betas"]
        group["count"] = count = group.get("count", 0) + 1
        torch._foreach_lerp_(first, gradients, 1 - low)
        torch._foreach_mul_(second, high)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - high)
        root = torch._foreach_sqrt(torch._foreach_div(second, 1 - high**count))
        torch._foreach_add_(root, group["eps"])
        torch._foreach_addcdiv_(parameters, first, root, -group["lr"] / (1 - low**count))

    def _state(self, p: Tensor, name: str) -> Tensor:
        if name not in self.state[p]:
            self.state[p][name] = torch.zeros_like(p)
        state: Tensor = self.state[p][name]
        return state


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Nearest orthogonal matrices, roughly: singular values between .7 and 1.2."""
    by_height: dict[int, list[int]] = defaultdict(list)
    wide = [m if m.shape[0] <= m.shape[1] else m.T for m in matrices]
    for number, m in enumerate(wide):
        by_height[len(m)].append(number)
    results: list[Tensor] = list(matrices)
    for numbers in by_height.values():
        factors = _inverse_roots(torch.stack([wide[n] @ wide[n].T for n in numbers]))
        for n, factor in zip(numbers, factors, strict=True):
            made = factor @ wide[n]
            results[n] = (made if wide[n] is matrices[n] else made.T).contiguous()
    return results


def _inverse_roots(gram: Tensor) -> Tensor:
    """Roughly the inverse square roots of Gram matrices (n, k, k).

    Every iterate is a polynomial of the Gram matrix, so all of them commute.
    """
    size = gram.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 1e-12
    gram, factor = gram / size, None
    for left in reversed(range(_ITERATIONS)):
        step = torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C)
        step.diagonal(dim1=1, dim2=2).add_(_A)
        factor = step if factor is None else torch.bmm(step, factor)
        if left:
            gram = torch.bmm(torch.bmm(step, gram), step)
    return factor / size.sqrt()

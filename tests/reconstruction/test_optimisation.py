"""Stage 2 on a picture that is a linear function of its latent, where all is known."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.errors import DataError
from phosphene.reconstruction.optimisation import Found, Search, Targets, optimise

SIDE = 4


def render(z: torch.Tensor, c: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    return 0.5 + 0.1 * z + 0.05 * c[:, :, None, None]


def look(pictures: torch.Tensor) -> Mapping[str, torch.Tensor]:
    return {"flat": pictures.flatten(1), "mean": pictures.mean((2, 3))}


def problem(n: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Targets]:
    stream = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, SIDE, SIDE, generator=stream)
    c = torch.randn(n, 3, generator=stream)
    wanted = look(render(torch.randn(n, 3, SIDE, SIDE, generator=stream), c, range(n)))
    units = torch.arange(0, 48, 2)
    targets = Targets(
        {"flat": wanted["flat"][:, units]}, {"flat": units}, {"flat": torch.ones(n)},
        {"flat": torch.zeros(24)}, {"flat": torch.ones(24)}, "mean", wanted["mean"],
    )  # fmt: skip
    return z, c, wanted["flat"], targets


def test_the_loss_is_the_formula() -> None:
    z, c, _, targets = problem()
    seen = look(render(z[:2], c[:2], range(2)))
    centre, scale = torch.full((24,), 0.25), torch.full((24,), 2.0)
    weighed = Targets(
        targets.layers, targets.units, {"flat": torch.tensor([1.0, 2.0, 3.0])}, {"flat": centre},
        {"flat": scale}, "mean", targets.direction,
    )  # fmt: skip
    found = weighed.loss(seen, [2, 0], 0.1)  # rows of the queries, not of the pictures
    for place, row in enumerate((2, 0)):
        s = (seen["flat"][place, ::2].numpy() - 0.25) / 2
        error = (row + 1) * np.mean((targets.layers["flat"][row].numpy() - s) ** 2)
        f, x = targets.direction[row].numpy(), seen["mean"][place].numpy()  # type: ignore[index]
        cosine = f @ x / np.linalg.norm(f) / np.linalg.norm(x)
        assert float(found[place]) == pytest.approx(error + 0.1 * (1 - cosine), rel=1e-4)


def test_kept_units_reach_their_targets_and_others_stay() -> None:
    z, c, wanted, targets = problem()
    found = optimise(render, look, z, c, targets, Search(iterations=400, lr=0.05, final_weight=0))
    start = render(z, c, range(3))
    for row, one in enumerate(found):
        picture = torch.from_numpy(one.best).permute(2, 0, 1).flatten()
        assert torch.allclose(picture[::2], wanted[row, ::2].clamp(0, 1), atol=0.01)
        assert torch.allclose(picture[1::2], start[row].flatten()[1::2].clamp(0, 1), atol=1e-5)
        assert one.trace[-1] < 1e-3 * one.trace[0]
        np.testing.assert_allclose(
            one.first, start[row].permute(1, 2, 0).clamp(0, 1).numpy(), rtol=1e-6
        )


def test_the_latent_is_held_between_what_was_decoded_of_it_and_of_the_structure() -> None:
    z, c, wanted, targets = problem()
    held = Search(iterations=600, lr=0.05, final_weight=0, latent_weight=0.02)
    found = optimise(render, look, z, c, targets, held)
    for row, one in enumerate(found):
        flat, other = z[row].flatten(), wanted[row] - 0.5 - 0.05 * c[row].repeat_interleave(16)
        # Minimum of (.1 x - s)^2 / 24 + .02 (x - z)^2 / 48 for a kept unit; the others stay.
        pull, hold = 0.01 / 24, 0.02 / 48
        expected = flat.clone()
        expected[::2] = ((pull * other / 0.1 + hold * flat) / (pull + hold))[::2]
        picture = render(expected.view(1, 3, SIDE, SIDE), c[[row]], [row])[0]
        np.testing.assert_allclose(
            one.best, picture.permute(1, 2, 0).clamp(0, 1).numpy(), atol=2e-3
        )
        assert one.trace[0] == pytest.approx(
            float(targets.loss(look(render(z, c, range(3))), range(3), 0)[row])
        )
        x = expected
        least = (0.1 * x - other)[::2].square().mean() + 0.02 * (x - flat).square().mean()
        assert min(one.trace) == pytest.approx(float(least), rel=1e-3)


def test_the_steps_are_those_of_adam() -> None:
    z, c, _, targets = problem(1)
    search = Search(iterations=5, lr=0.02, decay=0.9, final_weight=0)
    found = optimise(render, look, z, c, targets, search)[0]
    x, m, v, losses = z[0].clone(), torch.zeros(()), torch.zeros(()), []
    for step in range(1, 7):
        flat = (0.5 + 0.1 * x + 0.05 * c[0][:, None, None]).flatten()
        error = flat[::2] - targets.layers["flat"][0]
        losses.append(float(error.square().mean()))
        g = torch.zeros(48)
        g[::2] = 2 * error / 24 * 0.1
        g = g.reshape(x.shape)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rate = 0.02 * 0.9 ** (step - 1)
        x = x - rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    assert found.trace == pytest.approx(losses, rel=1e-4)


def test_queries_do_not_influence_one_another() -> None:
    z, c, _, targets = problem(3)
    search = Search(iterations=20, patience=4, lr=0.3, latent_weight=0.02)
    together = optimise(render, look, z, c, targets, search)

    def only(row: int) -> Found:
        own = Targets(
            {k: v[[row]] for k, v in targets.layers.items()}, targets.units,
            {k: v[[row]] for k, v in targets.weights.items()}, targets.centre, targets.scale,
            targets.final, targets.direction[[row]],  # type: ignore[index]
        )  # fmt: skip
        return optimise(render, look, z[[row]], c[[row]], own, search)[0]

    for row in range(3):
        assert together[row].trace == pytest.approx(only(row).trace, rel=1e-4)


def test_the_picture_is_that_of_the_smallest_loss_and_patience_stops() -> None:
    z, c, _, targets = problem(2)
    search = Search(iterations=200, lr=2.0, patience=1, final_weight=0, frames=0)
    for one in optimise(render, look, z, c, targets, search):
        best = int(np.argmin(one.trace))
        assert one.chosen == best
        assert len(one.trace) == best + 1 + 1 < 150
        flat = torch.from_numpy(one.best).permute(2, 0, 1).flatten()
        assert one.frames == {}
        assert flat.shape == (48,)
    long = Search(iterations=12, lr=2.0, frames=5)
    found = optimise(render, look, z, c, targets, long)
    assert [len(one.trace) for one in found] == [13, 13]
    assert list(found[0].frames) == [0, 5, 10]
    np.testing.assert_array_equal(found[0].frames[0], found[0].first)


def test_c_moves_only_when_asked() -> None:
    z, c, _, targets = problem(2)
    seen: list[torch.Tensor] = []

    def spy(z: torch.Tensor, c: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        seen.append(c.detach().clone())
        return render(z, c, rows)

    optimise(spy, look, z, c, targets, Search(iterations=3))
    assert all(torch.equal(one, c) for one in seen)
    seen.clear()
    optimise(spy, look, z, c, targets, Search(iterations=3, optimise="c and z"))
    assert not torch.allclose(seen[-1], c)


def test_a_loss_that_is_not_finite_stops_its_query_alone() -> None:
    z, c, _, targets = problem(2)
    calls: list[int] = []

    def broken(z: torch.Tensor, c: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        calls.append(len(rows))
        spoilt = torch.tensor([[np.nan] if r == 0 and len(calls) > 2 else [1.0] for r in rows])
        return render(z, c, rows) * spoilt[:, :, None, None].float()

    found = optimise(broken, look, z, c, targets, Search(iterations=6))
    assert [len(one.trace) for one in found] == [3, 7]
    assert np.isfinite(found[0].best).all()
    assert found[0].chosen == 1


def test_a_budget_of_time_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    z, c, _, targets = problem(2)
    now = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    found = optimise(render, look, z, c, targets, Search(iterations=50, seconds=2.0))
    assert [len(one.trace) for one in found] == [5, 5]  # 2 seconds for each of two queries


@pytest.mark.parametrize(
    "wrong",
    [{"iterations": 0}, {"lr": 0.0}, {"optimise": "c"}, {"patience": 0}, {"seconds": -1.0},
     {"frames": -1}, {"latent_weight": -0.1}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="stage 2"):
        Search(**wrong)

"""The diffusion prior draws from the right distribution, with noise of each query's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phosphene.errors import DataError, NotFittedError
from phosphene.reconstruction.prior import TRAIN_STEPS, DiffusionPrior, PriorUNet, _alphas


def quick(**changes: object) -> DiffusionPrior:
    settings: dict[str, object] = {
        "widths": (64, 32), "epochs": 100, "batch_size": 128, "lr": 3e-3, "dropout": 0.0,
        "guidance": 1.0, "device": "cpu",
    }  # fmt: skip
    return DiffusionPrior(**{**settings, **changes})  # type: ignore[arg-type]


def pairs(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Conditions c and vectors 10 + 3 (2c, -c) + noise of deviation 1.5 in each dimension."""
    rng = np.random.default_rng(seed)
    c = rng.standard_normal((n, 1))
    x = 10 + 3 * np.hstack([2 * c, -c]) + 1.5 * rng.standard_normal((n, 2))
    return c.astype(np.float32), x.astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> DiffusionPrior:
    return quick().fit(*pairs(), progress=False)


def test_samples_have_the_mean_and_spread_of_the_vectors_given_the_condition(
    fitted: DiffusionPrior,
) -> None:
    drawn = fitted.sample(np.array([[-1.0], [0.0], [1.0]]), n=300, seed=1)
    expected = 10 + 3 * np.array([[-2.0, 1.0], [0.0, 0.0], [2.0, -1.0]])
    assert np.abs(drawn.mean(axis=1) - expected).max() < 1.0
    assert 0.9 < drawn.std(axis=1).mean() < 2.1


def test_the_sampler_is_exact_for_a_known_distribution() -> None:
    # For vectors of mean m and deviation s in each dimension the best answer is known:
    # E[e | x_t] = sqrt(1 - a) (x_t - sqrt(a) m) / (a s^2 + 1 - a), and x from it.
    prior = quick(steps=200).fit(*pairs(50), progress=False)
    prior._range = np.array([[-99.0] * 2, [99.0] * 2], np.float32)  # nothing is cut off
    a, m, s = torch.from_numpy(_alphas()).float(), 2.0, 0.5

    def best(x: torch.Tensor, time: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        share = a[time][:, None]
        noise = (1 - share).sqrt() * (x - share.sqrt() * m) / (share * s**2 + 1 - share)
        clean = (x - (1 - share).sqrt() * noise) / share.sqrt()
        return share.sqrt() * noise - (1 - share).sqrt() * clean

    prior.network_.forward = best  # type: ignore[method-assign]
    drawn = prior.sample(np.zeros((1, 1)), n=4000, seed=0)[0]
    unit = (drawn - prior._means[1]) / prior._scales[1]
    assert np.abs(unit.mean(axis=0) - m).max() < 0.06
    assert np.abs(unit.std(axis=0) - s).max() < 0.04


def test_wide_vectors_keep_their_length() -> None:
    # Wider than the network, as pictures' vectors are: errors must not grow in the first steps.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 300)).astype(np.float32)
    prior = quick(epochs=20).fit(x[:, :5], x, progress=False)
    drawn = prior.sample(x[:4, :5], n=10)
    assert 0.5 < drawn.std() < 1.5


def test_samples_stay_in_the_range_of_training() -> None:
    c, x = pairs(100)
    far = quick(epochs=10, guidance=50.0).fit(c, x, progress=False)
    drawn = far.sample([[-1.0], [1.0]], n=50).reshape(-1, 2)
    assert (drawn >= x.min(axis=0) - 1e-3).all()
    assert (drawn <= x.max(axis=0) + 1e-3).all()


def test_guidance_narrows_what_is_drawn(fitted: DiffusionPrior) -> None:
    # Of Gaussians of deviation 1.5 with and 6.2 without the condition, guidance 3 makes one of
    # precision 3 / 1.5^2 - 2 / 6.2^2, which is a deviation of .9, with nearly the same mean.
    guided = quick(guidance=3.0).restore(fitted.arrays())
    for c in (-1.0, 1.0):
        near, far = (one.sample([[c]], n=300)[0] for one in (fitted, guided))
        assert far.std(axis=0).mean() < 0.85 * near.std(axis=0).mean()
        assert np.abs(far.mean(axis=0) - near.mean(axis=0)).max() < 2


def test_a_part_of_the_training_without_conditions_teaches_the_distribution_of_all(
    fitted: DiffusionPrior,
) -> None:
    blind = quick(guidance=0.0).restore(fitted.arrays())
    drawn = blind.sample([[-1.0], [1.0]], n=300, ids=["same", "same"])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    spread = drawn[0].std(axis=0)  # of all vectors: 6.2 and 3.4; given a condition: 1.5
    assert 4.0 < spread[0] < 9.0
    assert 2.2 < spread[1] < 5.0
    never = quick(condition_drop=0.0, guidance=0.0).fit(*pairs(), progress=False)
    unlearned = never.sample([[0.0]], n=300)[0].std(axis=0)
    assert abs(np.log(unlearned[0] / 6.2)) > abs(np.log(spread[0] / 6.2))


def test_noise_belongs_to_query_and_sample(fitted: DiffusionPrior) -> None:
    c = np.array([[0.3], [-0.7]], np.float32)
    both = fitted.sample(c, n=3, seed=5, ids=["a", "b"])
    alone = fitted.sample(c[1:], n=2, seed=5, ids=["b"])
    np.testing.assert_allclose(both[1, :2], alone[0], rtol=1e-4, atol=1e-4)
    assert not np.allclose(both[0, 0], both[0, 1])
    assert not np.allclose(both, fitted.sample(c, n=3, seed=6, ids=["a", "b"]))
    np.testing.assert_array_equal(both, fitted.sample(c, n=3, seed=5, ids=["a", "b"]))


def test_a_seed_gives_one_prior_and_arrays_give_it_back(fitted: DiffusionPrior) -> None:
    first = quick(epochs=2, dropout=0.2).fit(*pairs(100), progress=False)
    state = torch.random.get_rng_state()
    again = quick(epochs=2, dropout=0.2).fit(*pairs(100), progress=False)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.losses_ == again.losses_
    assert first.losses_ != quick(epochs=2, dropout=0.0).fit(*pairs(100), progress=False).losses_
    other = quick(random_state=1)
    loaded = other.restore(fitted.arrays())
    np.testing.assert_array_equal(loaded.sample([[1.0]], 2), fitted.sample([[1.0]], 2))


def test_the_network_has_the_widths_of_the_paper() -> None:
    network = PriorUNet(1024, 1024)
    shapes = [tuple(block[0].weight.shape) for block in (*network.down, *network.up)]  # type: ignore[index]
    narrow = [(512, 1024), (256, 512), (128, 256), (64, 128)]
    assert shapes == [*narrow, *[(a, b) for b, a in narrow[::-1]]]
    with torch.no_grad():
        x, time = torch.randn(2, 1024), torch.tensor([3, 900])
        known = network.eval()(x, time, torch.randn(2, 1024), torch.tensor([[0.0], [1.0]]))
        other = network(x, time, torch.randn(2, 1024), torch.tensor([[0.0], [1.0]]))
    assert torch.equal(known[0], other[0])  # without a condition, it does not matter
    assert not torch.allclose(known[1], other[1])


def test_what_cannot_be_is_refused(fitted: DiffusionPrior) -> None:
    c, x = pairs(10)
    with pytest.raises(DataError, match="pairs"):
        quick().fit(c[:5], x)
    with pytest.raises(DataError, match="finite"):
        quick().fit(c, np.full_like(x, np.nan))
    with pytest.raises(DataError, match="steps"):
        quick(steps=TRAIN_STEPS + 1).fit(c, x)
    with pytest.raises(DataError, match="width"):
        fitted.sample(np.zeros((1, 2)))
    with pytest.raises(NotFittedError):
        quick().sample(c)

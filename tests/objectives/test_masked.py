"""Masked reconstruction: what counts, where gradients go, and that it learns across modalities."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from phosphene.errors import DataError
from phosphene.objectives.masked import MaskedReconstruction, Reconstructor, count_tokens

KINDS: list[Reconstructor] = ["attention", "mlp"]
B, D = 6, 32


def make(
    kind: Reconstructor = "attention", ratio: float = 0.5, width: int = D
) -> MaskedReconstruction:
    torch.manual_seed(0)
    return MaskedReconstruction(width, ratio, kind)


def vectors(n: int = B, width: int = D) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, n, width, generator=torch.Generator().manual_seed(1)))  # type: ignore[return-value]


def loss_of(module: MaskedReconstruction, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The loss with the masks of one seed."""
    torch.manual_seed(5)
    return module(own, other)


def hidden_of(module: MaskedReconstruction, n: int = B) -> torch.Tensor:
    """Which tokens (n, tokens) ``loss_of`` hides: the same in all rows."""
    torch.manual_seed(5)
    masked, visible = module.draw(torch.device("cpu"))
    assert torch.cat([masked, visible]).sort().values.tolist() == list(range(module.tokens))
    hidden = torch.zeros(module.tokens, dtype=torch.bool)
    hidden[masked] = True
    return hidden.expand(n, -1)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_one_minus_the_cosine_of_hidden_tokens(kind: Reconstructor) -> None:
    module = make(kind)
    own, other = vectors()
    hidden = hidden_of(module)
    seen: list[torch.Tensor] = []
    module.fill.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    loss = loss_of(module, own, other)
    torch.manual_seed(5)
    masked, _ = module.draw(torch.device("cpu"))
    total, count = 0.0, 0
    for row in range(B):
        scale = D**0.5 / own[row].norm()
        for j, token in enumerate(masked.tolist()):
            assert hidden[row, token]
            width = D // module.tokens
            target = (scale * own[row])[token * width : (token + 1) * width]
            guess = seen[0].view(B, module.n_masked, width)[row, j]
            total += 1 - float(guess @ target / guess.norm() / target.norm())
            count += 1
    assert loss.item() == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_numbers_reach_the_prediction_in_no_way(kind: Reconstructor) -> None:
    module = make(kind)
    own, other = vectors()
    hidden = hidden_of(module).repeat_interleave(D // module.tokens, dim=1)
    seen: list[torch.Tensor] = []
    module.fill.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    # Turned round, hidden numbers keep the length of the vector, which scales the visible ones.
    for changed in (own, torch.where(hidden, -own, own), torch.where(hidden, own, -own)):
        loss_of(module, changed, other)
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-6)
    assert (seen[2] - seen[0]).abs().max() > 1e-3  # visible ones do
    loss_of(module, own, -other)
    assert (seen[3] - seen[0]).abs().max() > 1e-3  # and so does the other modality


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_what_is_hidden(kind: Reconstructor) -> None:
    module = make(kind)
    own, other = (x.requires_grad_() for x in vectors())
    hidden = hidden_of(module).repeat_interleave(D // module.tokens, dim=1)
    tokens = own.detach()
    # Against the scaled vector: its length depends on all numbers, hidden ones too.
    scaled = torch.nn.functional.normalize(tokens, dim=1).requires_grad_()
    module._tokens = lambda x: (x * D**0.5).unflatten(1, (module.tokens, -1))  # type: ignore[method-assign]
    loss_of(module, scaled, other).backward()
    assert scaled.grad is not None
    assert other.grad is not None
    assert not scaled.grad[hidden].any()
    assert scaled.grad[~hidden].ne(0).float().mean() > 0.9
    assert other.grad.ne(0).float().mean() > 0.9
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("kind", KINDS)
def test_learns_to_copy_across_modalities(kind: Reconstructor) -> None:
    module = make(kind, width=24)
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    mixing = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(0)))[0]
    stream = torch.Generator().manual_seed(2)
    for _ in range(300):
        own = torch.randn(128, 24, generator=stream)
        loss = module(own, own @ mixing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    own = torch.randn(512, 24, generator=stream)
    with torch.no_grad():
        paired = float(loss_of(module, own, own @ mixing))
        other = float(loss_of(module, own, (own @ mixing).roll(1, 0)))
    assert paired < 0.75
    assert other > 0.95  # nothing to be known from another's vector, nor from independent tokens


def test_mask_ratio_and_tokens() -> None:
    for ratio, expected in ((0.01, 1), (0.25, 4), (0.5, 8), (1.0, 16)):
        module = make(ratio=ratio)
        assert hidden_of(module).sum(1).tolist() == [expected] * B
        assert torch.isfinite(loss_of(module, *vectors()))
    module = make()
    torch.manual_seed(0)
    drawn = torch.stack([module.draw(torch.device("cpu"))[0] for _ in range(4000)])
    shares = torch.bincount(drawn.flatten(), minlength=16) / 4000
    assert (shares - 0.5).abs().max() < 0.04  # every position alike
    assert [count_tokens(n) for n in (512, 1024, 768, 24, 2)] == [16, 16, 16, 12, 2]


def test_attention_is_what_its_queries_keys_and_values_say() -> None:
    """Token by token, with keys made; the module folds them into its queries."""
    torch.manual_seed(0)
    module = MaskedReconstruction(48)
    block: Any = module.fill
    own, other = (module._tokens(x) for x in vectors(width=48))
    torch.manual_seed(5)
    masked, visible = module.draw(torch.device("cpu"))
    filled = block(own, other, masked, visible).view(B, len(masked), -1)
    for row in range(B):
        context = torch.cat([other[row], own[row, visible]])
        places = torch.cat([torch.arange(module.tokens), module.tokens + visible])
        for j, asked in enumerate(masked.tolist()):
            keys = block.key(context) + block.place[places]
            weights = torch.softmax(keys @ block.query[asked], dim=0)
            x = block.state[asked] + block.out((weights @ context)[None])
            expected = block.back(x + block.feed(x))[0]
            torch.testing.assert_close(filled[row, j], expected, rtol=1e-4, atol=1e-5)


def test_scaled_inputs_are_taken_as_they_are() -> None:
    own, other = (x / x.square().mean(1, keepdim=True).sqrt() for x in vectors())
    plain, scaled = make(), make()
    scaled.scaled_inputs = True
    torch.testing.assert_close(loss_of(scaled, own, other), loss_of(plain, own, other))
    assert not torch.isclose(loss_of(scaled, 3 * own, other), loss_of(plain, 3 * own, other))


def test_scale_does_not_matter_and_bf16_gives_float32() -> None:
    module = make()
    own, other = vectors()
    plain = loss_of(module, own, other)
    torch.testing.assert_close(loss_of(module, 100 * own, 0.01 * other), plain)
    with torch.autocast("cpu", torch.bfloat16):
        low = loss_of(module, own.bfloat16(), other)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(plain.item(), abs=0.02)


def test_impossible_settings_are_refused() -> None:
    for ratio in (0.0, 1.5):
        with pytest.raises(DataError, match="mask_ratio"):
            MaskedReconstruction(32, ratio)
    with pytest.raises(DataError, match="unknown reconstructor"):
        MaskedReconstruction(32, 0.5, "linear")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"equal width[\s\S]*509 numbers"):
        MaskedReconstruction(509)

"""Checks of brain encoders: modules from (batch, channels, times) to (batch, outputs)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import nn

from phosphene import _random, _registry
from phosphene.errors import listing
from phosphene.testing._runner import CheckFailure, Suite, fail, raise_first

MONTAGES: tuple[tuple[int, int], ...] = ((17, 250), (63, 250), (271, 201))
VOXELS = 300


@dataclass(frozen=True)
class EncoderPart:
    """An encoder class under test, with the input sizes it is tried on.

    Parameters
    ----------
    shapes : sequence of (n_chans, n_times)
        ``n_times`` None stands for voxels: input of shape (batch, n_chans).
    """

    name: str
    build: Callable[..., Any]
    shapes: Sequence[tuple[int, int | None]] = MONTAGES
    n_outputs: int = 16
    params: Mapping[str, Any] = field(default_factory=dict)

    def module(self, shape: tuple[int, int | None], *names: object) -> nn.Module:
        """A fresh module whose initial values come from the stream called ``names``."""
        with _random.seeded(0, "check", *(names or ("encoder",))):
            module: object = self.build(
                n_chans=shape[0], n_times=shape[1], n_outputs=self.n_outputs, **self.params
            )
        if isinstance(module, nn.Module):
            return module
        raise CheckFailure("an encoder is a torch.nn.Module", found=type(module).__name__)

    def cases(self) -> Iterator[tuple[nn.Module, torch.Tensor]]:
        """A module and a batch for every input size."""
        for shape in self.shapes:
            yield self.module(shape), brain(shape)

    def smallest(self) -> tuple[int, int | None]:
        """The input size with the fewest numbers."""
        return min(self.shapes, key=lambda shape: shape[0] * (shape[1] or 1))


def prepare(name: str, part: Any) -> EncoderPart:
    """Try a part on the montages, and on voxels when it can be built without a time axis."""
    if isinstance(part, EncoderPart):
        return part
    shapes: list[tuple[int, int | None]] = list(MONTAGES)
    try:
        part(n_chans=VOXELS, n_times=None, n_outputs=4)
    except Exception:  # an encoder of signals in time says so in its own way
        return EncoderPart(name, part, shapes)
    return EncoderPart(name, part, [*shapes, (VOXELS, None)])


def brain(shape: tuple[int, int | None], n: int = 5) -> torch.Tensor:
    """Responses with unit variance, shape (n, channels, times) or (n, voxels)."""
    channels, times = shape
    stream = _random.torch_generator(0, "check", "brain", *shape)
    size = (n, channels) if times is None else (n, channels, times)
    return torch.randn(size, generator=stream)


def output_shape_and_finite_values(part: EncoderPart) -> None:
    """Every montage and duration gives (batch, n_outputs), finite, float32; so does one trial."""
    for module, x in part.cases():
        for batch, training in ((x, True), (x, False), (x[:1], False)):
            z = module.train(training)(batch)
            if z.shape != (len(batch), part.n_outputs) or z.dtype != torch.float32:
                fail(
                    f"wrong output for input of shape {tuple(batch.shape)}",
                    found=f"{z.dtype} {tuple(z.shape)}",
                    expected=f"torch.float32 {(len(batch), part.n_outputs)}",
                )
            if not bool(torch.isfinite(z).all()):
                fail(f"NaN or infinite output for input of shape {tuple(batch.shape)}")


def batch_independence_in_eval(part: EncoderPart) -> None:
    """In eval mode a trial's vector does not depend on the other trials of the batch."""
    for module, x in part.cases():
        module.train()(x)  # running statistics must be learned from training, then left alone
        module.eval()
        with torch.no_grad():
            others = x.clone()
            others[1:] = others[1:] * 3 + 1
            together, mixed = module(x), module(others)
            alone = torch.cat([module(row[None]) for row in x])
        shape = tuple(x.shape)
        if not torch.allclose(together[0], mixed[0], rtol=1e-4, atol=1e-5):
            fail(f"a trial's vector changes with the rest of the batch, input {shape}")
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-4):
            fail(f"trials alone are encoded otherwise than in a batch, input {shape}")


def is_deterministic_in_eval(part: EncoderPart) -> None:
    """Two eval passes give the same bits: dropout and other noise are off."""
    shape = part.smallest()
    module, x = part.module(shape).eval(), brain(shape)
    with torch.no_grad():
        if not torch.equal(module(x), module(x)):
            fail("two passes in eval mode differ")


def inputs_reach_the_output(part: EncoderPart) -> None:
    """Different responses give different vectors."""
    for module, x in part.cases():
        module.eval()
        with torch.no_grad():
            z = module(x)
        if torch.allclose(z[0], z[1], rtol=1e-3, atol=1e-5):
            fail(f"two different responses got the same vector, input {tuple(x.shape)}")


def gradients_reach_all_parameters(part: EncoderPart) -> None:
    """Every trainable parameter gets a finite gradient that is not all zero.

    In training or in eval mode: a bias in front of a batch norm acts in the latter only.
    """
    for module, x in part.cases():
        reached: dict[str, bool] = {}
        for training in (True, False):
            module.zero_grad()
            with _random.seeded(0, "check", "dropout"):
                z = module.train(training)(x)
            weights = torch.randn(z.shape, generator=_random.torch_generator(0, "check", "weights"))
            (z * weights).sum().backward()
            for name, parameter in module.named_parameters():
                gradient = parameter.grad
                if not parameter.requires_grad:
                    continue
                if gradient is not None and not bool(torch.isfinite(gradient).all()):
                    fail(f"the gradient of the parameter {name!r} is not finite")
                here = gradient is not None and bool(gradient.any())
                reached[name] = reached.get(name, False) or here
        if not reached:
            fail("the encoder has no trainable parameters")
        if unreached := [name for name, hit in reached.items() if not hit]:
            fail(f"no gradient reaches the parameters {listing(unreached)}")


def initialisation_follows_the_seed(part: EncoderPart) -> None:
    """Same seed, same initial values to the bit; another seed, other values."""
    shape = part.smallest()
    first, again = part.module(shape, "a").state_dict(), part.module(shape, "a").state_dict()
    other = part.module(shape, "b").state_dict()
    for name, value in first.items():
        if not torch.equal(value, again[name]):
            fail(f"{name!r} starts differently under the same seed")
    if all(torch.equal(value, other[name]) for name, value in first.items()):
        fail("the initial values do not depend on the seed")


def state_survives_saving(part: EncoderPart) -> None:
    """A module rebuilt from its saved tensors gives the same bits."""
    shape = part.smallest()
    module, x = part.module(shape, "a"), brain(shape)
    module.train()(x)
    module.eval()
    rebuilt = part.module(shape, "b")
    state = {name: value.contiguous().clone() for name, value in module.state_dict().items()}
    rebuilt.load_state_dict(load(save(state)))
    rebuilt.eval()
    with torch.no_grad():
        if not torch.equal(module(x), rebuilt(x)):
            fail("the module rebuilt from its state gives other vectors")


def inputs_unmodified(part: EncoderPart) -> None:
    """The responses that went in are left as they are."""
    for module, x in part.cases():
        before = x.clone()
        module.train()(x)
        module.eval()(x)
        if not torch.equal(x, before):
            fail("the encoder changed its input in place", found=f"shape {tuple(x.shape)}")


def wrong_channel_count_is_refused(part: EncoderPart) -> None:
    """A batch with one channel too few is an error, not a silent answer."""
    for module, x in part.cases():
        module.eval()
        try:
            module(x[:, :-1])
        except Exception:  # any error will do for a module of the user's own
            continue
        fail(f"a batch with {x.shape[1] - 1} instead of {x.shape[1]} channels was accepted")


SUITE: Suite[EncoderPart] = Suite(
    "encoder",
    prepare,
    (
        # first, so that other findings are not its consequence
        inputs_unmodified,
        output_shape_and_finite_values,
        batch_independence_in_eval,
        is_deterministic_in_eval,
        inputs_reach_the_output,
        gradients_reach_all_parameters,
        initialisation_follows_the_seed,
        state_survives_saving,
        wrong_channel_count_is_refused,
    ),
)
_registry.add("check", "encoder", SUITE)


def check_encoder(
    encoder: Any,
    *,
    shapes: Sequence[tuple[int, int | None]] | None = None,
    n_outputs: int = 16,
    **params: Any,
) -> None:
    """Check a brain encoder.

    Parameters
    ----------
    encoder : str or callable
        A registered name, or a class or function that is called with ``n_chans``, ``n_times``,
        ``n_outputs`` and returns a module from (batch, channels, times) to (batch, n_outputs).
    shapes : sequence of (int, int or None), optional
        Channels and times to try; times None means voxels. By default 17 x 250, 63 x 250 and
        271 x 201, and voxels for encoders that can be built with ``n_times=None``.
    n_outputs : int, default=16
        Size of the vectors.
    **params
        Further arguments of the encoder.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.

    Examples
    --------
    >>> check_encoder("eegproject", shapes=[(8, 40)])
    """
    name = encoder if isinstance(encoder, str) else getattr(encoder, "__name__", "encoder")
    build = _registry.get("encoder", encoder) if isinstance(encoder, str) else encoder
    part = prepare(name, build)
    raise_first(SUITE, EncoderPart(name, build, shapes or part.shapes, n_outputs, params))

"""A frozen network whose layers can be asked for by name.

Names: results of the whole network (``embedding``, ``pooled``, ``last``), hidden layers
(``layer0`` is what goes into the first block, ``layerN`` what comes out of the last; ``depth=0.6``
is the one at that fraction of the depth), and any module inside by its dotted path. What is over
tokens or a map takes a pooling: ``:cls`` the class token, ``:mean`` the mean of the patch tokens or
of the map, ``:tokens`` everything flattened. Without one it is ``:cls`` where there is a class
token, else ``:mean``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.encoders._taps import Seen, Taps, look

# Results by name, and the hidden layers in order when they were asked for.
Results = tuple[Mapping[str, Tensor], Sequence[Tensor]]
Forward = Callable[[Tensor, bool], Results]
POOLINGS = ("cls", "mean", "tokens")
_CLASS_TOKENS = {"cls_token", "class_embedding", "class_token"}
_MORE_TOKENS = {"register_tokens", "reg_token", "distillation_token", "dist_token"}


@dataclass(frozen=True)
class _Layer:
    """Where a layer comes from: ``result``, ``hidden`` or ``module``; its key, and its pooling."""

    origin: str
    key: Any
    shape: tuple[int, ...]
    pooling: str


@dataclass
class Network:
    """A module with a function that runs it.

    Parameters
    ----------
    module : torch.nn.Module
        Network in eval mode on its device.
    forward : callable
        Takes pictures (B, 3, size, size), standardised, and whether hidden layers are wanted;
        gives results by name, and the hidden layers in order.
    aliases : mapping
        Names of results that are the output of a module, by the module's path.
    prefix : str
        What a path may begin with, or not: versions of libraries differ.
    lacking : sequence of str
        Weights that are random: the modules that hold them give no layer.
    """

    module: nn.Module
    forward: Forward
    aliases: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    lacking: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = {name.rpartition(".")[2]: value for name, value in self.module.named_parameters()}
        self.has_class_token = bool(names.keys() & _CLASS_TOKENS)
        # Registers and distillation tokens stand between the class token and the patches.
        extra = sum(int(names[key].shape[-2]) for key in names.keys() & _MORE_TOKENS)
        self._first_patch = int(self.has_class_token) + extra
        self._taps = Taps(self.module)
        self._seen = Seen()
        self._results: dict[str, tuple[int, ...]] = {}
        self._hidden: list[tuple[str | None, tuple[int, ...]]] = []

    def open(self, blank: Tensor) -> None:
        """Learn the layers and their shapes from one pass over a blank picture."""
        with torch.inference_mode():
            self._seen, (results, hidden) = look(self.module, lambda: self.forward(blank, True))
            # Most models hand out the very tensors that a module made, which can then be taken
            # there; what they make in between comes from a pass over the whole.
            self._hidden = [(self._seen.module_of(t), tuple(t.shape)) for t in hidden]
        self._results = {name: tuple(value.shape) for name, value in results.items()}
        self._seen.forget()

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return max(len(self._hidden) - 1, 0)

    @property
    def layers(self) -> tuple[str, ...]:
        """The results and the hidden layers, each with the pooling that is meant without one."""
        names = [*self._results, *self.aliases, *(f"layer{i}" for i in range(len(self._hidden)))]
        return tuple(self.canonical(name) for name in sorted(set(names), key=names.index))

    def canonical(self, name: str, owner: str = "") -> str:
        """The one spelling of a layer's name, pooling included.

        Raises
        ------
        UnknownNameError
            If there is no such layer; the nearest names are listed.
        """
        return self._find(name, owner)[0]

    def run(self, images: Tensor, names: Sequence[str], owner: str = "") -> dict[str, Tensor]:
        """Vectors (B, d), float32, of some layers, from one pass.

        Blocks behind the deepest layer are not run, unless a result of the whole is asked for.
        """
        with torch.inference_mode():
            return self._run(images, names, owner, self._pool)

    def maps(self, images: Tensor, names: Sequence[str], owner: str = "") -> dict[str, Tensor]:
        """What layers put out before any pooling, float32; differentiable in the pictures."""
        # A clone, because later operations may work in place.
        return self._run(images, names, owner, lambda output, _: output.float().clone())

    def _run(
        self,
        images: Tensor,
        names: Sequence[str],
        owner: str,
        pool: Callable[[Tensor, _Layer], Tensor],
    ) -> dict[str, Tensor]:
        wanted = {name: self._find(name, owner)[1] for name in names}
        made: dict[str, Tensor] = {}
        by_module: dict[str, list[str]] = {}
        for name, layer in wanted.items():
            if layer.origin == "module":
                by_module.setdefault(layer.key, []).append(name)
        hidden = any(layer.origin == "hidden" for layer in wanted.values())
        whole = hidden or any(layer.origin == "result" for layer in wanted.values())

        def take(keys: Sequence[str]) -> Callable[[Tensor], None]:
            def keep(output: Tensor) -> None:  # at once: later operations may work in place
                for key in keys:
                    made[key] = pool(output, wanted[key])

            return keep

        def forward() -> None:
            results, states = self.forward(images, hidden)
            for name, layer in wanted.items():
                if layer.origin != "module":
                    source: Any = results if layer.origin == "result" else states
                    made[name] = pool(source[layer.key], layer)

        takes = {module: take(keys) for module, keys in by_module.items()}
        self._taps.run(forward, takes, stop=not whole)
        for name in names:
            if len(made[name]) != len(images):
                raise DataError(
                    f"layer {name!r} of {owner} does not depend on the picture",
                    found=f"{len(made[name])} rows for {len(images)} pictures",
                )
        return {name: made[name] for name in names}

    # -- names --------------------------------------------------------------------------------

    def _find(self, name: str, owner: str) -> tuple[str, _Layer]:
        base, _, pooling = name.partition(":")
        if base.startswith("depth="):
            base = self._at_depth(base, name, owner)
        shape: tuple[int, ...] = ()
        origin, key = "", None  # type: str, Any
        if base in self._results:
            origin, key, shape = "result", base, self._results[base]
        elif match := re.fullmatch(r"layer(\d+)", base):
            if int(match[1]) < len(self._hidden):
                place, shape = self._hidden[int(match[1])]
                origin, key = ("module", place) if place else ("hidden", int(match[1]))
        elif path := self._module(self.aliases.get(base, base)):
            origin, key, shape = "module", path, self._seen.shapes[path]
            if base not in self.aliases:
                base = path.removeprefix(self.prefix)
        if not origin:
            raise self._unknown(name, owner)
        if not pooling:
            pooling = self._default_pooling(shape)
        elif pooling not in self._poolings(shape):
            raise UnknownNameError(
                f"layer {base!r} of {owner} has no pooling {pooling!r}",
                found=name,
                expected=" or ".join(f"{base}:{p}" for p in self._poolings(shape))
                or f"{base}, which is one vector",
                fix=_registry.did_you_mean(pooling, self._poolings(shape)),
            )
        layer = _Layer(origin, key, shape, pooling)
        return (f"{base}:{pooling}" if pooling else base), layer

    def _at_depth(self, base: str, name: str, owner: str) -> str:
        try:
            fraction = float(base.removeprefix("depth="))
        except ValueError:
            raise self._unknown(name, owner) from None
        if not self._hidden or not 0 <= fraction <= 1:
            raise UnknownNameError(
                f"{owner} has no layer {name!r}",
                expected="a fraction from 0 to 1 of its depth"
                if self._hidden
                else "one of " + ", ".join(self.layers),
            )
        return f"layer{int(fraction * self.depth + 0.5)}"

    def _module(self, path: str) -> str | None:
        for candidate in (path, self.prefix + path, path.removeprefix(self.prefix)):
            # What runs several times has no one output, what lacks weights has none of its own.
            lacks = any(f".{candidate}." in f".{key}" for key in self.lacking)
            if (
                self._seen.counts.get(candidate) == 1
                and candidate in self._seen.shapes
                and not lacks
            ):
                return candidate
        return None

    def _unknown(self, name: str, owner: str) -> UnknownNameError:
        base, colon, pooling = name.partition(":")
        modules = [path.removeprefix(self.prefix) for path in self._seen.shapes]
        near = [n.partition(":")[0] for n in self.layers] + modules
        hint = _registry.did_you_mean(base, near)
        return UnknownNameError(
            f"{owner} has no layer {name!r}",
            expected=f"one of {', '.join(self.layers)}, depth=0 to depth=1, or a module inside",
            fix=hint if hint or not colon else f"leave out {pooling!r} to see what is meant",
        )

    # -- pooling ------------------------------------------------------------------------------

    def _poolings(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """What an output of this shape (batch included) can be pooled to; nothing for a vector."""
        if len(shape) <= 2:
            return ()
        if len(shape) == 3:
            tokens = {s[1] for _, s in self._hidden if len(s) == 3}
            over_picture = not tokens or shape[1] in tokens
            if not over_picture:
                return ("tokens",)
            return POOLINGS if self.has_class_token else POOLINGS[1:]
        return POOLINGS[1:] if len(shape) == 4 and _map_axes(shape) else ("tokens",)

    def _default_pooling(self, shape: tuple[int, ...]) -> str:
        return next(iter(self._poolings(shape)), "")

    def _pool(self, output: Tensor, layer: _Layer) -> Tensor:
        if layer.pooling in ("", "tokens"):
            return output.flatten(1).float()
        if layer.pooling == "cls":
            return output[:, 0].float()
        if output.ndim == 4:
            return output.mean(_map_axes(layer.shape), dtype=torch.float32)
        patches = output[:, self._first_patch :]
        if self._first_patch and round(patches.shape[1] ** 0.5) ** 2 != patches.shape[1]:
            raise DataError(
                "cannot tell the patch tokens from the others",
                found=f"{output.shape[1]} tokens, {self._first_patch} before the patches",
                expected="a square number of patches",
                fix="ask for ':tokens' or ':cls'",
            )
        return patches.mean(1, dtype=torch.float32)


def _map_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Which axes of a map are height and width: the equal ones, since pictures are square."""
    if shape[2] == shape[3]:
        return (2, 3)
    return (1, 2) if shape[1] == shape[2] else ()  # type: ignore[return-value]

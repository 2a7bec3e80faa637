"""Outputs of modules inside a network, taken in one pass that ends once all have been seen."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

Take = Callable[[Tensor], None]
T = TypeVar("T")


class _Enough(Exception):  # noqa: N818 - ends a pass, nothing is wrong
    """Everything that was asked for has been seen."""


class Taps:
    """Hooks on the modules of a network, each set once; what a pass takes is its thread's own.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    """

    def __init__(self, module: nn.Module) -> None:
        self._modules = dict(module.named_modules())
        self._lock = threading.Lock()
        self._hooked: set[str] = set()
        self._here = threading.local()

    def run(self, forward: Callable[[], None], takes: Mapping[str, Take], *, stop: bool) -> None:
        """Run ``forward`` and hand the output of each named module to its function.

        With ``stop`` the pass ends as soon as all have been called.
        """
        with self._lock:
            for name in takes.keys() - self._hooked:
                self._modules[name].register_forward_hook(self._hook(name))
                self._hooked.add(name)
        self._here.takes, self._here.stop = dict(takes), stop
        try:
            forward()
        except _Enough:
            pass
        finally:
            self._here.takes = {}

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            takes: dict[str, Take] = getattr(self._here, "takes", {})
            if (take := takes.pop(name, None)) is None:
                return
            if (tensor := first_tensor(output)) is not None:
                take(tensor)
            if not takes and self._here.stop:
                raise _Enough

        return hook


@dataclass
class Seen:
    """What one pass showed of each module: the shape of its output, and how often it ran."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def module_of(self, tensor: Tensor) -> str | None:
        """The outermost module whose output is this very tensor."""
        names = [name for name, ref in self.outputs.items() if ref() is tensor]
        names = [name for name in names if self.counts[name] == 1]
        return min(names, key=lambda name: name.count("."), default=None)

    def forget(self) -> None:
        """Drop the references to outputs."""
        self.outputs.clear()


def look(module: nn.Module, forward: Callable[[], T]) -> tuple[Seen, T]:
    """Run ``forward`` once and note every module's output; gives its result too.

    Only weak references are kept, so that looking takes no more memory than the pass.
    """
    seen, handles = Seen(), []

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen.counts[name] = seen.counts.get(name, 0) + 1
            if (tensor := first_tensor(output)) is not None:
                seen.shapes[name] = tuple(tensor.shape)
                seen.outputs[name] = weakref.ref(tensor)

        return hook

    for name, part in module.named_modules():
        if name:
            handles.append(part.register_forward_hook(watch(name)))
    try:
        return seen, forward()
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(output: Any) -> Tensor | None:
    """The tensor of a module's output: itself, the first of a tuple or of a model's output."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)) and output:
        return output[0] if isinstance(output[0], Tensor) else None
    return None

"""Checks of views: transforms of a batch of images that keep shape, type and range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from phosphene import _random, _registry
from phosphene.stimuli.views import View, get_view
from phosphene.testing._runner import Suite, fail, info_of, raise_first


@dataclass(frozen=True)
class ViewPart:
    """A view under test."""

    name: str
    view: Any
    registered: bool

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the view; what is composed of vectors is composed of its parts' pixels."""
        parts = getattr(self.view, "parts", (self.view,))
        seen = [part(images) for part in parts]
        result = seen[0]
        if len(seen) > 1:
            flat = self.view.combine([image.flatten(1).numpy() for image in seen])
            result = torch.from_numpy(flat).view(images.shape)
        if not isinstance(result, torch.Tensor):
            fail("a view returns a tensor", found=type(result).__name__)
        assert isinstance(result, torch.Tensor)
        return result


def prepare(name: str, part: Any) -> ViewPart:
    """Build a registered view with its defaults; take any other object as it is."""
    if isinstance(part, type):
        return ViewPart(name, part(), any(e.obj is part for e in _registry.entries("view")))
    return ViewPart(name, part, isinstance(part, View) and bool(info_of("view", part.kind)))


def pictures(height: int = 48, width: int = 48, n: int = 4) -> torch.Tensor:
    """Random pictures in [0, 1] with edges at black and white, shape (n, 3, height, width)."""
    stream = _random.torch_generator(0, "check", "pictures", height, width)
    images = torch.rand(n, 3, height, width, generator=stream)
    images[0, :, : height // 2] = 0.0
    images[1, :, :, : width // 2] = 1.0
    return images


def shape_and_type_are_kept(part: ViewPart) -> None:
    """Square and oblong pictures keep their shape and type."""
    for height, width in ((48, 48), (60, 40), (64, 96)):
        images = pictures(height, width)
        seen = part(images)
        if seen.shape != images.shape or seen.dtype != images.dtype:
            fail(
                "a view keeps shape and type",
                found=f"{seen.dtype} {tuple(seen.shape)}",
                expected=f"{images.dtype} {tuple(images.shape)}",
            )


def values_stay_in_range(part: ViewPart) -> None:
    """Values stay in [0, 1], also for pictures that are all black or all white."""
    for images in (pictures(), torch.zeros(2, 3, 48, 48), torch.ones(2, 3, 48, 48)):
        seen = part(images)
        low, high = float(seen.min()), float(seen.max())
        if not (low >= -1e-5 and high <= 1 + 1e-5):
            fail("a view keeps values in [0, 1]", found=f"{low:.6g} to {high:.6g}")


def is_deterministic(part: ViewPart) -> None:
    """The same pictures give the same bits."""
    images = pictures()
    if not torch.equal(part(images), part(images.clone())):
        fail("the view gave two results for the same pictures")


def batch_independence(part: ViewPart) -> None:
    """What is seen of a picture does not depend on the other pictures of the batch."""
    images = pictures()
    others = images.clone()
    others[1:] = 1 - others[1:]
    first = part(images)[0]
    if not torch.allclose(first, part(others)[0], atol=1e-5):
        fail("the first picture's view changes with the rest of the batch")
    if not torch.allclose(first, part(images[:1])[0], atol=1e-5):
        fail("a picture alone is seen otherwise than in a batch")


def inputs_unmodified(part: ViewPart) -> None:
    """The pictures that went in are left as they are."""
    images = pictures()
    before = images.clone()
    part(images)
    if not torch.equal(images, before):
        fail("the view changed its input in place")


def canonical_name_round_trips(part: ViewPart) -> None:
    """``get_view(view.name)`` is the same view, so that a bank's names identify what was seen."""
    name = getattr(part.view, "name", None)
    if not isinstance(name, str) or not name:
        fail("a view has a canonical name", found=repr(name))
    if part.registered and get_view(str(name)) != part.view:
        fail("the canonical name reads back as another view", found=get_view(str(name)).name)


SUITE: Suite[ViewPart] = Suite(
    "view",
    prepare,
    (
        # first, so that other findings are not its consequence
        inputs_unmodified,
        shape_and_type_are_kept,
        values_stay_in_range,
        is_deterministic,
        batch_independence,
        canonical_name_round_trips,
    ),
)
_registry.add("check", "view", SUITE)


def check_view(view: Any) -> None:
    """Check a view: a name as in ``get_view``, a class with defaults, or an instance.

    Raises
    ------
    CheckFailure
        Names the promise that is broken.

    Examples
    --------
    >>> check_view("fovea(k=21)")
    """
    raise_first(SUITE, get_view(view) if isinstance(view, str) else view)

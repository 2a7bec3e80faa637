"""Checks of what is only described: data sets and simulated worlds."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from phosphene import _registry
from phosphene.errors import UnknownNameError
from phosphene.simulation.world import World, get_world
from phosphene.stimuli.views import get_view
from phosphene.testing._runner import Suite, fail

DOI = re.compile(r"10\.\d{4,9}/\S+")
MODALITIES = ("eeg", "meg", "ecog", "fmri")


@dataclass(frozen=True)
class Described:
    """A description under the name that it is registered with."""

    name: str
    obj: Any


def facts_are_complete(part: Described) -> None:
    """Name, title, citation, access and DOI of a data set are well formed.

    What is not known (the licence of some) is left empty, not guessed.
    """
    info = part.obj
    if info.name != part.name:
        fail("a data set is registered under its own name", found=info.name, expected=part.name)
    for field in ("title", "citation", "access"):
        if not str(getattr(info, field, "") or "").strip():
            fail(f"the data set {part.name!r} does not say its {field}")
    if info.modality not in MODALITIES:
        fail(f"unknown modality {info.modality!r}", expected=", ".join(MODALITIES))
    doi = str(info.doi or "")
    if doi and not DOI.fullmatch(doi):
        fail("a DOI starts with 10. and holds no address", found=doi)
    if info.subjects is not None and not int(info.subjects) > 0:
        fail("a data set has subjects", found=info.subjects)


DATASETS: Suite[Described] = Suite("dataset", Described, (facts_are_complete,))
_registry.add("check", "dataset", DATASETS)


def parameters_make_the_hash(part: Described) -> None:
    """A world has its registered name, a version and a hash that changes with any parameter."""
    world = part.obj
    if not isinstance(world, World) or world.name != part.name or world.version < 1:
        fail("a world is a World with its registered name and a version", found=repr(world)[:80])
    if dataclasses.replace(world).hash != world.hash:
        fail("the same parameters give another hash")
    hashes = {world.hash, get_world(part.name, noise=world.noise + 1).hash}
    if len({*hashes, get_world(part.name, version=world.version + 1).hash}) != 3:
        fail("the hash does not change with the parameters")


def parts_of_a_world_exist(part: Described) -> None:
    """Its encoders are registered and its views can be read; unknown parameters are errors."""
    world = part.obj
    _registry.get("image_encoder", world.encoder)
    _registry.get("text_encoder", world.text_encoder)
    for view in world.views:
        if get_view(view).name != view:
            fail("a world names views canonically", found=view)
    try:
        get_world(part.name, no_such_parameter=1)
    except UnknownNameError:
        return
    fail("a parameter that worlds do not have was accepted")


WORLDS: Suite[Described] = Suite(
    "world", Described, (parameters_make_the_hash, parts_of_a_world_exist)
)
_registry.add("check", "world", WORLDS)

"""Which encoder a text means: a registered name, or ``kind:SOURCE`` with an optional revision."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from phosphene import _registry
from phosphene.errors import DataError, UnknownNameError


def make_part(part: str, spec: str, **options: Any) -> Any:
    """The encoder that ``spec`` names.

    Parameters
    ----------
    part : str
        ``image_encoder`` or ``text_encoder``.
    spec : str
        A registered name (``efficientnet-lite0``), or ``kind:SOURCE`` where the kind is registered
        with ``needs_source=True`` (``clip:openai/clip-vit-base-patch32``); a source that is a hub
        id may end in ``@REVISION``.
    **options
        Passed on.

    Raises
    ------
    UnknownNameError
        If no encoder has the name; the nearest are listed.
    DataError
        If a source is missing, or given to an encoder that takes none.
    """
    name, colon, source = spec.partition(":")
    words = part.replace("_", " ")
    entry = next((e for e in _registry.entries(part) if e.name == name), None)
    if entry is None:
        kinds = [e.name for e in _registry.entries(part) if e.info.get("needs_source")]
        looks_like_source = "/" in name or Path(name).expanduser().exists()
        raise UnknownNameError(
            f"there is no {words} named {name!r}",
            expected="one of " + ", ".join(_registry.names(part)),
            fix=f"say what kind of model it is, e.g. {kinds[0]}:{spec}"
            if looks_like_source and kinds
            else _registry.did_you_mean(name, _registry.names(part)),
        )
    if not entry.info.get("needs_source"):
        if colon:
            raise DataError(f"{words} {name!r} takes no source", found=spec, expected=name)
        return entry.obj(**options)
    if not source:
        raise DataError(
            f"{words} {name!r} is a kind of model and needs to be told which one",
            found=repr(spec),
            expected=f"{name}:SOURCE",
            fix="e.g. " + entry.info.get("usage", f"{name}:/path/to/folder"),
        )
    source, revision = split_revision(source)
    if revision is not None:
        if "revision" not in inspect.signature(entry.obj).parameters:
            raise DataError(f"{words} {name!r} has no revisions", found=spec)
        options["revision"] = revision
    return entry.obj(source, **options)


def is_path(source: str) -> bool:
    """Whether a source is meant as a path on this machine and not as an id on the hub."""
    return (
        source.startswith(("/", ".", "~"))
        or "\\" in source
        or source.count("/") > 1
        or Path(source).expanduser().exists()
    )


def split_revision(source: str) -> tuple[str, str | None]:
    """Source and revision of ``SOURCE@REVISION``; a path may hold an @ and has no revision.

    Examples
    --------
    >>> split_revision("openai/clip-vit-base-patch32@main")
    ('openai/clip-vit-base-patch32', 'main')
    >>> split_revision("/models/clip@home")
    ('/models/clip@home', None)
    """
    name, at, revision = source.rpartition("@")
    if not at or is_path(source):
        return source, None
    if not name or not revision:
        raise DataError("cannot read this source", found=repr(source),
                        expected="HUB_ID@REVISION")  # fmt: skip
    return name, revision

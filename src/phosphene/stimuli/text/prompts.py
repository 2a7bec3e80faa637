"""Prompts: what a concept name is put into before a text encoder sees it."""

from __future__ import annotations

import string
from collections.abc import Sequence

from phosphene import _registry
from phosphene.errors import DataError

PROMPTS: dict[str, tuple[str, ...]] = {
    "name": ("{concept}",),
    "photo": ("A photo of a {concept}.",),
    "this is": ("This is a {concept}.",),
    "ensemble": (
        "A photo of a {concept}.",
        "A photo of the {concept}.",
        "A picture of a single {concept}.",
        "A close view of a {concept}.",
        "A {concept} on a plain background.",
        "A {concept} in its usual surroundings.",
        "An object called {concept}.",
    ),
}
"""Named prompts: ``photo`` is BVSA's, ``this is`` UBP's; ``ensemble`` is a mean over several."""


def fill_prompt(prompt: str, text: str) -> str:
    """The prompt with the text in the place of ``{concept}``.

    Examples
    --------
    >>> fill_prompt("A photo of a {concept}.", "red apple")
    'A photo of a red apple.'
    """
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
    except ValueError:
        fields = set()
    if fields != {"concept"}:
        raise DataError("cannot use this prompt", found=repr(prompt),
                        expected="a text with {concept} as its only field")  # fmt: skip
    return prompt.format(concept=text)


def templates(prompt: str | Sequence[str]) -> tuple[str, ...]:
    """The templates that a prompt stands for, checked.

    Parameters
    ----------
    prompt : str or sequence of str
        A template with ``{concept}``, a name in :data:`PROMPTS`, or several templates.

    Examples
    --------
    >>> templates("photo")
    ('A photo of a {concept}.',)
    """
    if isinstance(prompt, str):
        if "{" not in prompt and prompt not in PROMPTS:
            raise DataError(
                "cannot use this prompt",
                found=repr(prompt),
                expected="a text with {concept}, or one of " + ", ".join(map(repr, PROMPTS)),
                fix=_registry.did_you_mean(prompt, PROMPTS),
            )
        several = PROMPTS.get(prompt, (prompt,))
    else:
        several = tuple(prompt)
    if not several:
        raise DataError("there is no template among the prompts")
    for template in several:
        fill_prompt(template, "")
    return several

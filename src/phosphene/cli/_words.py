"""Commands with options that take several words: ``--views original fovea``."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperCommand


class WordsCommand(TyperCommand):
    """A command whose options in ``several`` take all the words up to the next option."""

    several: ClassVar[tuple[str, ...]] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option, fresh = "", False
        for word in args:
            if word.startswith("-"):
                option, fresh = (word if word in self.several else ""), True
                spread.append(word)
            elif option and not fresh:
                spread += [option, word]
            else:
                spread.append(word)
                fresh = False
        return super().parse_args(ctx, spread)

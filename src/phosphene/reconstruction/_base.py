"""What turns decoded features into pictures: one contract for all generators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene._logging import progress as progress_bar
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.reconstruction._memory import in_batches
from phosphene.reconstruction._noise import Noise

INPUTS = ("image_embeds", "text_embeds", "init_latents")
Array = NDArray[np.float32]


class Generator(ABC):
    """Base of all generators; a subclass sets the attributes and writes two methods.

    ``_pictures(inputs, noise)`` makes pictures (rows, H, W, 3), about in [0, 1], of checked inputs
    (rows, ...) and draws random numbers from ``noise`` only. ``_targets(name, stimuli, ids)`` says
    what a decoder should predict for an input, from the pictures that were shown.

    Attributes
    ----------
    id : str
        Name with version, for reports.
    licence : str
        Licence of the weights.
    image_size : int
        Side of the pictures in pixels.
    takes : frozenset of str
        Which of ``image_embeds``, ``text_embeds`` and ``init_latents`` it can use.
    needs : frozenset of str
        Which of them it must be given.
    shapes : mapping of str to tuple of int
        Shape per query of every input that it takes.
    source : str
        Where the weights come from, for messages; empty where there are none.
    batch : int
        How many pictures are made at a time; fewer when the memory does not suffice.
    stochastic : bool
        Whether the samples of a query differ.
    """

    id: str
    licence: str
    image_size: int
    takes: frozenset[str]
    needs: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    source: str = ""
    batch: int = 8
    stochastic: ClassVar[bool] = True

    @abstractmethod
    def _pictures(self, inputs: Mapping[str, Array], noise: Noise) -> NDArray[Any]:
        """Pictures (rows, H, W, 3); ``inputs`` holds what was given, one row per picture."""

    @abstractmethod
    def _targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> NDArray[Any]:
        """Values of an input for pictures that were shown, (len(ids), *shapes[name])."""

    def generate(
        self,
        image_embeds: ArrayLike | None = None,
        text_embeds: ArrayLike | None = None,
        init_latents: ArrayLike | None = None,
        n: int = 1,
        seed: int = 0,
        *,
        ids: Sequence[str] | None = None,
        progress: bool = True,
    ) -> Array:
        """Pictures of decoded features.

        Parameters
        ----------
        image_embeds, text_embeds, init_latents : array, optional
            One row per query, each of the shape that ``shapes`` says.
        n : int
            How many samples of each query.
        seed : int
            Seed of the noise.
        ids : sequence of str, optional
            Ids of the queries. A picture's noise depends on (seed, id, number of the sample) only;
            without ids a query's row stands for its id.
        progress : bool
            Show a bar when someone is watching.

        Returns
        -------
        ndarray of float32, shape (queries, n, H, W, 3), values in [0, 1]

        Raises
        ------
        DataError
            If an input is missing, not taken, of another width, or not finite.
        MemoryShortError
            If not even one picture at a time fits into memory.
        """
        inputs, names = self._checked(image_embeds, text_embeds, init_latents, ids)
        if int(n) < 1:
            raise DataError("the number of samples of a query", found=n, expected="1 or more")
        size = self.image_size
        made = np.empty((len(names) * int(n), size, size, 3), np.float32)
        pictures = self._each(inputs, names, int(n), int(seed))
        rows = progress_bar(pictures, total=len(made), desc="generate", unit="image",
                            enabled=progress)  # fmt: skip
        for row, picture in rows:
            made[row] = picture
        return made.reshape(len(names), int(n), size, size, 3)

    def targets(self, name: str, stimuli: StimulusSet, ids: Sequence[str]) -> Array:
        """What a decoder should predict for an input, from the pictures that were shown.

        Parameters
        ----------
        name : {"image_embeds", "text_embeds", "init_latents"}
            One of ``takes``.
        stimuli : StimulusSet
            The training pictures.
        ids : sequence of str
            Of which of them, and in which order; an id may occur more than once.

        Returns
        -------
        ndarray of float32, shape (len(ids), ...), as ``shapes`` says

        Raises
        ------
        DataError
            If the generator does not take the input.
        """
        if name not in self.takes:
            raise DataError(f"the generator {self.id} does not take {name}", found=name,
                            expected=_words(self.takes))  # fmt: skip
        asked = [str(stimulus) for stimulus in ids]
        distinct = list(dict.fromkeys(asked))  # trials repeat pictures, each is computed once
        found = np.asarray(self._targets(name, stimuli, distinct), dtype=np.float32)
        expected = (len(distinct), *self.shapes[name])
        if found.shape != expected:
            raise DataError(f"targets of {self.id} for {name} have a wrong shape",
                            found=found.shape, expected=expected)  # fmt: skip
        place = {stimulus: row for row, stimulus in enumerate(distinct)}
        return found[[place[stimulus] for stimulus in asked]]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.id!r}, {self.image_size} x {self.image_size}, takes "
            f"{_words(self.takes)}, licence: {self.licence})"
        )

    # ------------------------------------------------------------------------------- the parts
    def _each(
        self, inputs: Mapping[str, Array], names: Sequence[str], n: int, seed: int
    ) -> Iterator[tuple[int, Array]]:
        """Number and picture of each sample of each query, in order."""
        copies = n if self.stochastic else 1

        def work(rows: Sequence[int]) -> Array:
            queries = [row // copies for row in rows]
            noise = Noise(seed, [names[q] for q in queries], [row % copies for row in rows])
            given = {name: values[queries] for name, values in inputs.items()}
            return self._finished(self._pictures(given, noise), noise)

        batches = in_batches(
            work, len(names) * copies, max(int(self.batch), 1),
            f"generate pictures with {self.id}",
            "close other programs, use a device with more memory, precision='bf16' on a GPU, or "
            "a generator of smaller pictures",
        )  # fmt: skip
        for rows, pictures in batches:
            for row, picture in zip(rows, pictures, strict=True):
                for copy in range(n // copies):
                    yield row * (n // copies) + copy, picture

    def _finished(self, pictures: NDArray[Any], noise: Noise) -> Array:
        size = self.image_size
        found = np.asarray(pictures, dtype=np.float32)
        if found.shape != (len(noise), size, size, 3):
            raise DataError(f"the generator {self.id} made pictures of a wrong shape",
                            found=found.shape, expected=(len(noise), size, size, 3))  # fmt: skip
        if bad := np.flatnonzero(~np.isfinite(found).all(axis=(1, 2, 3))).tolist():
            raise DataError(
                f"the generator {self.id} made pictures that are not finite",
                found="queries " + listing(noise.queries[row] for row in bad),
                fix="use precision='fp32'; fp16 overflows in some weights",
            )
        return np.clip(found, 0, 1)

    def _checked(
        self, image_embeds: Any, text_embeds: Any, init_latents: Any, ids: Sequence[str] | None
    ) -> tuple[dict[str, Array], list[str]]:
        """The inputs as float32 arrays, and a name for each query."""
        values = zip(INPUTS, (image_embeds, text_embeds, init_latents), strict=True)
        given = {name: value for name, value in values if value is not None}
        if surplus := sorted(set(given) - self.takes):
            raise DataError(f"the generator {self.id} does not take {_words(surplus)}",
                            expected=_words(self.takes))  # fmt: skip
        if missing := sorted(self.needs - set(given)):
            raise DataError(f"the generator {self.id} needs {_words(missing)}",
                            found=_words(given), expected=_words(self.needs))  # fmt: skip
        if not given:
            raise DataError(f"the generator {self.id} was given nothing to start from",
                            expected="at least one of " + _words(self.takes))  # fmt: skip
        inputs = {name: self._input(name, value) for name, value in given.items()}
        counts = {name: len(value) for name, value in inputs.items()}
        if len(set(counts.values())) > 1:
            raise DataError(
                "the inputs differ in their number of queries",
                found=", ".join(f"{name}: {count}" for name, count in counts.items()),
            )
        total = next(iter(counts.values()))
        names = [str(row) for row in (range(total) if ids is None else ids)]
        if len(names) != total:
            raise DataError("one id per query is needed", found=f"{len(names)} ids",
                            expected=f"{total} queries")  # fmt: skip
        for name, value in inputs.items():
            finite = np.isfinite(value).all(axis=tuple(range(1, value.ndim)))
            if bad := np.flatnonzero(~finite).tolist():
                raise DataError(
                    f"{name} holds NaN or infinite values",
                    found="queries " + listing(names[row] for row in bad),
                    expected="finite numbers",
                    fix="see what the decoder was given for these queries",
                )
        return inputs, names

    def _input(self, name: str, value: Any) -> Array:
        shape = tuple(self.shapes[name])
        try:
            array = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} is not an array of numbers", found=str(error)) from error
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            found = _by(array.shape[1:]) if array.ndim > 1 else f"an array of shape {array.shape}"
            raise DataError(
                f"{name} do not fit the generator {self.id}",
                found=f"{found} per query",
                expected=f"{_by(shape)} per query"
                + (f", as {self.source} says" * bool(self.source)),
                fix="decode the features that generator.targets gives, or take the generator that "
                "belongs to them",
            )
        return array


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) + (" numbers" if len(shape) == 1 else "")


def _words(names: Any) -> str:
    return ", ".join(name for name in INPUTS if name in names) or "nothing"

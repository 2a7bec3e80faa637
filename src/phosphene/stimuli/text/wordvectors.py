"""Word vectors (GloVe, word2vec) as a text encoder, with means over words and synsets."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene import _registry
from phosphene._saving import sha256_file
from phosphene.errors import DataError, listing
from phosphene.stimuli.text._base import Vectors
from phosphene.stimuli.text._wordfile import WordFile, read_words

STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "its", "of", "on",
    "or", "that", "the", "this", "to", "with",
})  # fmt: skip
"""Words that are left out of a mean when the file does not have them."""
_MARKS = ".,!?:;\"'()[]"


@_registry.register(
    "text_encoder",
    "words",
    needs_source=True,
    usage="words:glove.42B.300d.txt",
    summary="word vectors in text format (GloVe, word2vec), plain or gzip: words:FILE",
)
class WordVectors:
    """Word vectors from a file, the mean over the words of a text and the lemmas of a synset.

    A text is cut at ``separators`` into lemmas, and its vector is the mean of theirs, each counted
    once. A lemma is looked up as one token (``ice cream``, ``ice_cream``, ``ice-cream``,
    ``icecream``), as it is spelled and then in lower case; if there is none, its vector is the mean
    over its words, where a word in two parts (``t-shirt``) may itself be looked up in parts. Words
    such as "a" and "of" are left out if the file does not have them.

    Parameters
    ----------
    source : path
        File in GloVe's format, or word2vec's text format, plain or gzip. It is read once per call
        of :meth:`encode` (about 1 GB/s from memory), and only the wanted words are kept.
    missing : {"error", "skip-words"}
        What to do about words that the file lacks: list them in an error, or take the mean over
        those that it has. A text of which nothing is found is an error in either case.
    separators : str
        Characters that lemmas of a synset are parted by; ``""`` takes every text as one lemma.

    Attributes
    ----------
    id : str
        ``words:`` and the file's name.
    spaces : dict
        The file's digest: how words are averaged does not make another space.

    References
    ----------
    Pennington, Socher and Manning, GloVe, EMNLP 2014, doi:10.3115/v1/D14-1162; Mikolov et al.,
    2013, arXiv:1301.3781.
    """

    kind: ClassVar[str] = "words"

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        missing: Literal["error", "skip-words"] = "error",
        separators: str = ",;|",
    ) -> None:
        if missing not in ("error", "skip-words"):
            raise DataError("unknown way to treat missing words", found=repr(missing),
                            expected="'error' or 'skip-words'")  # fmt: skip
        self.source = Path(source).expanduser()
        self.missing = missing
        self.separators = separators
        self._about: WordFile | None = None
        if not self.source.is_file():
            read_words(self.source, ())  # says what is wrong

    @property
    def id(self) -> str:
        """Name that goes into the provenance."""
        return f"{self.kind}:{self.source.name}"

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the file, taken once as long as the file is not written to."""
        return _digest(self.source, *_stamp(self.source))

    @property
    def spaces(self) -> dict[str, str]:
        """Name of the vectors' space."""
        return {"vector": f"{self.kind}:{self.weights_hash}"}

    @property
    def details(self) -> dict[str, Any]:
        """Format and options, for the provenance."""
        about = self._about
        found = {} if about is None else {"format": about.format, "dim": about.dim}
        return {**found, "missing": self.missing, "separators": self.separators}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, d) of texts.

        Parameters
        ----------
        texts : sequence of str
            Concept names, synsets such as ``"dog, domestic dog"``, or captions.

        Raises
        ------
        DataError
            If words are missing, or a line of the file is damaged; word or line is named.
        """
        cut = f"[{re.escape(self.separators)}]" if self.separators else "(?!)"
        synsets = {text: re.split(cut, text) for text in texts}
        by_text = dict(zip(synsets, self._means(synsets), strict=True))
        return np.stack([by_text[text] for text in texts]) if by_text else self._nothing()

    def encode_synsets(self, synsets: Mapping[str, Iterable[str]]) -> Vectors:
        """Vectors (n, d) of synsets, in the mapping's order: the mean over their lemmas.

        Parameters
        ----------
        synsets : mapping of str to iterable of str
            From a name to lemmas, which are not cut at separators.
        """
        if not synsets:
            return self._nothing()
        return np.stack(self._means({name: list(words) for name, words in synsets.items()}))

    def _nothing(self) -> Vectors:
        return np.empty((0, read_words(self.source, ()).dim), np.float32)

    def _means(self, synsets: Mapping[str, Sequence[str]]) -> list[NDArray[np.float32]]:
        lemmas = {
            name: list(dict.fromkeys(" ".join(word.split()) for word in words if word.strip()))
            for name, words in synsets.items()
        }
        wanted = {
            token for several in lemmas.values() for lemma in several for token in _all(lemma)
        }
        self._about = file = read_words(self.source, wanted)
        lost: dict[str, list[str]] = {}
        means = []
        for name, several in lemmas.items():
            found = [_lemma(lemma, file.vectors) for lemma in several]
            vectors = [vector for vector, _ in found if vector is not None]
            words = [word for _, absent in found for word in absent]
            if not vectors or (words and self.missing == "error"):
                lost[name] = words or [name]
            means.append(_mean(vectors) if vectors else np.empty(0, np.float32))
        if lost:
            raise self._missing(lost)
        return means

    def _missing(self, lost: Mapping[str, list[str]]) -> DataError:
        words = list(dict.fromkeys(word for several in lost.values() for word in several))
        shown = [f"{name!r} ({', '.join(several)})" for name, several in lost.items()]
        leaves = self.missing == "error"
        return DataError(
            f"{self.source} lacks {len(words)} words"
            + ("" if leaves else ", and all of some texts"),
            found=f"{listing(words, 20)}; in {listing(shown, 10)}",
            fix="take another spelling, or missing='skip-words' for the mean of those found"
            if leaves
            else "take another spelling or leave these texts out",
        )


def _tokens(lemma: str) -> list[str]:
    """Spellings of a lemma as one token, best first; single words have few."""
    parts = lemma.replace("_", " ").split()
    bare = lemma.strip(_MARKS)
    spellings = [lemma, *(mark.join(parts) for mark in (" ", "_", "-", "")), bare]
    if "-" in bare:
        spellings += [bare.replace("-", ""), bare.replace("-", "_")]
    return list(dict.fromkeys(s for form in spellings for s in (form, form.lower()) if s))


def _words(lemma: str) -> list[str]:
    return [word for part in lemma.replace("_", " ").split() if (word := part.strip(_MARKS))]


def _all(lemma: str) -> Iterable[str]:
    yield from _tokens(lemma)
    for word in _words(lemma):
        yield from _tokens(word)
        for part in word.split("-"):
            yield from _tokens(part)


def _first(
    tokens: Iterable[str], vectors: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    return next((vectors[token] for token in tokens if token in vectors), None)


def _lemma(
    lemma: str, vectors: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.float32] | None, list[str]]:
    """Vector of a lemma, None if nothing of it is known, and its missing words."""
    if (whole := _first(_tokens(lemma), vectors)) is not None:
        return whole, []
    found, absent = [], []
    for word in _words(lemma):
        if (vector := _first(_tokens(word), vectors)) is None and "-" in word:
            pieces = [_first(_tokens(piece), vectors) for piece in word.split("-") if piece]
            known = [piece for piece in pieces if piece is not None]
            vector = _mean(known) if known and len(known) == len(pieces) else None
        if vector is not None:
            found.append(vector)
        elif word.lower() not in STOP_WORDS:
            absent.append(word)
    if not found and not absent:
        absent = [lemma]
    return (_mean(found) if found else None), absent


def _mean(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(np.mean(vectors, axis=0, dtype=np.float64), dtype=np.float32)


def _stamp(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size


@functools.lru_cache(maxsize=64)
def _digest(path: Path, modified: int, size: int) -> str:
    return str(sha256_file(path))

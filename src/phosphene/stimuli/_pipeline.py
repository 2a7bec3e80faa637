"""Pictures through views and encoder, batch by batch, decoded ahead in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from phosphene.data._decode import Colour
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, PhospheneError, listing
from phosphene.stimuli._arrays import narrow
from phosphene.stimuli._store import Array, Pair
from phosphene.stimuli.encoders import ImageEncoder
from phosphene.stimuli.images import prepare_by
from phosphene.stimuli.views import View, ViewInput

SHARE = 8
"""Pictures whose views stay in a CPU's cache: three times faster than 32 at once."""
Needs = tuple[tuple[View, tuple[str, ...]], ...]
"""Views, each with the layers that are wanted of it."""


@dataclass(frozen=True)
class Work:
    """Stimuli that lack the same vectors and go through the encoder together."""

    ids: tuple[str, ...]
    hashes: tuple[str, ...]
    needs: Needs

    def part(self, start: int, stop: int) -> Work:
        """Some of the stimuli."""
        return Work(self.ids[start:stop], self.hashes[start:stop], self.needs)


@dataclass
class Made:
    """What came of some work: vectors of the pictures that could be read."""

    ids: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    vectors: dict[Pair, Array] = field(default_factory=dict)
    broken: dict[str, Exception] = field(default_factory=dict)


class Pipeline:
    """Runs work through views and encoder.

    An encoder that says it is ``concurrent`` runs in the decoding threads too, each with a share
    of the batch and without threads of its own. That needs no meeting of threads within an
    operation, which on a shared machine costs far more than it brings, and it makes the vectors
    independent of the number of threads. Any other encoder runs in the calling thread, one share
    after the other, while the next pictures are decoded.

    Parameters
    ----------
    stimuli : StimulusSet
        Pictures.
    encoder : ImageEncoder
        What they go through.
    dtype : dtype
        Number format of the vectors.
    background : tuple of int
        Colour under transparent pixels.
    skip : bool
        Leave pictures out that cannot be read, instead of raising.
    """

    def __init__(
        self,
        stimuli: StimulusSet,
        encoder: ImageEncoder,
        dtype: np.dtype[Any],
        background: Colour,
        *,
        skip: bool = False,
    ) -> None:
        self.stimuli = stimuli
        self.encoder = encoder
        self.dtype = dtype
        self.background = background
        self.skip = skip
        self.device = torch.device(getattr(encoder, "device", "cpu"))

    def run(self, work: Sequence[Work]) -> Iterator[tuple[Work, Made]]:
        """Results in the order of the work, while threads are at the next two already."""
        concurrent = bool(getattr(self.encoder, "concurrent", False)) and self.device.type == "cpu"
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

        def start(item: Work) -> list[Future[Any]]:
            task = self.make if concurrent else self._load
            return [pool.submit(task, share) for share in self._shares(item)]

        def finish(futures: Sequence[Future[Any]]) -> Made:
            results = (future.result() for future in futures)
            return _joined([r if concurrent else self._encode(*r) for r in results])

        pending: deque[tuple[Work, list[Future[Any]]]] = deque()
        try:
            for item in work:
                pending.append((item, start(item)))
                if len(pending) > 2:
                    done, futures = pending.popleft()
                    yield done, finish(futures)
            while pending:
                done, futures = pending.popleft()
                yield done, finish(futures)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            # Setting it in a thread also sets what threads started later begin with.
            torch.set_num_threads(threads)

    def make(self, work: Work) -> Made:
        """Load, view and encode, here and now."""
        return self._encode(*self._load(work))

    def _shares(self, work: Work) -> list[Work]:
        step = SHARE if self.device.type == "cpu" else len(work.ids)
        return [work.part(i, i + step) for i in range(0, len(work.ids), step)]

    def _load(self, work: Work) -> tuple[Work, torch.Tensor | None, dict[str, Exception]]:
        """The work that is left without broken pictures, and its images (B, 3, size, size)."""
        rule, size = self.encoder.preprocessing, self.encoder.image_size
        images, kept = [], []
        broken: dict[str, Exception] = {}
        for row, id in enumerate(work.ids):
            try:
                pixels = self.stimuli.image(id, self.background)
                images.append(prepare_by(rule, pixels, size))
                kept.append(row)
            except (PhospheneError, OSError) as error:
                if not self.skip:
                    raise
                broken[id] = error
        left = Work(
            tuple(work.ids[row] for row in kept),
            tuple(work.hashes[row] for row in kept),
            work.needs,
        )
        return left, torch.from_numpy(np.stack(images)) if images else None, broken

    def _encode(
        self, work: Work, images: torch.Tensor | None, broken: dict[str, Exception]
    ) -> Made:
        made = Made(list(work.ids), list(work.hashes), broken=broken)
        if images is None:
            return made
        source = ViewInput(images.to(self.device), work.hashes)
        for view, layers in work.needs:
            # One view after the other: all nine of a share at once would not fit a CPU's cache.
            features = self.encoder.encode(view.render(source), layers)
            for layer in layers:
                made.vectors[view.name, layer] = self._checked(
                    features[layer], work.ids, view.name, layer
                )
        return made

    def _checked(self, array: Array, ids: Sequence[str], view: str, layer: str) -> Array:
        if array.ndim != 2 or len(array) != len(ids):
            raise DataError(
                f"the encoder gave vectors of a wrong shape for view {view!r}, layer {layer!r}",
                found=array.shape,
                expected=(len(ids), "width"),
            )
        if bad := np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
            raise DataError(
                f"the encoder gave values that are not finite for view {view!r}, layer {layer!r}",
                found=listing(ids[row] for row in bad),
            )
        return narrow(np.asarray(array, dtype=np.float32), self.dtype, ids, view, layer)


def _joined(shares: Sequence[Made]) -> Made:
    whole = Made()
    for share in shares:
        whole.ids += share.ids
        whole.hashes += share.hashes
        whole.broken |= share.broken
    full = [share for share in shares if share.ids]
    if full:
        whole.vectors = {
            pair: np.concatenate([share.vectors[pair] for share in full])
            for pair in full[0].vectors
        }
    return whole

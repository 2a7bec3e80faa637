"""Extraction: pictures are decoded ahead, viewed, encoded, and kept chunk by chunk."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from phosphene._device import cache_folder
from phosphene._logging import get_logger, progress
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, listing
from phosphene.stimuli._store import VectorStore
from phosphene.stimuli.encoders import ImageEncoder
from phosphene.stimuli.images import prepare
from phosphene.stimuli.views import View, apply_views

Prepared = NDArray[np.float32]
ByView = dict[str, dict[str, Prepared]]
# Eight pictures with their views stay in a CPU's cache: three times faster than 32 at once.
SHARE = 8
_log = get_logger(__name__)


@dataclass(frozen=True)
class Work:
    """Stimuli that lack the same views and go through the encoder together."""

    ids: tuple[str, ...]
    hashes: tuple[str, ...]
    views: tuple[View, ...]


def feature_cache(cache: str | os.PathLike[str] | None) -> Path:
    """The folder that vectors are kept in; the user's cache when none is given."""
    return Path(cache) if cache is not None else cache_folder() / "features"


def encoder_address(encoder: ImageEncoder) -> dict[str, Any]:
    """Everything but picture, view and layer that an encoder's vectors depend on."""
    device = getattr(encoder, "device", None)
    return {
        "encoder": encoder.id,
        "weights_hash": encoder.weights_hash,
        "preprocessing": encoder.preprocessing,
        "precision": encoder.precision,
        "device": str(getattr(device, "type", "cpu")),
        "versions": {"torch": torch.__version__, "pillow": version("pillow")},
    }


def extract(
    stimuli: StimulusSet,
    encoder: ImageEncoder,
    views: Sequence[View],
    layers: Sequence[str],
    *,
    cache: str | os.PathLike[str] | None,
    batch_size: int,
    show_progress: bool,
) -> tuple[dict[tuple[str, str], Prepared], dict[str, float]]:
    """Vectors (n, d) by (view, layer), and what the extraction took.

    Returns
    -------
    vectors : dict
        Rows in the order of ``stimuli.ids``.
    timings : dict
        ``encoder_passes`` (pictures times views that went through the encoder now),
        ``from_cache`` (those found), ``seconds``.
    """
    if batch_size < 1:
        raise DataError("batch_size counts pictures", found=batch_size, expected="at least 1")
    began = time.perf_counter()
    root, address = feature_cache(cache), encoder_address(encoder)
    stores = {
        view.name: VectorStore(
            root, {**address, "view": view.name}, label=f"{encoder.id}-{view.name}"
        )
        for view in views
    }
    hashes = stimuli.hashes()
    digests = [str(hashes[id]) for id in stimuli.ids]
    work = list(_plan(stimuli.ids, digests, views, layers, stores, batch_size))
    passes = sum(len(item.ids) * len(item.views) for item in work)
    distinct = len(set(digests)) * len(views)
    _log.info("%s: %d passes to make, %d known", encoder.id, passes, distinct - passes)
    batches = _batches(stimuli, encoder, work, layers)
    for item, made in progress(
        batches, total=len(work), desc=f"features of {encoder.id}", unit="batch",
        enabled=show_progress,
    ):  # fmt: skip
        for view in item.views:
            for layer, array in made[view.name].items():
                _check_finite(array, item.ids, view.name, layer)
            stores[view.name].add(item.hashes, made[view.name])
    vectors = {
        (view.name, layer): stores[view.name].get(digests, layer)
        for view in views
        for layer in layers
    }
    return vectors, {
        "encoder_passes": passes,
        "from_cache": distinct - passes,
        "seconds": time.perf_counter() - began,
    }


def _plan(
    ids: Sequence[str],
    digests: Sequence[str],
    views: Sequence[View],
    layers: Sequence[str],
    stores: dict[str, VectorStore],
    batch_size: int,
) -> Iterator[Work]:
    """Batches of stimuli that lack the same views; equal pictures are encoded once."""
    missing: list[tuple[tuple[int, ...], str, str]] = []
    for digest, id in {d: i for i, d in zip(reversed(ids), reversed(digests), strict=True)}.items():
        lacking = tuple(
            index for index, view in enumerate(views) if not stores[view.name].has(digest, layers)
        )
        if lacking:
            missing.append((lacking, id, digest))
    missing.reverse()
    missing.sort(key=lambda item: item[0])
    for lacking, group in groupby(missing, key=lambda item: item[0]):
        rows = list(group)
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            yield Work(
                tuple(id for _, id, _ in part),
                tuple(digest for _, _, digest in part),
                tuple(views[index] for index in lacking),
            )


def _batches(
    stimuli: StimulusSet, encoder: ImageEncoder, work: Sequence[Work], layers: Sequence[str]
) -> Iterator[tuple[Work, ByView]]:
    """Vectors of one batch after the other, while threads are at the next two already.

    An encoder that says it is ``concurrent`` runs in the threads too, each with a share of the
    batch and without threads of its own. That needs no meeting of threads within an operation,
    which on a shared machine costs far more than it brings, and it makes the vectors independent
    of the number of threads. Any other encoder runs here, one share after the other.
    """
    rule = encoder.preprocessing
    resize, mode = rule.get("resize"), rule.get("mode", "crop")
    device = torch.device(getattr(encoder, "device", "cpu"))
    concurrent = bool(getattr(encoder, "concurrent", False)) and device.type == "cpu"
    threads = torch.get_num_threads()

    def load(ids: Sequence[str]) -> torch.Tensor:
        images = [prepare(stimuli.image(id), encoder.image_size, resize, mode) for id in ids]
        return torch.from_numpy(np.stack(images))

    def encode(images: torch.Tensor, views: Sequence[View]) -> ByView:
        seen = apply_views(images.to(device), views)
        return {view.name: encoder.encode(seen[view.name], layers) for view in views}

    def both(ids: Sequence[str], views: Sequence[View]) -> ByView:
        return encode(load(ids), views)

    def start(item: Work) -> list[Future[Any]]:
        step = SHARE if device.type == "cpu" else len(item.ids)
        shares = [item.ids[i : i + step] for i in range(0, len(item.ids), step)]
        if concurrent:
            return [pool.submit(both, share, item.views) for share in shares]
        return [pool.submit(load, share) for share in shares]

    def finish(item: Work, futures: Sequence[Future[Any]]) -> ByView:
        made = [
            future.result() if concurrent else encode(future.result(), item.views)
            for future in futures
        ]
        return {
            view.name: {
                layer: np.concatenate([part[view.name][layer] for part in made]) for layer in layers
            }
            for view in item.views
        }

    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    pending: deque[tuple[Work, list[Future[Any]]]] = deque()
    try:
        for item in work:
            pending.append((item, start(item)))
            if len(pending) > 2:
                done, futures = pending.popleft()
                yield done, finish(done, futures)
        while pending:
            done, futures = pending.popleft()
            yield done, finish(done, futures)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        # Setting it in a thread also sets what threads started later begin with.
        torch.set_num_threads(threads)


def _check_finite(array: Prepared, ids: Sequence[str], view: str, layer: str) -> None:
    if bad := np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
        raise DataError(
            f"the encoder gave values that are not finite for view {view!r}, layer {layer!r}",
            found=listing(ids[row] for row in bad),
        )

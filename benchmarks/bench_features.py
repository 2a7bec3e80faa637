"""The image side: views, extraction, and reading of feature banks.

    python benchmarks/bench_features.py [--quick]

Ratios and milliseconds within one run; CPU shares are of the process's CPU time, not of the clock.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table, best_seconds, parse_arguments
from PIL import Image

from phosphene import _manifest
from phosphene.data.stimuli import StimulusSet
from phosphene.stimuli._pipeline import SHARE
from phosphene.stimuli._store import VectorStore
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import ImageEncoder, get_encoder
from phosphene.stimuli.images import prepare
from phosphene.stimuli.views import apply_views, expand_views

ROWS = 1024


def bench_bank(table: Table, quick: bool) -> None:
    """Reading a saved bank, and putting one together from kept vectors."""
    n, dim = (2000 if quick else 16540), 1024
    rng = np.random.default_rng(0)
    names = [view.name for view in expand_views("bvsa")]
    ids = [f"{i // 10:04d}/{i:05d}.jpg" for i in range(n)]
    arrays = {name: rng.standard_normal((n, dim), dtype=np.float32) for name in names}
    bank = FeatureBank.from_arrays(ids, arrays)
    rows, views = rng.integers(0, n, ROWS), rng.integers(0, len(names), ROWS)
    chosen = [ids[row] for row in rows]
    size = f"{n} x {len(names)} x {dim}"
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "float16"):
            bank.save(folder_of := Path(folder) / dtype, dtype=dtype)  # type: ignore[arg-type]
            seconds = best_seconds(lambda where=folder_of: FeatureBank.load(where), 2)
            loaded = FeatureBank.load(folder_of)
            one = best_seconds(lambda bank=loaded: bank.rows(rows, views), 20, 3)
            nine = best_seconds(lambda bank=loaded: bank.stack(ids=chosen), 10, 2)
            what = f"{ROWS} random rows of {size}, {dtype}"
            table.add(f"{what}: a random view of each, ms", one * 1e3, 20, better="lower",
                      load_s=seconds)  # fmt: skip
            table.add(f"{what}: all nine views, ms", nine * 1e3, 20, better="lower")
        _bench_blocks(table, Path(folder), bank, rows, views)
        _bench_store(table, Path(folder), arrays, quick)


def _bench_blocks(
    table: Table, folder: Path, bank: FeatureBank, rows: np.ndarray, views: np.ndarray
) -> None:
    """What checking each block on its first read costs once all are checked."""
    plain = FeatureBank.load(folder / "float32")
    limit, _manifest.CHECK_ON_LOAD = _manifest.CHECK_ON_LOAD, 1
    try:
        bank.save(folder / "blocks")
    finally:
        _manifest.CHECK_ON_LOAD = limit
    began = time.perf_counter()
    blocks = FeatureBank.load(folder / "blocks")
    load = time.perf_counter() - began
    began = time.perf_counter()
    blocks.rows(rows, views)
    first = time.perf_counter() - began
    seconds = [
        best_seconds(lambda bank=bank: bank.rows(rows, views), 20, 3) for bank in (blocks, plain)
    ]
    table.add("files checked block by block: a warm read against plain memory maps",
              seconds[0] / seconds[1], better="lower", load_ms=load * 1e3,
              first_ms=first * 1e3, ms=seconds[0] * 1e3, plain_ms=seconds[1] * 1e3)  # fmt: skip


def _bench_store(
    table: Table, folder: Path, arrays: dict[str, np.ndarray], quick: bool, batch: int = 32
) -> None:
    """Opening a full store and filling a bank from it, against reading the bank's arrays."""
    address = {"dtype": "float32"}
    store = VectorStore(folder, address, "bench")
    n = len(next(iter(arrays.values())))
    items = [f"{i:064d}" for i in range(n)]
    began = time.perf_counter()
    for start in range(0, n, batch):
        part = {(name, "vector"): array[start : start + batch] for name, array in arrays.items()}
        store.add(items[start : start + batch], part)
    written = time.perf_counter() - began
    open_s = best_seconds(lambda: VectorStore(folder, address, "bench"), 3)
    targets = {(name, "vector"): np.empty_like(array) for name, array in arrays.items()}
    fill_s = best_seconds(lambda: VectorStore(folder, address, "bench").fill(items, targets), 2)
    copies = {pair: array.copy() for pair, array in targets.items()}
    plain = best_seconds(lambda: [np.copyto(copies[pair], targets[pair]) for pair in targets], 2)
    table.add("a bank put together from kept vectors against a copy in memory", fill_s / plain,
              better="lower", write_s=written, open_ms=open_s * 1e3, fill_s=fill_s)  # fmt: skip


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of all threads of the process."""
    began = time.process_time()
    call()
    return time.process_time() - began


def bench_share(table: Table, quick: bool) -> None:
    """Which share of an extraction's CPU time is the encoder's: nine views, files of 500 pixels."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for number in range(16 if quick else 64):
            coarse = rng.integers(0, 256, (25, 25, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((500, 500), Image.Resampling.BICUBIC)
            picture.save(images / f"p{number:02d}.jpg", quality=90)
        stimuli = StimulusSet.from_folder(images)
        for precision in dict.fromkeys(
            get_encoder("efficientnet-lite0", precision=name).precision for name in ("fp32", "auto")
        ):
            encoder = get_encoder("efficientnet-lite0", precision=precision)
            _share_of(table, stimuli, encoder, Path(folder) / precision, repeats=1 if quick else 3)


class Timed:
    """An encoder that adds up the CPU time of the threads that encode with it."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self.encoder = encoder
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode(self, images: torch.Tensor, layers: Any = None) -> Any:
        """See ImageEncoder."""
        began = time.thread_time()
        features = self.encoder.encode(images, layers)
        self.seconds.append(time.thread_time() - began)
        return features


def _share_of(
    table: Table, stimuli: StimulusSet, encoder: ImageEncoder, cache: Path, repeats: int
) -> None:
    """The share within the extraction, and against the encoder alone.

    The encoder takes more CPU time within the extraction than alone: two of it at once share the
    memory's bandwidth. So the second ratio is smaller than the share.
    """
    views, n = expand_views("bvsa"), len(stimuli)
    images = [prepare(stimuli.image(id), encoder.image_size, 256) for id in stimuli.ids]
    shares = [torch.from_numpy(np.stack(images[i : i + SHARE])) for i in range(0, n, SHARE)]
    seen = [apply_views(share, views) for share in shares]
    threads = torch.get_num_threads()

    def alone() -> None:
        torch.set_num_threads(1)  # as in the extraction, which runs one share per thread
        for share in seen:
            for view in share.values():
                encoder.encode(view)
        torch.set_num_threads(threads)

    def extract(run: int) -> tuple[float, float]:
        timed = Timed(encoder)
        seconds = cpu_seconds(
            lambda: FeatureBank.extract(
                stimuli, timed, views, cache=cache / str(run), progress=False
            )
        )
        return seconds, sum(timed.seconds)

    alone()
    only = min(cpu_seconds(alone) for _ in range(repeats))
    extract(0)
    whole, within = min(extract(run) for run in range(1, repeats + 1))
    what = f"nine views, EfficientNet-Lite0 {encoder.precision}"
    table.add(f"{what}: the encoder's share of the CPU time", within / whole, 0.85,
              encoder_ms=within / n * 1e3, rest_ms=(whole - within) / n * 1e3)  # fmt: skip
    table.add(f"{what}: CPU time of the encoder alone against the extraction's", only / whole,
              alone_ms=only / n * 1e3, extraction_ms=whole / n * 1e3)  # fmt: skip


BENCHES: list[Callable[[Table, bool], None]] = [bench_bank, bench_share]


def main() -> None:
    options = parse_arguments(__doc__ or "", "features.json")
    table = Table("the image side")
    for bench in BENCHES:
        bench(table, options.quick)
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()

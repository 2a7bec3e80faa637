"""Training: the loop against a conventional one, its overhead, TSConv's algebra, memory.

Everything is measured in one process on one machine and reported as ratios. Two conventional loops
stand for what training code of this field does, both with a dataset of per-sample dictionaries, a
DataLoader, unfused AdamW in fp32, torch's own matrix products and dropout, and the blur level of
each sample kept in numpy:

- "conventional": the repetitions of a stimulus are kept as float16, as the prepared files of UBP
  and BVSA hold them, and are converted and averaged when a sample is asked for; the sample's
  dictionary has the ten entries that released code passes along (signals, image and text vectors,
  names, paths, numbers), the loss forms the logits twice (image to brain, brain to image), and
  loss and top-5 training accuracy are read at every step;
- "lean": averaged beforehand, four entries, one product, nothing read but the levels.
"""

from __future__ import annotations

import copy
import ctypes
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _table import Table, best_seconds, parse_arguments
from torch.utils.data import DataLoader, Dataset

from phosphene import _matmul
from phosphene._device import resolve_precision
from phosphene.data.recording import Recording
from phosphene.encoders._dropout import Dropout
from phosphene.encoders.tsconv import TSConv
from phosphene.methods._contracts import Shapes
from phosphene.methods.ubp import UBP
from phosphene.stimuli.bank import FeatureBank
from phosphene.training._memory import freed_memory_kept
from phosphene.training.loop import Settings, make_optimiser

CHANS, TIMES, WIDTH, BATCH = 17, 250, 1024, 1024
VIEWS = [f"fovea(k={k},g=3,peak=0.5)" for k in (45, 51, 57)]


def make_data(n: int) -> tuple[Recording, FeatureBank]:
    """A THINGS-EEG2-sized subject of noise: one averaged trial per image."""
    rng = np.random.default_rng(0)
    ids = [f"c{i // 10:04d}/c{i // 10:04d}_{i % 10}.jpg" for i in range(n)]
    signals = rng.standard_normal((n, CHANS, TIMES), dtype=np.float32)
    bank = FeatureBank.from_arrays(
        ids, {view: rng.standard_normal((n, WIDTH), dtype=np.float32) for view in VIEWS}
    )
    return Recording.from_arrays(signals, {"stimulus": ids}, sfreq=250.0, check=False), bank


class Samples(Dataset[dict[str, Any]]):
    """One dictionary per sample.

    Parameters
    ----------
    recording, bank
        Averaged trials and their vectors.
    repetitions : int
        1 is the lean form; 4 keeps so many repetitions per stimulus, averaged on access, and the
        ten entries.
    """

    def __init__(self, recording: Recording, bank: FeatureBank, repetitions: int) -> None:
        eeg = torch.from_numpy(recording.signals)
        self.full = repetitions > 1
        self.eeg = eeg[:, None].half().repeat(1, repetitions, 1, 1) if self.full else eeg
        self.names = recording.trials["stimulus"].tolist()
        self.features = [
            dict(zip(bank.ids, torch.from_numpy(bank.vectors(view)), strict=True)) for view in VIEWS
        ]
        self.level = np.ones(len(self.eeg), dtype=int)
        self.similarity = np.ones(len(self.eeg))

    def __len__(self) -> int:
        return len(self.eeg)

    def __getitem__(self, i: int) -> dict[str, Any]:
        name = self.names[i]
        vector = self.features[self.level[i]][name]
        if not self.full:
            return {"idx": i, "eeg": self.eeg[i], "label": name, "img_features": vector}
        return {
            "idx": i,
            "eeg": self.eeg[i].float().mean(0)[:, 0:TIMES],
            "label": i // 10,
            "img_path": name,
            "img": "None",
            "img_features": vector,
            "text": f"This picture is {name}",
            "text_features": self.features[0][name],
            "session": 0,
            "subject": 0,
        }


@contextmanager
def plain_layers() -> Iterator[None]:
    """Let our layers multiply and drop values as torch's own do."""
    gain, forward = _matmul.MIN_GAIN, Dropout.forward
    _matmul.MIN_GAIN = float("inf")
    Dropout.forward = torch.nn.Dropout.forward
    try:
        yield
    finally:
        _matmul.MIN_GAIN, Dropout.forward = gain, forward


@plain_layers()
def conventional_epoch(samples: Samples, module: torch.nn.ModuleDict, adam: Any) -> None:
    module.train()
    upcoming = samples.level.copy()
    for batch in DataLoader(samples, batch_size=BATCH, shuffle=True, num_workers=0):
        adam.zero_grad()
        z = module["encoder"](batch["eeg"])
        v = batch["img_features"]
        v = v / v.norm(dim=-1, keepdim=True)
        scale = torch.nn.functional.softplus(module["objective"].s)
        logits = scale * z @ v.T
        transposed = scale * v @ z.T if samples.full else logits.T
        truth = torch.arange(len(z))
        loss = (
            torch.nn.functional.cross_entropy(logits, truth)
            + torch.nn.functional.cross_entropy(transposed, truth)
        ) / 2
        if samples.full:
            unit = z.detach() / z.detach().norm(dim=-1, keepdim=True)
            (unit @ v.T).topk(5, dim=-1).indices.numpy()
            loss.item()
        loss.backward()
        adam.step()
        index = batch["idx"].numpy()
        s = torch.diag(logits).detach().cpu().numpy()
        samples.similarity[index] = 0.3 * s + 0.7 * samples.similarity[index]
        e = samples.similarity[index]
        low, high = e.mean() - 1.96 * e.std(ddof=1), e.mean() + 1.96 * e.std(ddof=1)
        level = np.ones(len(s), dtype=int)
        level[s > high], level[s < low] = 0, 2
        upcoming[index] = level
    samples.level = upcoming


def build(decoder: UBP, widths: dict[str, int]) -> torch.nn.ModuleDict:
    """The modules that a fit would train."""
    decoder.views_, decoder.gallery_view_ = VIEWS, VIEWS[1]
    return decoder._build(Shapes(CHANS, TIMES, widths))


def bench_loop(table: Table, n: int, rounds: int) -> None:
    """Our loop, a conventional one and the bare step, in turns, each by its fastest run.

    In turns because on a shared machine the speed of one minute says little about the next.
    """
    recording, bank = make_data(n)
    auto = resolve_precision("auto", torch.device("cpu"))
    precisions = list(dict.fromkeys(("fp32", auto)))
    module = build(UBP(), {"image": WIDTH})
    adam = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=1e-4, fused=False)
    forms = {"conventional": Samples(recording, bank, 4), "lean": Samples(recording, bank, 1)}
    steps = {precision: make_step(recording, bank, precision) for precision in precisions}
    loops: dict[str, list[float]] = {precision: [] for precision in precisions}
    bare: dict[str, list[float]] = {precision: [] for precision in precisions}
    plain: dict[str, list[float]] = {form: [] for form in forms}
    for _ in range(rounds):
        for form, samples in forms.items():
            epoch = partial(conventional_epoch, samples, module, adam)
            plain[form].append(best_seconds(epoch, 1, 0))
        for precision in precisions:
            decoder = UBP(epochs=3, selection="fixed_epoch", device="cpu", precision=precision)
            decoder.fit(recording, bank, progress=False)
            loops[precision] += decoder.history_["seconds"].tolist()
            with freed_memory_kept(torch.device("cpu")):  # as in the loop
                bare[precision].append(best_seconds(steps[precision], 16))
    for form, seconds in plain.items():
        for precision in precisions:
            goal = 4.0 if precision == "bf16" else 2.0
            table.add(
                f"epoch loop, {precision}, against a {form} one",
                min(seconds) / min(loops[precision]),
                goal if form == "conventional" else None,
                samples_per_second=n / min(loops[precision]),
                other=n / min(seconds),
            )
    for precision in precisions:
        step = min(bare[precision]) * n / BATCH
        loop = min(loops[precision])
        table.add(
            f"loop over bare steps, {precision}: extra time in %",
            100 * (loop / step - 1),
            20.0,
            better="lower",
            epoch_ms=1e3 * loop,
            steps_ms=1e3 * step,
        )


def make_step(recording: Recording, bank: FeatureBank, precision: str) -> Callable[[], None]:
    """Forward, loss, backward and update on one batch in place, kept as the loop keeps it."""
    module = build(UBP(), {"image": WIDTH})
    adam = make_optimiser(module, Settings(epochs=1, batch_size=BATCH, lr=1e-4))
    brain = torch.from_numpy(recording.signals[:BATCH].copy())
    brain = brain.bfloat16() if precision == "bf16" else brain
    target = torch.nn.functional.normalize(torch.from_numpy(bank.vectors(VIEWS[1])[:BATCH]))
    module.train()

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = module["objective"](module["encoder"](brain), target)
        loss.backward()
        adam.step()

    return step


def bench_tsconv(table: Table, batch: int, repeats: int) -> None:
    torch.manual_seed(0)
    fast = TSConv(63, TIMES, WIDTH)
    literal = TSConv(63, TIMES, WIDTH, literal=True)
    literal.load_state_dict(copy.deepcopy(fast.state_dict()))
    x = torch.randn(batch, 63, TIMES)
    weights = torch.randn(batch, WIDTH)
    seconds = {}
    auto = resolve_precision("auto", torch.device("cpu"))
    for name, module, precision in (
        ("literal", literal, "fp32"),
        ("fp32", fast, "fp32"),
        ("bf16", fast, "bf16"),
    ):
        if precision == "bf16" and auto != "bf16":
            continue
        adam = torch.optim.Adam(module.parameters(), lr=1e-5, fused=True)
        prepared = module.prepare(x)

        def step(module: Any = module, adam: Any = adam, prepared: Any = prepared,
                 bf16: bool = precision == "bf16") -> None:  # fmt: skip
            adam.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                z = module(prepared, prepared=True)
            (z.float() * weights).sum().backward()
            adam.step()

        with plain_layers() if name == "literal" else nullcontext():
            seconds[name] = best_seconds(step, repeats=2 if name == "literal" else repeats)
    for precision in ("fp32", "bf16"):
        if precision in seconds:
            table.add(
                f"TSConv step, 63 channels, {precision}, against its literal form",
                seconds["literal"] / seconds[precision],
                7.0 if precision == "fp32" else None,
                samples_per_second=batch / seconds[precision],
                literal=batch / seconds["literal"],
            )


def bench_memory(table: Table, n: int) -> None:
    """Peak of a whole fit, in a process of its own because the peak is one per process."""
    command = [sys.executable, __file__, "--memory", str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"memory was not measured: {done.stderr.strip().splitlines()[-1]}")
        return
    peak, activations, resident = (float(word) for word in done.stdout.split()[-3:])
    table.add(
        "peak memory of a fit, less the step's activations, over resident tensors",
        (peak - activations) / resident,
        1.5,
        better="lower",
        peak_mb=peak,
        activations_mb=activations,
        resident_mb=resident,
    )


def measure_memory(n: int) -> None:
    """Print peak, activations and resident tensors in MB."""
    recording, bank = make_data(n)
    small = recording.select(list(range(2 * BATCH)))
    settings: dict[str, Any] = {"epochs": 2, "selection": "fixed_epoch", "device": "cpu"}
    # Libraries, thread pools and caches of a first fit are not memory of the data.
    UBP(**settings).fit(small, bank, progress=False)
    module = build(UBP(), {"image": WIDTH})
    parameters = sum(p.numel() for p in module.parameters()) * 4
    brain = torch.from_numpy(recording.signals[:BATCH].copy())
    target = torch.from_numpy(bank.vectors(VIEWS[1])[:BATCH])
    before = _reset_peak()
    with torch.autocast(
        "cpu", torch.bfloat16, enabled=resolve_precision("auto", torch.device("cpu")) == "bf16"
    ):
        z = module["encoder"](brain)
    module["objective"](z, target).backward()
    activations = _status("VmHWM") - before - parameters / 2**20
    del module, z, brain, target
    before = _reset_peak()
    UBP(**settings).fit(recording, bank, progress=False)
    peak = _status("VmHWM") - before
    targets = len(VIEWS) * n * WIDTH * 4
    # weights, gradients and two moments
    resident = (recording.nbytes + targets + 4 * parameters) / 2**20
    print(peak, activations, resident)


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status")


def _reset_peak() -> float:
    """Give freed memory back, start a new peak, and return what is in use, in MB."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def main() -> None:
    if sys.argv[1:2] == ["--memory"]:
        measure_memory(int(sys.argv[2]))
        return
    arguments = parse_arguments(__doc__.splitlines()[0], "training.json")
    n = 4096 if arguments.quick else 16540
    table = Table("training")
    started = time.perf_counter()
    bench_loop(table, n, rounds=2 if arguments.quick else 4)
    bench_tsconv(table, 256, repeats=3 if arguments.quick else 6)
    bench_memory(table, n)
    table.add("float32 products, oneDNN against torch's default", _matmul.onednn_gain())
    table.show()
    table.write(arguments.out)
    print(f"\n{time.perf_counter() - started:.0f} s; written to {arguments.out}")


if __name__ == "__main__":
    main()

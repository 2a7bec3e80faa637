"""NICE: the paper's settings, and learning with TSConv."""

from __future__ import annotations

import pytest

from phosphene import _registry
from phosphene.encoders.channel_attention import TSConvGA, TSConvSA
from phosphene.encoders.tsconv import TSConv
from phosphene.errors import DataError
from phosphene.methods.nice import NICE
from phosphene.testing._data import tiny_problem, tiny_recording


def test_defaults_are_the_papers() -> None:
    nice = NICE()
    assert _registry.get("method", "nice") is NICE
    assert (nice.encoder, nice.views) == ("tsconv", ("original",))
    assert (nice.optimiser, nice.lr, nice.betas, nice.weight_decay) == (
        "adam",
        2e-4,
        (0.5, 0.999),
        0.0,
    )
    assert (nice.batch_size, nice.epochs, nice.normalise) == (1000, 200, "both")
    objective = nice._make_objective()
    assert float(objective.scale) == pytest.approx(14.3, abs=0.02)
    assert not list(objective.parameters())


def test_trains_tsconv_on_prepared_signals_and_encodes_raw_ones() -> None:
    problem = tiny_problem()
    nice = NICE(epochs=2, batch_size=64, device="cpu", precision="fp32")
    nice.fit(problem.train, problem.bank, progress=False)
    encoder = nice.modules_["encoder"]
    assert isinstance(encoder, TSConv)
    assert not encoder.literal
    queries = problem.test.average()
    import torch

    raw = torch.from_numpy(nice.scaler_.apply(queries.signals))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(nice.embed(queries).vectors), encoder(raw))


def test_short_epochs_are_refused_before_training() -> None:
    problem = tiny_problem()
    short = tiny_recording(times=60).select(split="train")
    with pytest.raises(DataError, match=r"too short[\s\S]*60 samples"):
        NICE(device="cpu").fit(short, problem.bank, progress=False)


@pytest.mark.parametrize(("name", "kind"), [("tsconv-sa", TSConvSA), ("tsconv-ga", TSConvGA)])
def test_variants_learn_with_attention_between_channels(name: str, kind: type) -> None:
    problem = tiny_problem()
    nice = NICE(encoder=name, epochs=15, batch_size=64, lr=3e-3, device="cpu", precision="fp32")
    nice.fit(problem.train, problem.bank, progress=False)
    encoder = nice.modules_["encoder"]
    assert isinstance(encoder, kind)
    assert nice._prepare() is None  # the moving average follows what is trained
    assert nice.evaluate(problem.test, problem.bank).two_way > 0.7
    bf16 = NICE(encoder=name, epochs=1, batch_size=64, device="cpu", precision="bf16")
    bf16.fit(problem.train, problem.bank, progress=False)
    assert bf16.history_["loss"].notna().all()

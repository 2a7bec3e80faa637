"""ATM-S: the paper's settings, the text part of the loss, tokens of subjects."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene.encoders.atms import ATMSEncoder
from phosphene.errors import DataError
from phosphene.methods.atms import ATMS
from phosphene.objectives.infonce import InfoNCE
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import TinyProblem, tiny_problem

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 64,
    "lr": 1e-3,
    "device": "cpu",
    "precision": "fp32",
    "encoder": "eegproject",
}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


def nameless(bank: FeatureBank) -> FeatureBank:
    return replace(bank, text=None)


def named(bank: FeatureBank, encoder: str = "tiny-0") -> FeatureBank:
    """The bank with a random vector per concept, in the space of the pictures or another."""
    concepts = sorted(set(bank.stimuli["concept"]))
    rng = np.random.default_rng(0)
    names = FeatureBank.from_arrays(
        concepts,
        {"text": rng.standard_normal((len(concepts), 24))},
        concepts=concepts,
        provenance={"encoder": {"id": encoder}},
    )
    return bank.with_text(names)


def test_defaults_are_the_papers() -> None:
    atms = ATMS()
    assert _registry.get("method", "atms") is ATMS
    assert (atms.encoder, atms.views, atms.average_repetitions) == ("atms", ("original",), False)
    assert (atms.optimiser, atms.lr, atms.batch_size, atms.epochs) == ("adamw", 3e-4, 64, 40)
    objective = atms._make_objective()
    assert objective.scale.item() == pytest.approx(2.66, abs=0.005)
    assert len(list(objective.parameters())) == 1
    # On unit vectors of images, neither side is scaled, as in the released loss.
    z, v = torch.randn(5, 4), torch.nn.functional.normalize(torch.randn(5, 4), dim=1)
    plain = InfoNCE("none", "raw", math.log(1 / 0.07))
    torch.testing.assert_close(objective(z, v), plain(z, v))


def test_trains_on_single_trials_with_a_token_per_subject() -> None:
    problem = tiny_problem(subjects=2)
    atms = ATMS(**{**QUICK, "encoder": "atms"})
    atms.fit(problem.train, nameless(problem.bank), progress=False)
    encoder = atms.modules_["encoder"]
    assert isinstance(encoder, ATMSEncoder)
    assert encoder.front.n_subjects == 2
    assert atms.training_["train_repetitions"] == 1
    assert atms.text_weight_ == 0
    queries = problem.test.average(by=("subject", "stimulus"))
    raw = torch.from_numpy(atms.scaler_.apply(queries.signals))
    code = torch.from_numpy((queries.trials["subject"] == "02").to_numpy().astype(int))
    with torch.no_grad():
        expected, shared = encoder(raw, subject=code), encoder(raw)
    torch.testing.assert_close(torch.from_numpy(atms.embed(queries).vectors), expected)
    stranger = queries.with_trials(
        queries.trials.assign(subject="77", session=queries.trials["subject"])
    )
    torch.testing.assert_close(torch.from_numpy(atms.embed(stranger).vectors), shared)
    assert not torch.allclose(expected, shared, atol=1e-3)


@pytest.mark.parametrize("weight", [None, 0.3])
def test_text_part_of_the_loss(problem: TinyProblem, weight: float | None, tmp_path: Path) -> None:
    bank = named(problem.bank)
    atms = ATMS(text_weight=weight, **QUICK).fit(problem.train, bank, progress=False)
    share = 0.01 if weight is None else weight
    assert atms.text_weight_ == share
    assert atms.training_["text_encoder"] == "tiny-0"
    ids = atms.train_stimuli_[:7]  # three exemplars of two concepts, and one more
    targets = atms._targets(bank, ids)
    assert targets["text"].shape == (1, 7, 24)
    code = np.array([0, 0, 0, 1, 1, 1, 2])
    assert (targets["text"][0][1:3] == targets["text"][0][0]).all()
    z = torch.randn(7, 24)
    batch = {name: torch.from_numpy(value[0]) for name, value in targets.items()}
    found = atms._loss(z, batch, torch.arange(7))
    objective = atms.modules_["objective"]
    image, text = objective(z, batch["image"]), _several(objective, z, batch["text"], code)
    torch.testing.assert_close(found, (1 - share) * image + share * text)
    loaded = ATMS.from_pretrained(atms.save_pretrained(tmp_path / "m"))
    assert loaded.text_weight_ == share


def _several(objective: Any, z: torch.Tensor, text: torch.Tensor, code: Any) -> torch.Tensor:
    """Cross-entropy with uniform targets over the rows of one name, by its formula."""
    logits = objective.scale * z @ torch.nn.functional.normalize(text, dim=1).T
    same = torch.from_numpy((code[:, None] == code[None]).astype("float32"))
    same = same / same.sum(1, keepdim=True)
    return -((logits.log_softmax(1) + logits.log_softmax(0)) * same).sum(1).mean() / 2


def test_text_changes_what_is_learnt(problem: TinyProblem) -> None:
    fits = [
        ATMS(text_weight=w, **QUICK).fit(problem.train, named(problem.bank), progress=False)
        for w in (0, 0.5)
    ]
    queries = problem.test.average()
    first, second = (d.embed(queries).vectors for d in fits)
    assert not np.allclose(first, second, atol=1e-3)


def test_names_in_another_space_are_refused_before_training(problem: TinyProblem) -> None:
    other = named(problem.bank, "another")
    plain = ATMS(layer="vector")
    plain.layer_ = "vector"
    assert (plain._weight(nameless(problem.bank)), plain._weight(other)) == (0.0, 0.0)
    for bank, what in (
        (nameless(problem.bank), "a bank without any"),
        (other, "names in another space"),
    ):
        with pytest.raises(
            DataError, match=rf"names in the space[\s\S]*{what}[\s\S]*text_weight=0"
        ):
            ATMS(text_weight=0.01, **QUICK).fit(problem.train, bank, progress=False)
    with pytest.raises(DataError, match="share of the loss"):
        ATMS(text_weight=1.5, **QUICK).fit(problem.train, other, progress=False)

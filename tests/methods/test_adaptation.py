"""Layers per subject, and decoders that are adapted to a new subject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from phosphene.config import load_recipe
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.encoders.subject import SubjectReadIn
from phosphene.errors import DataError, LeakError, NotFittedError, SpaceMismatchError
from phosphene.methods._contracts import ContrastiveDecoder
from phosphene.methods.nice import NICE
from phosphene.methods.ridge import Ridge
from phosphene.methods.ubp import UBP
from phosphene.runs import fit as fit_recipe
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import TinyProblem, tiny_problem

QUICK: dict[str, Any] = {
    "batch_size": 128,
    "lr": 3e-3,
    "device": "cpu",
    "precision": "fp32",
    "encoder": "eegproject",
}
TRAINED, NEW = ("01", "02"), "03"


def mixed(recording: Recording, subject: str) -> Recording:
    """The recording as another person gives it: channels mixed, noise and scale of his own."""
    rng = np.random.default_rng(int(subject))
    signals = np.asarray(recording.signals)
    rotation = np.linalg.qr(rng.standard_normal((17, 17)))[0]
    scale = rng.uniform(0.5, 2, (17, 1))
    own = scale * (rotation @ signals) + 0.3 * rng.standard_normal(signals.shape)
    named = recording.with_trials(recording.trials.assign(subject=subject))
    return named.with_signals(own.astype(np.float32))


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


@pytest.fixture(scope="module")
def train(problem: TinyProblem) -> Recording:
    return Recording.concat([mixed(problem.train, name) for name in TRAINED])


@pytest.fixture(scope="module")
def new(problem: TinyProblem) -> Recording:
    return mixed(problem.train, NEW)


@pytest.fixture(scope="module")
def test(problem: TinyProblem) -> Recording:
    return mixed(problem.test, NEW)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "layers"])
def decoder(request: pytest.FixtureRequest, problem: TinyProblem, train: Recording) -> UBP:
    made = UBP(epochs=25, subject_layers=request.param, **QUICK)
    return made.fit(train, problem.bank, progress=False)


@pytest.fixture(scope="module")
def adapted(decoder: UBP, new: Recording, problem: TinyProblem) -> UBP:
    return decoder.adapt(new, problem.bank, progress=False)


# -------------------------------------------------------------------------- adaptation
def test_a_new_subject_is_decoded_after_adaptation(
    decoder: UBP, adapted: UBP, test: Recording, problem: TinyProblem
) -> None:
    after = adapted.evaluate(test, problem.bank)
    assert after.two_way > 0.8
    if not decoder.subject_layers:
        assert after.two_way > decoder.evaluate(test, problem.bank).two_way + 0.15


def test_the_fitted_decoder_and_known_subjects_stay_as_they_were(
    decoder: UBP, adapted: UBP, new: Recording, problem: TinyProblem
) -> None:
    assert adapted is not decoder
    assert decoder.adapted_ == []
    assert "adapted" not in decoder.training_
    known = mixed(problem.test, "02")
    assert np.array_equal(decoder.embed(known).vectors, adapted.embed(known).vectors)
    ours, theirs = decoder.modules_.state_dict(), adapted.modules_.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name])
        assert value is not theirs[name]
    assert all(p.requires_grad for p in adapted.modules_.parameters())
    assert not adapted._state
    before = {name: value.clone() for name, value in ours.items()}
    decoder.adapt(new, problem.bank, epochs=1, progress=False)
    assert all(torch.equal(before[n], v) for n, v in decoder.modules_.state_dict().items())


def test_mixed_recordings_keep_their_order(
    adapted: UBP, test: Recording, problem: TinyProblem
) -> None:
    known = mixed(problem.test, "01")
    both = Recording.concat([test, known])
    order = np.random.default_rng(0).permutation(both.n_trials)
    vectors = np.concatenate([adapted.embed(part).vectors for part in (test, known)])
    shuffled = both.select(order)
    np.testing.assert_allclose(
        adapted.embed(shuffled).vectors, vectors[order], rtol=1e-4, atol=1e-5
    )


def test_signals_go_through_his_scaler_and_matrix(
    adapted: UBP, new: Recording, test: Recording
) -> None:
    averaged = new.average(by=("subject", "stimulus"))
    one = adapted._adapted[NEW]
    signals = np.asarray(averaged.signals, dtype=np.float64)
    np.testing.assert_allclose(one.scaler.mean, signals.mean((0, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one.scaler.scale, signals.std((0, 2)), rtol=1e-4)
    (matrix,) = one.maps.values()
    raw = (np.asarray(test.signals) - one.scaler.mean[:, None]) / one.scaler.scale[:, None]
    encoder = adapted.modules_["encoder"]
    inner = encoder.encoder if isinstance(encoder, SubjectReadIn) else encoder
    with torch.no_grad():
        expected = inner(torch.einsum("dc,bct->bdt", matrix, torch.from_numpy(raw)).float())
    np.testing.assert_allclose(adapted.embed(test).vectors, expected, rtol=1e-3, atol=1e-4)


def test_adapted_decoders_are_saved(
    adapted: UBP, new: Recording, test: Recording, problem: TinyProblem, tmp_path: Path
) -> None:
    loaded = UBP.from_pretrained(adapted.save_pretrained(tmp_path / "model"))
    assert np.array_equal(loaded.embed(test).vectors, adapted.embed(test).vectors)
    assert loaded.adapted_ == adapted.adapted_
    other = mixed(problem.train, "04")
    twice = loaded.adapt(other, problem.bank, epochs=2, progress=False)
    assert [facts["subject"] for facts in twice.adapted_] == [NEW, "04"]
    assert np.array_equal(twice.embed(test).vectors, adapted.embed(test).vectors)
    again = UBP.from_pretrained(twice.save_pretrained(tmp_path / "twice"))
    his = mixed(problem.test, "04")
    assert np.array_equal(again.embed(his).vectors, twice.embed(his).vectors)
    assert not np.allclose(
        again.embed(his).vectors, twice.embed(his.with_trials(
            his.trials.assign(subject=NEW))).vectors, atol=1e-3
    )  # fmt: skip


def test_the_protocol_says_so(
    decoder: UBP, adapted: UBP, new: Recording, test: Recording, problem: TinyProblem
) -> None:
    (facts,) = adapted.adapted_
    assert (facts["subject"], facts["trials"], facts["stimuli"]) == (NEW, 240, 120)
    assert facts["fingerprint"] == new.fingerprint
    protocol = adapted.evaluate(test, problem.bank).protocol
    assert protocol.split_rule == "adapted subjects"
    assert protocol.notes == (
        f"adapted to subject 03 on 240 training trials (fingerprint {new.fingerprint[:16]})",
    )
    known = adapted.evaluate(mixed(problem.test, "01"), problem.bank).protocol
    assert (known.split_rule, known.notes) == ("pooled subjects", ())
    both = Recording.concat([test, mixed(problem.test, "01")])
    rule = adapted.evaluate(both, problem.bank).protocol.split_rule
    assert rule == "adapted and other subjects"
    if not decoder.subject_layers:
        assert decoder.evaluate(test, problem.bank).protocol.split_rule == "leave-one-subject-out"


def test_what_was_adapted_on_counts_as_seen(problem: TinyProblem) -> None:
    ids = problem.train.trials["concept"].astype(str)
    half = sorted(set(ids))[:20]
    base = problem.train.select(ids.isin(half).to_numpy())
    rest = problem.train.select((~ids.isin(half)).to_numpy())
    decoder = UBP(epochs=1, selection="fixed_epoch", **QUICK)
    decoder.fit(mixed(base, "01"), problem.bank, progress=False)
    adapted = decoder.adapt(mixed(rest, NEW), problem.bank, epochs=1, progress=False)
    asked = mixed(rest, NEW)
    asked = asked.with_trials(asked.trials.assign(split="test"))
    decoder.evaluate(asked, problem.bank)
    with pytest.raises(LeakError, match=str(rest.trials["stimulus"].iloc[0])):
        adapted.evaluate(asked, problem.bank)
    assert set(adapted.train_concepts_) == set(ids)
    assert len(adapted.train_stimuli_) == len(adapted.train_hashes_) == 120


def test_decay_keeps_the_matrix_near_its_start(
    decoder: UBP, new: Recording, problem: TinyProblem
) -> None:
    starts = torch.eye(17)
    if decoder.subject_layers:
        starts = decoder.modules_["encoder"].weight.detach().mean(0)
    distances = []
    for weight_decay in (0.0, 30.0):
        adapted = decoder.adapt(
            new, problem.bank, epochs=60, weight_decay=weight_decay, progress=False
        )
        (matrix,) = adapted._adapted[NEW].maps.values()
        distances.append(float((matrix - starts).norm()))
    assert 0 < distances[1] < 0.5 * distances[0]
    still = decoder.adapt(new, problem.bank, epochs=1, lr=0.0, progress=False)
    (matrix,) = still._adapted[NEW].maps.values()
    torch.testing.assert_close(matrix, starts)


def test_the_same_seed_gives_the_same_bits(
    decoder: UBP, adapted: UBP, new: Recording, test: Recording, problem: TinyProblem
) -> None:
    again = decoder.adapt(new, problem.bank, progress=False)
    assert np.array_equal(again.embed(test).vectors, adapted.embed(test).vectors)


# ------------------------------------------------------------------------------- refusals
def test_data_that_cannot_be_adapted_to_are_refused(
    decoder: UBP, adapted: UBP, new: Recording, test: Recording, problem: TinyProblem
) -> None:
    bank = problem.bank
    both = Recording.concat([new, mixed(problem.train, "04")])
    single = new.select(new.trials["stimulus"].eq(new.trials["stimulus"].iloc[0]).to_numpy())
    other = FeatureBank.from_arrays(
        bank.ids,
        {view: bank.vectors(view) for view in bank.views},
        provenance={"encoder": {"id": "another"}},
    )
    for what, error, match in (
        (lambda: decoder.adapt(test, bank), LeakError, "test"),
        (lambda: decoder.adapt(HeldOut(new), bank), LeakError, "held-out"),
        (lambda: decoder.adapt(both, bank), DataError, "one subject at a time"),
        (lambda: decoder.adapt(mixed(problem.train, "02"), bank), DataError, "subject 02 already"),
        (lambda: adapted.adapt(new, bank), DataError, "subject 03 already"),
        (lambda: decoder.adapt(single, bank), DataError, "nothing to contrast with"),
        (lambda: decoder.adapt(new, other), SpaceMismatchError, "another space"),
        (lambda: decoder.adapt(new.pick(new.sensors.names[1:]), bank), DataError, "lacks channels"),
        (lambda: UBP().adapt(new, bank), NotFittedError, "not fitted"),
    ):
        with pytest.raises(error, match=match):
            what()


def test_many_voxels_need_subject_layers(problem: TinyProblem, monkeypatch: Any) -> None:
    flat = problem.train.with_trials(problem.train.trials)
    signals = np.asarray(flat.signals).reshape(len(flat.trials), -1)[:, :60]
    trials = flat.trials.reset_index(drop=True)
    people = [
        Recording.from_arrays(signals + i, trials.assign(subject=name), modality="fmri")
        for i, name in enumerate(("01", "02", "03"))
    ]
    train = Recording.concat(people[:2])
    settings = {**QUICK, "encoder": "mlp", "epochs": 2, "encoder_params": {"width": 16}}
    monkeypatch.setattr("phosphene.methods._new_subject.MAX_CHANS", 50)
    plain = UBP(**settings).fit(train, problem.bank, progress=False)
    with pytest.raises(DataError, match=r"60 channels or voxels[\s\S]*subject_width"):
        plain.adapt(people[2], problem.bank)
    layered = UBP(**settings, subject_layers=True, subject_width=20)
    layered.fit(train, problem.bank, progress=False)
    assert layered.modules_["encoder"].weight.shape == (2, 20, 60)
    adapted = layered.adapt(people[2], problem.bank, epochs=2, progress=False)
    assert adapted.embed(people[2]).vectors.shape == (240, 24)


# ------------------------------------------------------------------------- subject layers
def test_unseen_subjects_are_refused_by_name(
    problem: TinyProblem, train: Recording, test: Recording
) -> None:
    decoder = NICE(epochs=2, subject_layers=True, **QUICK)
    with pytest.raises(NotFittedError):
        decoder.check_subjects(["01"])
    decoder.check_subjects(["01"], train=TRAINED)
    with pytest.raises(DataError, match="subject 03"):
        decoder.check_subjects(["01", "03"], train=TRAINED)
    decoder.fit(train, problem.bank, progress=False)
    decoder.check_subjects(TRAINED)
    held = HeldOut(test)
    for call in (
        lambda: decoder.embed(test),
        lambda: decoder.similarity(test, problem.bank),
        lambda: decoder.evaluate(held, problem.bank),
    ):
        with pytest.raises(DataError, match=r"subject 03[\s\S]*decoder\.adapt\(recording, bank\)"):
            call()
    assert held.opened == 0
    plain = NICE(epochs=1, **QUICK)
    plain.check_subjects(["anyone"])
    Ridge().check_subjects(["anyone"])


def test_a_recipe_that_leaves_subjects_out_is_refused_before_training(
    problem: TinyProblem, train: Recording, tmp_path: Path
) -> None:
    train.save(tmp_path / "eeg")
    problem.bank.save(tmp_path / "bank")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: layers\n"
        "data: {kind: recording, path: eeg}\n"
        "features: {kind: bank, path: bank}\n"
        "split: {kind: leave_one_run_out, column: subject}\n"
        "method: {name: ubp, params: {epochs: 1, batch_size: 64, device: cpu,"
        " subject_layers: true}}\n"
    )
    with pytest.raises(DataError, match=r"no layer for subject 01[\s\S]*subject_layers=False"):
        fit_recipe(load_recipe(recipe), tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    without = load_recipe(recipe, ["method.params.subject_layers=false"])
    assert len(fit_recipe(without, tmp_path / "without", progress=False).folds) == 2


def test_layers_leave_the_other_initial_weights_alone(
    problem: TinyProblem, train: Recording
) -> None:
    from phosphene.methods._contracts import Shapes

    shapes = Shapes(17, 80, {"image": 24}, list(TRAINED))
    plain = UBP(**QUICK)._make_encoder(shapes, 24)
    layered = UBP(**QUICK, subject_layers=True)._make_encoder(shapes, 24)
    assert isinstance(layered, SubjectReadIn)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, layered.state_dict()[f"encoder.{name}"])
    with pytest.raises(DataError, match="subject_width"):
        UBP(**QUICK, subject_width=5)._make_encoder(shapes, 24)


@dataclass(eq=False, repr=False, kw_only=True)
class TwoEncoders(ContrastiveDecoder):
    """Two encoders under one method, with layers in front of both."""

    def _build(self, shapes: Any) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                "encoder": self._make_encoder(shapes, 24),
                "second": self._make_encoder(shapes, 24, "second"),
                "objective": self._make_objective(),
            }
        )

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "first": self._encode(brain, subject=subject),
            "second": self._encode(brain, "second", subject=subject),
        }

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        return super()._loss(self._vector(z), targets, index)

    def _vector(self, z: Any) -> torch.Tensor:
        total: torch.Tensor = z["first"] + z["second"]
        return total


def test_every_encoder_of_a_method_gets_a_layer_for_the_new_subject(
    problem: TinyProblem, train: Recording, new: Recording, test: Recording
) -> None:
    decoder = TwoEncoders(epochs=15, subject_layers=True, **QUICK)
    decoder.fit(train, problem.bank, progress=False)
    adapted = decoder.adapt(new, problem.bank, progress=False)
    assert set(adapted._adapted[NEW].maps) == {"encoder", "second"}
    assert adapted.evaluate(test, problem.bank).two_way > 0.75

"""What every decoder does around its learning: joining, guarding, scoring, saving."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut
from phosphene.encoders.eegproject import EEGProject
from phosphene.errors import (
    ArtefactError,
    DataError,
    LeakError,
    NotFittedError,
    SpaceMismatchError,
)
from phosphene.methods import _brain
from phosphene.methods._contracts import ContrastiveDecoder, Decoder, LinearDecoder
from phosphene.methods._views import resolve_views
from phosphene.methods.nice import NICE
from phosphene.methods.ridge import Ridge
from phosphene.methods.ubp import UBP
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import TinyProblem, tiny_problem, tiny_recording
from phosphene.training.paired import PairedData

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 64,
    "lr": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


@pytest.fixture(scope="module")
def ubp(problem: TinyProblem) -> UBP:
    return UBP(**QUICK).fit(problem.train, problem.bank, progress=False)


class Flat(nn.Module):
    """An encoder of the user's own, braindecode style."""

    def __init__(self, n_chans: int, n_times: int, n_outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(n_chans * n_times, n_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


# ----------------------------------------------------------------- constructor
def test_parameters_are_stored_and_cloned() -> None:
    decoder = UBP(lr=3e-3, views=["fovea"], random_state=5)
    copy = clone(decoder)
    assert copy is not decoder
    assert copy.get_params() == decoder.get_params()
    assert decoder.set_params(epochs=3).epochs == 3
    assert "lr=0.003" in repr(decoder)
    with pytest.raises(TypeError, match="learning_rate"):
        UBP(learning_rate=1e-3)  # type: ignore[call-arg]


def test_before_fit_everything_says_so(problem: TinyProblem, tmp_path: Path) -> None:
    for call in (
        lambda d: d.embed(problem.test),
        lambda d: d.similarity(problem.test, problem.bank),
        lambda d: d.evaluate(problem.test, problem.bank),
        lambda d: d.save_pretrained(tmp_path / "x"),
    ):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(UBP())


# ------------------------------------------------------------------ brain data
def test_arrays_with_a_table_and_epochs_are_accepted(problem: TinyProblem, ubp: UBP) -> None:
    queries = problem.test.average()
    expected = ubp.embed(queries).vectors
    epochs = queries.to_epochs()
    np.testing.assert_allclose(ubp.embed(epochs).vectors, expected, atol=1e-4)
    array = (queries.signals, queries.trials)
    assert np.array_equal(ubp.embed(array).vectors, expected)
    arrays = (problem.train.signals, problem.train.trials, 100.0)
    again = UBP(**QUICK).fit(arrays, problem.bank, progress=False)
    assert np.array_equal(again.embed(queries).vectors, expected)
    with pytest.raises(DataError, match="no scale"):
        UBP(**QUICK).fit(arrays[:2], problem.bank)


def test_other_things_are_refused(problem: TinyProblem) -> None:
    with pytest.raises(DataError, match="no brain data"):
        _brain.as_recording([1, 2])
    with pytest.raises(LeakError, match="held-out data"):
        _brain.as_recording(HeldOut(problem.test))


def test_extra_channels_are_named(ubp: UBP) -> None:
    wide = tiny_recording(channels=18)
    with pytest.raises(DataError, match="never saw: ch17"):
        ubp.embed(wide)


def test_time_axis_must_be_that_of_training(problem: TinyProblem, ubp: UBP) -> None:
    with pytest.raises(DataError, match=r"time axis differs[\s\S]*40 samples[\s\S]*80 samples"):
        ubp.embed(problem.test.crop(0, 0.395))
    signals = problem.test.signals
    slower = Recording.from_arrays(signals, problem.test.trials, sfreq=50.0)
    with pytest.raises(DataError, match=r"sampling rate differs[\s\S]*50 Hz[\s\S]*100 Hz"):
        ubp.embed(slower)


def test_stimuli_are_joined_by_trailing_path(problem: TinyProblem, ubp: UBP) -> None:
    def moved(recording: Recording) -> Recording:
        table = recording.trials
        table["stimulus"] = "/data/images/" + table["stimulus"]
        return recording.with_trials(table)

    decoder = UBP(**QUICK).fit(moved(problem.train), problem.bank, progress=False)
    assert decoder.train_stimuli_ == ubp.train_stimuli_
    queries = problem.test.average()
    assert np.array_equal(decoder.embed(queries).vectors, ubp.embed(queries).vectors)
    result = decoder.evaluate(moved(problem.test), problem.bank)
    assert result.top1 == ubp.evaluate(problem.test, problem.bank).top1


# --------------------------------------------------------------------- fitting
def test_training_repetitions_are_averaged_unless_told_otherwise(problem: TinyProblem) -> None:
    single = UBP(**QUICK, average_repetitions=False)
    single.fit(problem.train, problem.bank, progress=False)
    averaged = UBP(**QUICK).fit(problem.train, problem.bank, progress=False)
    assert len(single._state["level"]) == problem.train.n_trials == 240
    assert len(averaged._state["level"]) == 120
    assert single.training_["train_repetitions"] == 1
    assert averaged.training_["train_repetitions"] == 2


def test_statistics_come_from_the_trials_that_are_trained_on(problem: TinyProblem) -> None:
    averaged = problem.train.average()
    fixed = UBP(**QUICK, selection="fixed_epoch").fit(problem.train, problem.bank, progress=False)
    np.testing.assert_allclose(fixed.scaler_.mean, averaged.signals.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(fixed.scaler_.scale, averaged.signals.std((0, 2)), rtol=1e-5)
    chosen = UBP(**QUICK).fit(problem.train, problem.bank, progress=False)
    assert not np.array_equal(chosen.scaler_.mean, fixed.scaler_.mean)
    off = UBP(**QUICK, standardise=False).fit(problem.train, problem.bank, progress=False)
    assert (off.scaler_.scale == 1).all()


def test_history_and_selection_are_recorded(problem: TinyProblem, ubp: UBP) -> None:
    columns = ["epoch", "loss", "val_top1", "val_top5", "lr", "seconds"]
    assert ubp.history_.columns.tolist() == columns
    assert ubp.history_["val_top5"].between(0, 1).all()
    best = ubp.history_.sort_values(["val_top1", "val_top5", "epoch"], ascending=[0, 0, 1])
    assert ubp.selected_epoch_ == best["epoch"].iloc[0]
    assert ubp.evaluate(problem.test, problem.bank).protocol.selection == "held_out_concepts"


def test_streamed_training_gives_the_same_bits(
    problem: TinyProblem, ubp: UBP, tmp_path: Path
) -> None:
    mapped = Recording.load(problem.train.save(tmp_path / "rec"))
    decoder = UBP(**QUICK, max_resident_bytes=1000).fit(mapped, problem.bank, progress=False)
    for name, value in ubp.modules_.state_dict().items():
        assert torch.equal(value, decoder.modules_.state_dict()[name]), name


def test_signals_kept_in_bf16_train_to_the_same_bits(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**QUICK, "precision": "bf16"}
    kept: list[torch.dtype] = []
    build = PairedData.build.__func__  # type: ignore[attr-defined]

    def spied(cls: type[PairedData], *args: Any, **kwargs: Any) -> PairedData:
        kept.append(kwargs["dtype"])
        return build(cls, *args, **kwargs)  # type: ignore[no-any-return]

    monkeypatch.setattr(PairedData, "build", classmethod(spied))
    half = UBP(**settings).fit(problem.train, problem.bank, progress=False)
    monkeypatch.setattr(EEGProject, "starts_with_product", False)
    full = UBP(**settings).fit(problem.train, problem.bank, progress=False)
    assert kept == [torch.bfloat16, torch.float32]
    for name, value in full.modules_.state_dict().items():
        assert torch.equal(value, half.modules_.state_dict()[name]), name


def test_targets_are_scaled_once_where_nothing_comes_in_between(problem: TinyProblem) -> None:
    class Projects(UBP):
        """Image-side modules: what they make is scaled by the objective."""

        def _project(self, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return dict(targets)

    ids = problem.bank.ids[:4]
    lengths = {}
    for make in (UBP, Projects):
        decoder = make(**QUICK).fit(problem.train, problem.bank, progress=False)
        targets = decoder._targets(problem.bank, ids)["image"]
        lengths[make] = np.linalg.norm(targets, axis=-1)
        assert decoder.modules_["objective"].unit_targets is (make is UBP)
    np.testing.assert_allclose(lengths[UBP], 1, rtol=1e-5)
    assert np.abs(lengths[Projects] - 1).max() > 0.1
    assert not UBP(normalise="none")._unit_targets()


def test_progress_is_made_with_an_encoder_of_ones_own(problem: TinyProblem, tmp_path: Path) -> None:
    params = {**QUICK, "epochs": 8, "views": ("original",)}
    decoder = ContrastiveDecoder(**params, encoder=Flat)
    decoder.fit(problem.train, problem.bank, progress=False)
    assert decoder.evaluate(problem.test, problem.bank).two_way > 0.7
    module = Flat(17, 80, 24)
    before = module.layers[1].weight.detach().clone()
    ContrastiveDecoder(**params, encoder=module).fit(problem.train, problem.bank, progress=False)
    assert torch.equal(before, module.layers[1].weight)  # the module given is not trained in place
    decoder.save_pretrained(tmp_path / "model")
    with pytest.raises(ArtefactError, match="code of your own as 'encoder'"):
        ContrastiveDecoder.from_pretrained(tmp_path / "model")
    loaded = ContrastiveDecoder.from_pretrained(tmp_path / "model", encoder=Flat)
    queries = problem.test.average()
    assert np.array_equal(loaded.embed(queries).vectors, decoder.embed(queries).vectors)


def test_an_encoder_that_is_no_module_is_refused(problem: TinyProblem) -> None:
    with pytest.raises(DataError, match="no torch module"):
        UBP(**QUICK, encoder=lambda **sizes: "x").fit(problem.train, problem.bank, progress=False)


def test_voxels_are_decoded_with_the_mlp(problem: TinyProblem) -> None:
    def flat(recording: Recording) -> Recording:
        values = recording.signals.reshape(recording.n_trials, -1)[:, ::5]
        return Recording.from_arrays(values, recording.trials, modality="fmri")

    params = {**QUICK, "epochs": 20, "lr": 3e-3, "views": ("original",), "uncertainty": False}
    with pytest.raises(DataError, match="encoder='mlp'"):
        UBP(**params).fit(flat(problem.train), problem.bank, progress=False)
    decoder = UBP(**params, encoder="mlp", encoder_params={"width": 64})
    decoder.fit(flat(problem.train), problem.bank, progress=False)
    result = decoder.evaluate(flat(problem.test), problem.bank)
    assert result.two_way > 0.65
    assert result.protocol.time_window is None
    assert result.protocol.n_channels == 272


def test_pooled_subjects_share_stimuli_as_positives() -> None:
    pooled = tiny_problem(subjects=2)
    decoder = UBP(**QUICK).fit(pooled.train, pooled.bank, progress=False)
    assert len(decoder._state["level"]) == 240
    assert decoder._shapes["subjects"] == ["01", "02"]
    result = decoder.evaluate(pooled.test, pooled.bank)
    assert result.protocol.split_rule == "pooled subjects"
    assert len(result.table) == 40
    assert result.protocol.gallery_size == 20


# ------------------------------------------------------------------ evaluation
def test_protocol_says_how_the_number_came_about(problem: TinyProblem, ubp: UBP) -> None:
    held = HeldOut(problem.test)
    result = ubp.evaluate(held, problem.bank)
    again = ubp.evaluate(held, problem.bank, repetitions=2, name="UBP, two repetitions")
    protocol = result.protocol
    expected = {
        "dataset": "tiny",
        "modality": "eeg",
        "subjects": ("01",),
        "n_channels": 17,
        "sfreq": 100.0,
        "whitening": "channel z-score",
        "whitening_fitted_on": "training data",
        "train_repetitions": 2,
        "test_repetitions": 4,
        "split_rule": "intra-subject",
        "split_kind": "concept",
        "zero_shot": True,
        "n_train_trials": 240,
        "n_train_stimuli": 120,
        "n_train_concepts": 40,
        "validation": "10 % of the training concepts",
        "test_openings": 1,
        "gallery": "exact",
        "gallery_size": 20,
        "gallery_view": "fovea(k=51,g=3,peak=0.5)",
        "score": "cosine",
        "image_encoder": "tiny-0",
        "method": "ubp",
        "seeds": (0,),
        "device": "cpu",
        "precision": "fp32",
        "uses_test_labels": False,
        "train_fingerprint": problem.train.fingerprint,
        "bank": problem.bank.hash,
    }
    assert {name: getattr(protocol, name) for name in expected} == expected
    assert protocol.time_window == pytest.approx((0, 0.79))
    assert -1 <= (protocol.nearest_training_cosine or 9) <= 1
    assert again.protocol.test_openings == 2
    assert again.protocol.test_repetitions == 2
    assert (result.name, again.name) == ("ubp", "UBP, two repetitions")
    history = result.tables["history"]
    assert history["method"].eq("ubp").all()
    assert history.loc[history["selected"], "epoch"].tolist() == [ubp.selected_epoch_]
    assert result.config["params"]["lr"] == 1e-3
    assert 0 < result.timings["evaluate"] < protocol.wall_seconds  # type: ignore[operator]


def test_larger_galleries_and_missing_answers(problem: TinyProblem, ubp: UBP) -> None:
    result = ubp.evaluate(problem.test, problem.bank, ids=problem.bank.ids)
    assert result.protocol.gallery_size == len(problem.bank)
    with pytest.raises(DataError):
        ubp.evaluate(problem.test, problem.bank, ids=problem.bank.ids[:5])


@pytest.mark.parametrize("method", ["ridge", "ubp"])
def test_names_in_the_same_space_may_be_the_gallery(
    problem: TinyProblem, ubp: UBP, method: str
) -> None:
    decoder: Any = ubp
    if method == "ridge":
        decoder = Ridge().fit(problem.train, problem.bank)
    ids = list(dict.fromkeys(problem.test.trials["stimulus"].astype(str)))
    vectors = problem.bank.vectors(decoder.gallery_view_, decoder.layer_, ids)
    origin = dict(problem.bank.provenance)
    names = FeatureBank.from_arrays(ids, {"text": vectors}, provenance=origin)
    by_name = decoder.evaluate(problem.test, names)
    by_picture = decoder.evaluate(problem.test, problem.bank)
    assert by_name.top1 == by_picture.top1
    assert by_name.protocol.uses_names
    assert not by_picture.protocol.uses_names
    for width in (vectors.shape[1], 7):
        other = FeatureBank.from_arrays(
            ids, {"text": vectors[:, :width]}, provenance={"encoder": {"id": "use"}}
        )
        with pytest.raises(SpaceMismatchError, match="TextBridge"):
            decoder.evaluate(problem.test, other)


@pytest.mark.parametrize("repetitions", ["some", 0])
def test_numbers_of_repetitions_are_checked(
    problem: TinyProblem, ubp: UBP, repetitions: Any
) -> None:
    with pytest.raises(DataError, match="no number of repetitions"):
        ubp.evaluate(problem.test, problem.bank, repetitions=repetitions)


def test_classification_may_know_its_classes(problem: TinyProblem, ubp: UBP) -> None:
    known = problem.train.with_trials(problem.train.trials.assign(split="test"))
    held = HeldOut(known)
    with pytest.raises(LeakError, match="test stimuli are in the training data"):
        ubp.evaluate(held, problem.bank)
    assert held.opened == 0  # refused before anyone looked
    with pytest.raises(LeakError, match="signals of 240 of 240 test trials"):
        ubp.evaluate(known, problem.bank, zero_shot=False)  # the very trials of training
    noise = np.random.default_rng(0).normal(size=known.shape).astype(np.float32)
    again = known.with_signals(known.signals + noise)
    result = ubp.evaluate(again, problem.bank, zero_shot=False)
    assert result.protocol.zero_shot is False
    assert result.protocol.split_kind == "trial"


# ----------------------------------------------------------------------- files
def test_saved_decoders_carry_everything(problem: TinyProblem, ubp: UBP, tmp_path: Path) -> None:
    folder = ubp.save_pretrained(tmp_path / "model")
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
        "manifest.json",
    }
    loaded = Decoder.from_pretrained(folder)
    assert type(loaded) is UBP
    assert loaded.get_params() == ubp.get_params()
    assert loaded.history_.equals(ubp.history_)
    assert loaded.channel_names_ == ubp.channel_names_
    queries = problem.test.average()
    assert np.array_equal(loaded.embed(queries).vectors, ubp.embed(queries).vectors)
    ours, theirs = (d.evaluate(problem.test, problem.bank) for d in (ubp, loaded))
    assert ours.table.equals(theirs.table)
    differ = ours.protocol.differences(theirs.protocol, essential=False)
    assert set(differ) <= {"wall_seconds", "date", "test_openings"}
    card = (folder / "README.md").read_text()
    for fact in ("ubp", "240 of 120 stimuli", "17 x 80", problem.train.fingerprint, "Limits"):
        assert fact in card
    ubp.save_pretrained(folder)  # an older one of ours is replaced


def test_wrong_or_damaged_folders_are_refused(ubp: UBP, tmp_path: Path) -> None:
    folder = ubp.save_pretrained(tmp_path / "model")
    with pytest.raises(ArtefactError, match="of another class"):
        NICE.from_pretrained(folder)
    data = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(data.replace(b'"ubp"', b'"nic"'))
    with pytest.raises(ArtefactError, match=r"config\.json"):
        UBP.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtefactError):
        UBP.from_pretrained(folder)


def test_config_is_plain_json(ubp: UBP, tmp_path: Path) -> None:
    config = json.loads((ubp.save_pretrained(tmp_path / "m") / "config.json").read_text())
    assert config["method"] == "ubp"
    assert config["params"]["views"] == ["fovea"]
    assert config["fitted"]["space_"] == ubp.space_


# ---------------------------------------------------------------- new methods
@dataclass(eq=False, repr=False, kw_only=True)
class LeastSquares(LinearDecoder):
    """The shortest linear method: ridge with one fixed penalty."""

    def _solve(self, features: Any, targets: Any, *, progress: bool) -> tuple[Any, Any]:
        mean_x, mean_y = features.mean(0), targets.mean(0)
        x, y = features - mean_x, targets - mean_y
        coef = x.T @ np.linalg.solve(x @ x.T + 1e3 * np.eye(len(x)), y)
        return coef, mean_y - mean_x @ coef


@dataclass(eq=False, repr=False, kw_only=True)
class TwoHeads(ContrastiveDecoder):
    """A method with everything: two heads, an image projector, two targets, augmentation."""

    encoder: Any = "eegproject"
    views: Any = ("original", "gaussian")

    def _targets(self, bank: FeatureBank, ids: Any) -> dict[str, Any]:
        return {
            "image": bank.stack(self.views_, None, ids),
            "text": bank.stack(["gaussian"], None, ids),
        }

    def _build(self, shapes: Any) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                "encoder": self._make_encoder(shapes, 16),
                "text": self._make_encoder(shapes, shapes.widths["text"], "text"),
                "project": self._named("project", lambda: nn.Linear(shapes.widths["image"], 16)),
                "objective": self._make_objective(),
            }
        )

    def _pick_views(self, index: torch.Tensor) -> dict[str, Any]:
        return {"image": None, "text": 0}

    def _augment(self, brain: torch.Tensor) -> torch.Tensor:
        return brain + 0.01 * torch.randn_like(brain)

    def _forward(self, brain: torch.Tensor, subject: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image": self._encode(brain), "text": self._encode(brain, "text")}

    def _project(self, targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**targets, "image": self.modules_["project"](targets["image"])}

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        objective = self.modules_["objective"]
        assert targets["image"].shape == (2, len(index), 24)
        image = self._project(targets)["image"].mean(0)
        loss: torch.Tensor = objective(z["image"], image) + objective(z["text"], targets["text"])
        return loss

    def _vector(self, z: Any) -> torch.Tensor:
        vector: torch.Tensor = z["image"]
        return vector


def test_a_linear_method_is_one_function(problem: TinyProblem, tmp_path: Path) -> None:
    decoder = LeastSquares().fit(problem.train, problem.bank, progress=False)
    assert decoder.evaluate(problem.test, problem.bank).two_way > 0.7
    loaded = LeastSquares.from_pretrained(decoder.save_pretrained(tmp_path / "m"))
    assert np.array_equal(loaded.coef_, decoder.coef_)
    with pytest.raises(ArtefactError, match="unknown class"):
        Decoder.from_pretrained(tmp_path / "m")


def test_hooks_suffice_for_heads_projectors_and_augmentation(
    problem: TinyProblem, tmp_path: Path
) -> None:
    decoder = TwoHeads(**{**QUICK, "epochs": 12, "lr": 3e-3})
    decoder.fit(problem.train, problem.bank, progress=False)
    result = decoder.evaluate(problem.test, problem.bank)
    assert result.two_way > 0.7
    loaded = TwoHeads.from_pretrained(decoder.save_pretrained(tmp_path / "m"))
    queries = problem.test.average()
    ours, theirs = (d.similarity(queries, problem.bank).matrix for d in (decoder, loaded))
    assert np.array_equal(ours, theirs)


def test_bare_contracts_say_what_is_missing(problem: TinyProblem) -> None:
    with pytest.raises(TypeError, match="does not say how it is solved"):
        LinearDecoder().fit(problem.train, problem.bank)
    with pytest.raises(TypeError, match="does not say how it learns"):
        Decoder().fit(problem.train, problem.bank)


# ----------------------------------------------------------------------- views
def test_views_are_resolved_as_the_bank_names_them() -> None:
    available = ["original", "fovea(k=45,g=3,peak=0.5)", "fovea(k=51,g=3,peak=0.5)",
                 "fovea(k=57,g=3,peak=0.5)", "own"]  # fmt: skip
    names, middle = resolve_views("fovea", available)
    assert names == available[1:4]
    assert middle == available[2]
    assert resolve_views(["own"], available) == (["own"], "own")
    assert resolve_views(["fovea(k=45)"], available)[1] == available[1]
    with pytest.raises(DataError, match="no vectors of the views text"):
        resolve_views(["text"], available)
    with pytest.raises(DataError, match="at least one view"):
        resolve_views([], available)

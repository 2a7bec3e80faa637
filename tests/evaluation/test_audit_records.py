"""The audit of recordings and decoders: planted leaks by provenance, clean decoders, guards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from phosphene.data.heldout import HeldOut
from phosphene.data.preprocess.averaging import BlockAverage
from phosphene.data.preprocess.selection import VoxelSelect
from phosphene.data.preprocess.standardise import Standardise
from phosphene.data.preprocess.voxels import DetrendZScore
from phosphene.data.recording import Recording
from phosphene.data.splits import Split, mark, split_concepts
from phosphene.errors import DataError, LeakError
from phosphene.evaluation.audit import Audit, audit, audit_data
from phosphene.evaluation.protocol import Protocol
from phosphene.evaluation.similarity import Similarity
from phosphene.methods.nice import NICE
from phosphene.methods.ridge import Ridge
from phosphene.methods.ubp import UBP
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing import tiny_bank, tiny_recording
from phosphene.testing._data import TinyProblem

SHORT: dict[str, Any] = {
    "encoder": "mlp", "encoder_params": {"width": 16}, "epochs": 2, "device": "cpu",
    "precision": "fp32",
}  # fmt: skip


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    recording = tiny_recording(channels=6, times=10)
    return TinyProblem(recording.select(split="train"), recording.select(split="test"), tiny_bank())


@pytest.fixture(scope="module")
def ridge(problem: TinyProblem) -> Ridge:
    return Ridge().fit(problem.train, problem.bank)


def relabelled(recording: Recording, **columns: Any) -> Recording:
    trials = recording.trials.drop(columns="repetition")
    return recording.with_trials(trials.assign(**columns))


def failed(found: Audit) -> set[str]:
    return {verdict.check for verdict in found.failed}


def warned(found: Audit) -> set[str]:
    return {verdict.check for verdict in found if verdict.verdict == "warn"}


def unmarked(recording: Recording) -> Recording:
    return recording.with_trials(recording.trials.assign(split=""))


# ------------------------------------------------------------------ what was shown
def test_clean_data_pass(problem: TinyProblem) -> None:
    found = audit_data(problem.train, HeldOut(problem.test), problem.bank)
    assert {verdict.verdict for verdict in found} == {"pass"}
    assert {verdict.found_by for verdict in found} == {"provenance"}


def test_test_concepts_in_training(problem: TinyProblem) -> None:
    known = problem.train.trials["concept"].iloc[0]
    test = relabelled(problem.test, concept=known)
    found = audit_data(problem.train, test, problem.bank)
    assert failed(found) == {"test concepts in training"}
    assert found["test concepts in training"].numbers["shared"] == 1
    assert audit_data(problem.train, test, problem.bank, zero_shot=False).passed


def test_test_stimuli_in_training(problem: TinyProblem) -> None:
    seen = problem.train.trials["stimulus"].iloc[0]
    test = relabelled(problem.test.select([0, 1, 2, 3]), stimulus=seen, concept="new")
    assert failed(audit_data(problem.train, test, problem.bank)) == {"test stimuli in training"}


def copied_bank(problem: TinyProblem) -> tuple[FeatureBank, str, str]:
    """A bank in which a test picture has the bytes and the vector of a training picture."""
    bank = problem.bank
    seen, tested = problem.train.stimuli[0], problem.test.stimuli[0]
    hashes, vectors = bank.stimuli["sha256"].copy(), np.array(bank.vectors("original"))
    hashes[tested] = hashes[seen]
    vectors[bank.resolve([tested])] = vectors[bank.resolve([seen])]
    made = FeatureBank.from_arrays(
        bank.ids, {"original": vectors}, concepts=bank.stimuli["concept"].tolist(),
        hashes=hashes.tolist(), provenance=bank.provenance, layer=bank.default_layer,
    )  # fmt: skip
    return made, seen, tested


def test_one_picture_under_two_names(problem: TinyProblem) -> None:
    bank, seen, tested = copied_bank(problem)
    found = audit_data(problem.train, problem.test, bank)
    assert failed(found) == {"test pictures in training"}
    assert f"{tested} = {seen}" in found["test pictures in training"].evidence
    # The vectors say so too, for pictures that were saved anew.
    assert warned(found) == {"nearest training picture"}
    assert tested in found["nearest training picture"].evidence
    without = FeatureBank.from_arrays(bank.ids, {"original": bank.vectors("original")})
    unknown = audit_data(problem.train, problem.test, without)
    assert unknown["test pictures in training"].verdict == "not checkable"


# ------------------------------------------------------------------ what was recorded
def test_a_recording_that_was_copied_into_the_test(problem: TinyProblem) -> None:
    """The same signals under another stimulus, session and name."""
    signals = np.array(problem.test.signals)
    signals[:8] = problem.train.signals[:8]
    test = problem.test.with_signals(signals)
    found = audit_data(problem.train, test, problem.bank)
    assert failed(found) == {"copied recordings"}
    assert found["copied recordings"].numbers["shared"] == 8


def test_a_recording_that_is_there_twice_in_training(problem: TinyProblem) -> None:
    twice = Recording.concat([problem.train, relabelled(problem.train, session="2")])
    found = audit_data(twice, problem.test, problem.bank)
    assert failed(found) == {"copied recordings"}
    assert "01/2/1 = 01/1/1 (240 trials)" in found["copied recordings"].evidence
    with pytest.raises(DataError, match=r"(?s)same signals as another.*01/2/1 = 01/1/1 \(240"):
        Ridge().fit(twice, problem.bank)


def test_evaluation_refuses_training_signals_under_other_names(
    problem: TinyProblem, ridge: Ridge
) -> None:
    signals = np.array(problem.test.signals)
    signals[3] = problem.train.signals[100]
    with pytest.raises(LeakError, match="signals of 1 of 80 test trials"):
        ridge.evaluate(problem.test.with_signals(signals), problem.bank)


def test_saved_decoders_still_know_their_training_signals(
    problem: TinyProblem, ridge: Ridge, tmp_path: Any
) -> None:
    again = Ridge.from_pretrained(ridge.save_pretrained(tmp_path / "ridge"))
    signals = np.array(problem.test.signals)
    signals[3] = problem.train.signals[100]
    with pytest.raises(LeakError, match="signals of 1 of 80"):
        again.evaluate(problem.test.with_signals(signals), problem.bank)
    assert again.evaluate(problem.test, problem.bank).top1 > 0.5


def test_splits_find_copied_signals(problem: TinyProblem) -> None:
    both = Recording.concat([problem.train.select([0, 1]), problem.test.select([0, 1])])
    split = Split([0, 1], [], [2, 3], "concept")  # type: ignore[arg-type]
    split.check(both, signals=True)
    signals = np.array(both.signals)
    signals[3] = signals[0]
    copied = both.with_signals(signals)
    split.check(copied)  # the names are in order
    with pytest.raises(LeakError, match="1 trials in test have the signals of trials in train"):
        split.check(copied, signals=True)


# ------------------------------------------------------------------ what was fitted
def test_a_scaler_fitted_before_the_split(problem: TinyProblem) -> None:
    whole = unmarked(Recording.concat([problem.train, problem.test]))
    scaled = Standardise(by=()).fit_transform(whole)
    train, test = split_concepts(scaled, test=problem.test.concepts)
    found = audit_data(train, test, problem.bank)
    assert failed(found) == {"fitted steps"}
    assert found["fitted steps"].numbers == {"seen": 80, "looked_up": 80}
    with pytest.raises(LeakError, match=r"(?s)standardise was fitted on test.*80 of 80"):
        Ridge().fit(train, problem.bank).evaluate(test, problem.bank)


def test_a_scaler_fitted_on_training_trials(problem: TinyProblem) -> None:
    step = Standardise(by=()).fit(problem.train)
    train, test = step.transform(problem.train), step.transform(problem.test)
    found = audit_data(train, test, problem.bank)
    assert found.passed
    assert "standardise (0 of 80 by trial)" in found["fitted steps"].evidence
    assert Ridge().fit(train, problem.bank).evaluate(test, problem.bank).top1 > 0.5
    # Averages do not say their trial, but still their stimulus.
    averaged = audit_data(train.average(), test.average(), problem.bank)
    assert "standardise (0 of 20 by stimulus)" in averaged["fitted steps"].evidence


def fmri(seed: int = 0, runs: int = 4) -> Recording:
    """Eight stimuli once per run, 12 voxels: classification with the same classes in every run."""
    rng = np.random.default_rng(seed)
    names = [f"class{i}" for i in range(8)]
    table = {"stimulus": names * runs, "run": np.repeat(np.arange(runs), 8)}
    signal = np.tile(rng.normal(size=(8, 12)), (runs, 1))
    return Recording.from_arrays(signal + rng.normal(size=signal.shape), table, modality="fmri")


def by_run(recording: Recording) -> tuple[Recording, Recording]:
    test = (recording.trials["run"] == "3").to_numpy()
    return mark(recording.select(~test), "train"), mark(recording.select(test), "test")


def test_voxels_chosen_on_all_data() -> None:
    recording = fmri()
    leaky = audit_data(*by_run(VoxelSelect(k=5).fit_transform(recording)), zero_shot=False)
    assert failed(leaky) == {"fitted steps"}
    assert "voxel_select was fitted on 8 of 8" in leaky["fitted steps"].evidence
    train, test = by_run(recording)
    step = VoxelSelect(k=5).fit(train)
    assert audit_data(step.transform(train), step.transform(test), zero_shot=False).passed


def test_steps_of_other_libraries_say_how_many_trials_they_saw(
    problem: TinyProblem, ridge: Ridge
) -> None:
    flat = problem.train.signals.reshape(240, -1)
    both = np.concatenate([flat, problem.test.signals.reshape(80, -1)])
    for data, mark_ in ((flat, "pass"), (both, "fail")):
        found = audit(
            ridge, problem.test, problem.bank, train=problem.train,
            steps=[StandardScaler().fit(data)],
        )  # fmt: skip
        assert found["fitted steps"].verdict == mark_
    unknown = audit(ridge, problem.test, problem.bank, train=problem.train, steps=[object()])
    assert unknown["fitted steps"].verdict == "not checkable"


def test_a_step_without_a_record_is_not_checkable(problem: TinyProblem) -> None:
    test = problem.test.with_history({"op": "whitening", "fitted_on": "0" * 64})
    found = audit_data(problem.train, test, problem.bank)
    assert found["fitted steps"].verdict == "not checkable"
    known = problem.test.with_history({"op": "read", "whitening": "training and test trials"})
    assert audit_data(problem.train, known)["fitted steps"].verdict == "warn"


def test_each_run_by_itself_is_no_leak() -> None:
    rng = np.random.default_rng(0)
    n = 4 * 40
    table = {
        "stimulus": np.tile(np.repeat([f"class{i}" for i in range(8)], 5), 4),
        "run": np.repeat(np.arange(4), 40),
        "volume": np.tile(np.arange(40), 4),
        "onset": np.tile(np.arange(40) * 2.5, 4),
    }
    volumes = Recording.from_arrays(rng.normal(size=(n, 12)), table, modality="fmri")
    volumes = DetrendZScore().transform(volumes)
    assert audit_data(*by_run(volumes), zero_shot=False).passed
    assert audit_data(*by_run(BlockAverage(drop=()).transform(volumes)), zero_shot=False).passed
    random = rng.permutation(n) < 120
    found = audit_data(volumes.select(random), volumes.select(~random), zero_shot=False)
    assert failed(found) == {"runs on both sides"}
    assert "neighbouring volumes" in found["runs on both sides"].evidence


# ------------------------------------------------------------------ design
def test_session_confounded_with_class() -> None:
    rng = np.random.default_rng(0)
    table = {"stimulus": np.repeat(["a", "b", "c"], 10), "session": np.repeat([1, 2, 3], 10)}
    recording = Recording.from_arrays(rng.normal(size=(30, 4)), table, modality="fmri")
    even = np.arange(30) % 2 == 0
    found = audit_data(recording.select(even), recording.select(~even), zero_shot=False)
    assert failed(found) == {"class and block"}
    assert "3 classes, 3 sessions" in found["class and block"].evidence
    assert warned(found) == {"runs on both sides"}


# ------------------------------------------------------------------ decoders
class Oracle(Ridge):
    """Raises the score of the candidate that the trial table names."""

    def similarity(self, recording: Any, gallery: FeatureBank, *, ids: Any = None) -> Similarity:
        found = super().similarity(recording, gallery, ids=ids)
        true = [list(found.gallery_ids).index(s) if s in found.gallery_ids else 0
                for s in found.queries["stimulus"]]  # fmt: skip
        matrix = np.array(found.matrix)
        matrix[np.arange(len(true)), true] += 0.5
        return replace(found, matrix=matrix)


class Batchwise(Ridge):
    """Subtracts the mean of the batch from every feature."""

    def _features(self, recording: Recording) -> Any:
        features = super()._features(recording)
        return features - features.mean(axis=0)


def test_an_oracle_is_found_by_behaviour(problem: TinyProblem) -> None:
    oracle = Oracle().fit(problem.train, problem.bank)
    found = audit(oracle, problem.test, problem.bank)
    assert {"labels replaced", "shuffled responses"} <= failed(found)
    assert found["shuffled responses"].numbers["two_way"] > 0.8


def test_batch_statistics_are_found_by_behaviour(problem: TinyProblem) -> None:
    found = audit(Batchwise().fit(problem.train, problem.bank), problem.test, problem.bank)
    assert failed(found) == {"one query alone"}


@pytest.mark.parametrize(
    ("protocol", "check", "mark_"),
    [
        (Protocol(selection="test"), "selection", "fail"),
        (Protocol(uses_test_labels=True), "test labels in the score", "fail"),
        (Protocol(transductive=("hungarian",)), "transductive steps", "warn"),
        (Protocol(test_openings=3), "test openings", "warn"),
        (Protocol(), "selection", "not checkable"),
    ],
)
def test_protocols_are_read(
    problem: TinyProblem, ridge: Ridge, protocol: Protocol, check: str, mark_: str
) -> None:
    found = audit(ridge, problem.test, problem.bank, protocol=protocol)
    assert found[check].verdict == mark_
    assert found[check].found_by == "provenance"
    assert found.passed is (mark_ != "fail")


def test_handles_count_the_openings_before_the_audit(problem: TinyProblem, ridge: Ridge) -> None:
    held = HeldOut(problem.test)
    ridge.evaluate(held, problem.bank)
    assert audit(ridge, held, problem.bank)["test openings"].verdict == "pass"
    assert held.purposes[-1] == "audit"
    assert audit(ridge, held, problem.bank)["test openings"].numbers["openings"] == 2


@pytest.mark.parametrize(
    ("method", "subjects"), [("ridge", 1), ("ridge", 2), ("nice", 1), ("ubp", 2)]
)
def test_clean_decoders_are_not_accused(method: str, subjects: int) -> None:
    recording = tiny_recording(subjects=subjects, channels=6, times=20)
    train, test = recording.select(split="train"), recording.select(split="test")
    bank = tiny_bank()
    make: Any = {"ridge": Ridge, "nice": NICE, "ubp": UBP}[method]
    decoder = make(**({} if method == "ridge" else SHORT)).fit(train, bank, progress=False)
    held = HeldOut(test)
    result = decoder.evaluate(held, bank)
    found = audit(
        decoder, held, bank, train=train, protocol=result.protocol,
        fit=(lambda data: make().fit(data, bank)) if method == "ridge" else None,
    )  # fmt: skip
    assert {verdict.verdict for verdict in found} == {"pass"}
    assert ("refit on shuffled labels" in set(found.to_table()["check"])) == (method == "ridge")


def test_without_training_trials_a_decoder_says_what_it_remembers(
    problem: TinyProblem, ridge: Ridge
) -> None:
    signals = np.array(problem.test.signals)
    signals[3] = problem.train.signals[100]
    found = audit(ridge, problem.test.with_signals(signals), problem.bank)
    assert failed(found) == {"copied recordings"}
    assert found["test concepts in training"].verdict == "pass"
    known = relabelled(problem.test, concept=problem.train.concepts[0])
    assert failed(audit(ridge, known, problem.bank)) == {"test concepts in training"}
    bank, seen, tested = copied_bank(problem)
    found = audit(ridge, problem.test, bank)
    assert failed(found) == {"test pictures in training"}
    assert f"{tested} = {seen}" in found["test pictures in training"].evidence


def test_a_function_is_not_handed_recordings(problem: TinyProblem) -> None:
    with pytest.raises(DataError, match="does not score recordings"):
        audit(lambda q, g: q @ g.T, problem.test, problem.bank)

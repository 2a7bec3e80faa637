"""Rankings of single trials with calibrated confidence, for decoders of all kinds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene.data.recording import Recording
from phosphene.data.splits import HeldOut, hold_out_concepts
from phosphene.errors import DataError, LeakError, NotFittedError, SpaceMismatchError
from phosphene.evaluation.calibration import (
    calibration_error_by_chance,
    expected_calibration_error,
)
from phosphene.evaluation.similarity import Similarity
from phosphene.methods.bvsa import BVSA
from phosphene.methods.nice import NICE
from phosphene.methods.ridge import Ridge
from phosphene.methods.samga import SAMGA
from phosphene.stimuli.bank import FeatureBank
from phosphene.testing._data import TinyProblem, tiny_bank, tiny_problem

QUICK: dict[str, Any] = {
    "batch_size": 64,
    "lr": 3e-3,
    "device": "cpu",
    "precision": "fp32",
    "encoder": "eegproject",
}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem(snr=0.25)


@pytest.fixture(scope="module")
def nice(problem: TinyProblem) -> NICE:
    """Holds a third of the concepts out, which calibrate it."""
    made = NICE(epochs=8, validation_fraction=0.3, **QUICK)
    return made.fit(problem.train, problem.bank, progress=False)


def halves(problem: TinyProblem) -> tuple[Recording, Recording]:
    held = hold_out_concepts(problem.train.trials, 0.4, 0)
    return problem.train.select(~held), problem.train.select(held)


@pytest.fixture(scope="module")
def ridge(problem: TinyProblem) -> Ridge:
    fitted, held = halves(problem)
    return Ridge().fit(fitted, problem.bank, progress=False).calibrate(held, problem.bank)


@pytest.fixture(params=["nice", "ridge"])
def decoder(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


# ---------------------------------------------------------------------------- rankings
def test_a_ranking_is_that_of_the_scores(decoder: Any, problem: TinyProblem) -> None:
    ids = problem.test.stimuli
    found = decoder.rank(problem.test, problem.bank, ids=ids, top=None)
    scores = decoder.similarity(problem.test, problem.bank, ids=ids)
    assert found.table()["stimulus"].tolist() == scores.top(20)["item"].tolist()
    np.testing.assert_allclose(found.confidence.sum(axis=1), 1)
    assert (np.diff(found.confidence, axis=1) <= 0).all()
    assert found.correct(problem.test.trials["stimulus"]).mean() > 0.15
    assert found.n_gallery == 20
    assert found.table()["concept"].str.startswith("thing").all()
    turned = decoder.rank(problem.test, problem.bank, ids=ids[::-1], top=None)
    assert (turned.ids == found.ids).all()


def test_arrays_epochs_and_recordings_give_the_same(decoder: Any, problem: TinyProblem) -> None:
    test = problem.test.select(np.arange(3))
    ids = problem.test.stimuli
    whole = decoder.rank(test, problem.bank, ids=ids)
    signals = np.asarray(test.signals)
    epochs = test.to_epochs()
    unlabelled = epochs.copy()
    unlabelled.metadata = None
    turned = epochs.copy().reorder_channels(list(reversed(epochs.ch_names)))
    for same in (signals, torch.from_numpy(signals), epochs, unlabelled, turned):
        found = decoder.rank(same, problem.bank, ids=ids)
        assert (found.ids == whole.ids).all()
        np.testing.assert_allclose(found.confidence, whole.confidence, rtol=1e-4)
    single = decoder.rank(signals[1], problem.bank, ids=ids)
    assert len(single) == 1
    assert single.ids.tolist() == whole.ids[1:2].tolist()


def test_confidence_is_right_on_new_concepts(problem: TinyProblem) -> None:
    """Ridge on several draws: close to the error of chance, and closer than without a fit."""
    confidence, correct, naive = [], [], []
    for seed in range(6):
        one = tiny_problem(seed, snr=0.18)
        fitted, held = halves(one)
        decoder = Ridge().fit(fitted, one.bank, progress=False).calibrate(held, one.bank)
        ids = one.test.stimuli
        found = decoder.rank(one.test, one.bank, ids=ids)
        confidence.append(found.confidence[:, 0])
        correct.append(found.correct(one.test.trials["stimulus"]))
        plain = np.exp(decoder.similarity(one.test, one.bank, ids=ids).matrix)
        naive.append(plain.max(axis=1) / plain.sum(axis=1))
    given, right = np.concatenate(confidence), np.concatenate(correct)
    assert 0.25 < right.mean() < 0.85
    assert abs(given.mean() - right.mean()) < 0.08
    error = expected_calibration_error(given, right, bins=5)
    assert error < 3 * calibration_error_by_chance(given, bins=5)
    assert error < 0.3 * expected_calibration_error(np.concatenate(naive), right, bins=5)
    # And it tells right answers from wrong ones.
    assert given[right].mean() > given[~right].mean() + 0.1


def test_averages_are_given_more_confidence(ridge: Ridge, problem: TinyProblem) -> None:
    ids = problem.test.stimuli
    averaged = problem.test.average(max_repetitions=2)
    found = ridge.rank(averaged, problem.bank, ids=ids)
    as_single = ridge.rank(np.asarray(averaged.signals), problem.bank, ids=ids)
    as_pairs = ridge.rank(np.asarray(averaged.signals), problem.bank, ids=ids, repetitions=2)
    assert (found.temperature == as_pairs.temperature).all()
    assert (found.temperature != as_single.temperature).all()
    assert ridge.calibration_.repetitions == [1, 2]
    assert not any("repetitions" in note for note in found.notes)
    four = ridge.rank(problem.test.average(), problem.bank, ids=ids)
    assert any("4 repetitions" in note for note in four.notes)


def test_temperatures_are_those_of_averages(ridge: Ridge, problem: TinyProblem) -> None:
    """From the scores of averages; what was averaged before counts as so many repetitions."""
    fitted, held = halves(problem)
    found = ridge.calibration_
    size = found.candidates
    wanted = {}
    for level in found.repetitions:
        queries = held.average(max_repetitions=level) if level > 1 else held
        scores = ridge.similarity(queries, problem.bank, ids=sorted(held.stimuli))
        wanted[level] = _literal_inverse(scores, size)
        assert found.inverse_temperature(size, level) == pytest.approx(wanted[level], rel=1e-3)
    assert wanted[2] / wanted[1] != pytest.approx(1, abs=0.02)
    averaged = Ridge().fit(fitted, problem.bank, progress=False)
    averaged.calibrate(held.average(), problem.bank)
    assert averaged.calibration_.repetitions == [2]
    assert averaged.calibration_.inverse_temperature(size) == pytest.approx(wanted[2], rel=1e-3)


def test_a_gallery_with_several_pictures_of_a_concept_has_its_own_temperature(
    ridge: Ridge, problem: TinyProblem
) -> None:
    calibration = ridge.calibration_
    everything = ridge.rank(problem.test, problem.bank)  # 40 concepts come three times
    once = ridge.rank(problem.test, problem.bank, ids=problem.test.stimuli)
    for found, repeated in ((everything, True), (once, False)):
        wanted = calibration.temperature(found.n_gallery, repeated=repeated)
        assert found.temperature == pytest.approx(wanted)
    assert calibration.inverse["distinct"] != calibration.inverse["repeated"]
    assert any("140 candidates" in note for note in everything.notes)


def test_answers_are_withheld(decoder: Any, problem: TinyProblem) -> None:
    ids = problem.test.stimuli
    plain = decoder.rank(problem.test, problem.bank, ids=ids)
    threshold = float(np.median(plain.confidence[:, 0]))
    found = decoder.rank(problem.test, problem.bank, ids=ids, abstain_below=threshold)
    assert (found.withheld == (plain.confidence[:, 0] < threshold)).all()
    assert 0.3 < found.withheld.mean() < 0.7
    right = plain.correct(problem.test.trials["stimulus"])
    assert right[~found.withheld].mean() > right.mean()


# --------------------------------------------------------------------------- calibration
def test_fit_calibrates_on_the_concepts_that_it_held_out(nice: NICE, problem: TinyProblem) -> None:
    held = hold_out_concepts(problem.train.trials, 0.3, nice.random_state)
    alone = problem.train.select(held)
    found = nice.calibration_
    assert (found.concepts, found.queries) == (12, alone.n_trials)
    assert found.candidates == len(alone.stimuli) - 2
    assert "held out" in found.source
    # The temperature of the whole gallery, from the scores themselves.
    scores = nice.similarity(alone, problem.bank, ids=sorted(alone.stimuli))
    wanted = _literal_inverse(scores, found.candidates)
    assert found.inverse_temperature(found.candidates) == pytest.approx(wanted, rel=1e-3)


def _literal_inverse(scores: Similarity, size: int) -> float:
    """Minimise the likelihood with Platt's correction, each query against other concepts."""
    from scipy.optimize import minimize_scalar

    concepts = np.array([name.split("/")[0] for name in scores.gallery_ids])
    rows = []
    for row, true in zip(scores.matrix.astype(float), scores.true_columns, strict=True):
        rows.append(np.r_[row[true], row[concepts != concepts[true]]])
    table = np.array(rows)
    assert table.shape[1] == size
    smoothing = 1 / (len(table) + 2)
    target = (1 - smoothing) * table[:, 0] + smoothing * table.mean(axis=1)

    def loss(a: float) -> float:
        return float((np.log(np.exp(a * table).sum(axis=1)) - a * target).mean())

    return float(minimize_scalar(loss, bounds=(0, 200), method="bounded").x)


def test_without_calibration_there_is_no_confidence(problem: TinyProblem) -> None:
    fitted, _ = halves(problem)
    plain = Ridge().fit(fitted, problem.bank, progress=False)
    fixed = NICE(epochs=1, selection="fixed_epoch", **QUICK)
    fixed.fit(problem.train, problem.bank, progress=False)
    for decoder in (plain, fixed):
        assert decoder.calibration_ is None
        with pytest.raises(NotFittedError, match=r"no confidence(.|\n)*decoder.calibrate"):
            decoder.rank(problem.test, problem.bank)
        with pytest.raises(NotFittedError, match="no confidence"):
            decoder.ranker(problem.bank)
        found = decoder.rank(problem.test, problem.bank, confidence=False)
        assert found.confidence is None
        assert found.temperature is None
        assert found.table()["confidence"].isna().all()
        with pytest.raises(DataError, match="withheld by their confidence"):
            decoder.rank(problem.test, problem.bank, confidence=False, abstain_below=0.3)


def test_calibration_refuses_what_was_fitted_on_and_what_is_tested(problem: TinyProblem) -> None:
    fitted, held = halves(problem)
    decoder = Ridge().fit(fitted, problem.bank, progress=False)
    with pytest.raises(LeakError, match="fitted on 72 stimuli of the calibration"):
        decoder.calibrate(problem.train, problem.bank)
    with pytest.raises(LeakError, match="test"):
        decoder.calibrate(problem.test, problem.bank)
    with pytest.raises(LeakError, match="held-out data"):
        decoder.calibrate(HeldOut(problem.test), problem.bank)
    # New pictures of known concepts: for classification only.
    first = problem.train.trials["stimulus"].str.endswith("_00.png").to_numpy()
    known = Ridge().fit(problem.train.select(first), problem.bank, progress=False)
    with pytest.raises(LeakError, match="fitted on 40 concepts"):
        known.calibrate(problem.train.select(~first), problem.bank)
    known.calibrate(problem.train.select(~first), problem.bank, zero_shot=False)
    assert known.calibration_.concepts == 40
    with pytest.raises(DataError, match="several concepts"):
        decoder.calibrate(held.select(concept=held.concepts[:1]), problem.bank)
    assert decoder.calibration_ is None
    with pytest.raises(NotFittedError, match="not fitted yet"):
        Ridge().calibrate(held, problem.bank)


def test_a_picture_that_was_fitted_on_under_another_name_is_refused(problem: TinyProblem) -> None:
    fitted, held = halves(problem)
    decoder = Ridge().fit(fitted, problem.bank, progress=False)
    bank = problem.bank
    hashes = bank.stimuli["sha256"].copy()
    hashes[held.stimuli[0]] = hashes[fitted.stimuli[0]]
    twin = FeatureBank.from_arrays(
        bank.ids,
        {("original", "vector"): bank.vectors("original")},
        concepts=bank.stimuli["concept"].tolist(),
        hashes=hashes.tolist(),
        provenance={"encoder": {"id": "tiny-0"}},
        layer="vector",
    )
    with pytest.raises(
        LeakError, match=f"fitted on 1 stimuli of the calibration: {held.stimuli[0]}"
    ):
        decoder.calibrate(held, twin)


def test_a_decoder_that_diverged_is_fitted_all_the_same(problem: TinyProblem) -> None:
    @dataclass(eq=False, repr=False, kw_only=True)
    class Diverged(NICE):
        """Vectors of NaN."""

        def _vector(self, z: Any) -> torch.Tensor:
            return torch.full_like(z, torch.nan)

    made = Diverged(epochs=1, **QUICK).fit(problem.train, problem.bank, progress=False)
    assert made.calibration_ is None


def test_what_it_was_calibrated_on_counts_as_seen(problem: TinyProblem) -> None:
    fitted, held = halves(problem)
    decoder = Ridge().fit(fitted, problem.bank, progress=False)
    assert decoder.evaluate(held, problem.bank).two_way > 0.5
    before = decoder.similarity(problem.test, problem.bank).matrix
    decoder.calibrate(held, problem.bank)
    with pytest.raises(LeakError, match="in the training data"):
        decoder.evaluate(held, problem.bank)
    assert len(decoder.train_hashes_) == len(decoder.train_stimuli_) == 120
    assert decoder.train_concepts_ == sorted(problem.train.concepts)
    first = decoder.calibration_
    decoder.calibrate(held, problem.bank)  # the same once more is no leak
    assert decoder.calibration_.inverse == first.inverse
    np.testing.assert_array_equal(before, decoder.similarity(problem.test, problem.bank).matrix)
    # To be fitted anew forgets it.
    assert decoder.fit(fitted, problem.bank, progress=False).calibration_ is None


def test_calibration_is_saved(decoder: Any, problem: TinyProblem, tmp_path: Path) -> None:
    loaded = type(decoder).from_pretrained(decoder.save_pretrained(tmp_path / "model"))
    assert loaded.calibration_ == decoder.calibration_
    first, second = (d.rank(problem.test, problem.bank, abstain_below=0.3) for d in
                     (decoder, loaded))  # fmt: skip
    np.testing.assert_array_equal(first.confidence, second.confidence)
    if isinstance(decoder, Ridge):  # what it was calibrated on is remembered too
        _, held = halves(problem)
        loaded.calibrate(held, problem.bank)


# ------------------------------------------------------------------------------- streaming
def test_a_ranker_gives_what_rank_gives(decoder: Any, problem: TinyProblem) -> None:
    ids = problem.test.stimuli
    ranker = decoder.ranker(problem.bank, ids=ids, abstain_below=0.3)
    assert ranker.prepared
    signals = np.asarray(problem.test.signals)
    whole = decoder.rank(signals, problem.bank, ids=ids, abstain_below=0.3)
    for row in (0, 7, 33):
        found = ranker(signals[row])
        assert found.ids[0].tolist() == whole.ids[row].tolist()
        np.testing.assert_allclose(found.scores[0], whole.scores[row], rtol=1e-5)
        np.testing.assert_allclose(found.confidence[0], whole.confidence[row], rtol=1e-4)
        assert found.withheld[0] == whole.withheld[row]


@pytest.mark.parametrize("name", [n for n in _registry.names("method") if n != "ridge"])
def test_every_method_is_ranked_quickly(name: str, problem: TinyProblem) -> None:
    cls = _registry.get("method", name)
    params = {k: v for k, v in QUICK.items() if k in cls().get_params()}
    decoder = cls(epochs=1, **params).fit(problem.train, problem.bank, progress=False)
    assert decoder.calibration_.candidates == 10
    ranker = decoder.ranker(problem.bank, ids=problem.test.stimuli)
    assert ranker.prepared
    whole = decoder.rank(problem.test, problem.bank, ids=problem.test.stimuli)
    assert (ranker(problem.test).ids == whole.ids).all()


def test_a_rule_of_its_own_is_not_passed_over(nice: NICE, problem: TinyProblem) -> None:
    @dataclass(eq=False, repr=False, kw_only=True)
    class Cubed(NICE):
        """Scores by the cube of the cosine."""

        def similarity(self, recording: Any, gallery: FeatureBank, *, ids: Any = None) -> Any:
            found = super().similarity(recording, gallery, ids=ids)
            return Similarity(found.matrix**3, found.queries, found.gallery_ids)

    made = Cubed(epochs=2, **QUICK).fit(problem.train, problem.bank, progress=False)
    ranker = made.ranker(problem.bank, ids=problem.test.stimuli, top=None)
    assert not ranker.prepared
    scores = made.similarity(problem.test, problem.bank, ids=problem.test.stimuli)
    np.testing.assert_array_equal(
        ranker(problem.test).scores, np.sort(scores.matrix, axis=1)[:, ::-1]
    )


def test_rules_that_read_the_answers_have_no_confidence(problem: TinyProblem) -> None:
    oracle = BVSA(epochs=1, text_modulation="oracle_row", **QUICK)
    oracle.fit(problem.train, problem.bank, progress=False)
    assert oracle.calibration_ is None


def test_trials_of_several_people_are_ranked_with_their_own_layers() -> None:
    people = tiny_problem(subjects=2)
    made = SAMGA(epochs=1, subject_layers=True, **QUICK)
    made.fit(people.train, people.bank, progress=False)
    ids = people.test.stimuli
    signals = np.asarray(people.test.select(subject="02").signals)
    known = made.rank(people.test.select(subject="02"), people.bank, ids=ids)
    assert (made.ranker(people.bank, ids=ids, subject="02")(signals).ids == known.ids).all()
    other = made.rank(signals, people.bank, ids=ids, subject="01")
    assert (other.ids != known.ids).any()
    with pytest.raises(DataError, match="no layer for subject"):
        made.rank(signals, people.bank, ids=ids)


def test_voxels_are_ranked(problem: TinyProblem) -> None:
    def voxels(recording: Recording) -> Recording:
        return Recording.from_arrays(
            np.asarray(recording.signals).mean(axis=2), recording.trials, modality="fmri"
        )

    fitted, held = map(voxels, halves(problem))
    decoder = Ridge().fit(fitted, problem.bank, progress=False).calibrate(held, problem.bank)
    pattern = np.asarray(voxels(problem.test).signals)
    ranker = decoder.ranker(problem.bank, ids=problem.test.stimuli)
    assert ranker.prepared
    assert len(ranker(pattern[0])) == 1
    assert (ranker(pattern).ids[0] == ranker(pattern[0]).ids[0]).all()


# ------------------------------------------------------------------------------ wrong input
def test_wrong_epochs_are_refused(nice: NICE, problem: TinyProblem) -> None:
    ranker = nice.ranker(problem.bank)
    epoch = np.zeros((17, 80))
    for wrong in (epoch[:16], epoch[:, :79], epoch[0], np.zeros((0, 17, 80)), epoch[None, None]):
        with pytest.raises(DataError, match="shape is not that of training"):
            ranker(wrong)
    broken = epoch.copy()
    broken[3, 5] = np.nan
    with pytest.raises(DataError, match=r"NaN or infinity in ch3$"):
        ranker(broken)
    with pytest.raises(DataError, match="no brain data"):
        ranker("epoch")
    with pytest.raises(DataError, match="repetitions counts"):
        ranker(epoch, repetitions=0)
    with pytest.raises(LeakError, match="held-out"):
        ranker(HeldOut(problem.test))


def test_wrong_galleries_and_thresholds_are_refused(nice: NICE, problem: TinyProblem) -> None:
    with pytest.raises(SpaceMismatchError):
        nice.ranker(tiny_bank(1))
    with pytest.raises(DataError, match="top counts"):
        nice.ranker(problem.bank, top=0)
    with pytest.raises(DataError, match="threshold is a confidence"):
        nice.ranker(problem.bank, abstain_below=30)
    with pytest.raises(DataError, match="more than once"):
        nice.ranker(problem.bank, ids=[problem.test.stimuli[0]] * 2)
    with pytest.raises(NotFittedError):
        NICE().rank(problem.test, problem.bank)

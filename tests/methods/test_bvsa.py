"""BVSA: levels, losses, rules, what it refuses, and what it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.data.splits import HeldOut
from phosphene.errors import DataError, DesignWarning, SpaceMismatchError, UnknownNameError
from phosphene.methods import _modulation
from phosphene.methods._inference import encode_all
from phosphene.methods._views import resolve_views
from phosphene.methods.bvsa import BVSA
from phosphene.methods.ubp import UBP
from phosphene.runs.ablation import choose_rows
from phosphene.runs.ablation_table import comparison
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.views import Fovea, bvsa_views
from phosphene.testing._data import TinyProblem, tiny_problem
from phosphene.testing._decoders import relabelled

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "lr": 1e-3,
    "device": "cpu",
    "precision": "fp32",
}
ALL = [view.name for c in (0.1, 0.3, 0.5) for view in bvsa_views(c)]
PLAIN: dict[str, Any] = {"views": ("original",), "decouple": "off", "dynamic": False}


@pytest.fixture(scope="module")
def problem() -> TinyProblem:
    return tiny_problem()


def fit(problem: TinyProblem, cls: type[BVSA] = BVSA, **params: Any) -> Any:
    return cls(**{**QUICK, **params}).fit(problem.train, problem.bank, progress=False)


def with_narrow_names(bank: FeatureBank, width: int = 10) -> FeatureBank:
    """Names in a space of their own, of another width than the pictures."""
    assert bank.text is not None
    names = bank.text.ids
    rng = np.random.default_rng(0)
    vectors = bank.text.vectors("text", ids=names) @ rng.standard_normal((24, width))
    text = FeatureBank.from_arrays(
        names,
        {"text": vectors.astype(np.float32)},
        concepts=names,
        provenance={"kind": "text", "encoder": {"id": "narrow"}},
    )
    return bank.with_text(text)


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("params", "expected"),
    [({}, "narrow"), ({**PLAIN, "text_weight": 0.0, "text_modulation": "none"}, None)],
    ids=["read", "not read"],
)
def test_the_protocol_names_the_encoder_of_the_names_that_were_read(
    problem: TinyProblem, params: dict[str, Any], expected: str | None
) -> None:
    bank = with_narrow_names(problem.bank)
    decoder = BVSA(**{**QUICK, **params}).fit(problem.train, bank, progress=False)
    protocol = decoder.evaluate(problem.test, bank).protocol
    assert protocol.text_encoder == expected
    assert protocol.image_encoder == problem.bank.provenance["encoder"]["id"]


# -------------------------------------------------------------------------------------- levels
def test_rows_are_peak_by_kernel() -> None:
    decoder = BVSA()
    decoder._state = {
        "peak": torch.tensor([-1.0, 0.0, 1.0, -0.25]),
        "kernel": torch.tensor([0.0, -1.0, 1.0, 0.0]),
    }
    picks = decoder._pick_views(torch.arange(4))
    assert picks["image"].tolist() == [1, 3, 8, 1]  # type: ignore[union-attr]
    assert picks["neighbour"].tolist() == [4, 6, 8, 4]  # type: ignore[union-attr]


def test_another_c_is_another_word_for_the_views() -> None:
    rows = choose_rows("bvsa", None, ["views=bvsa(c=.1),bvsa(c=.3)"])
    views = [resolve_views(row.params.get("views", "bvsa"), ALL)[0] for row in rows]
    peaks = [sorted({float(name.split("peak=")[1][:-1]) for name in names}) for names in views]
    assert [0.4, 0.5, 0.6] in peaks
    assert [0.2, 0.5, 0.8] in peaks
    assert [0.0, 0.5, 1.0] in peaks  # the full method


class Recorded(BVSA):
    """BVSA that keeps what went into and came out of every step, and the ends of epochs."""

    def _loss(self, z: Any, targets: dict[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        scales = [
            float(self.modules_[name].scale.detach())  # type: ignore[operator, union-attr]
            for name in ("objective", "text_objective")
            if name in self.modules_
        ]
        loss = super()._loss(z, targets, index)
        after = {name: self._state[name][index].tolist() for name in self._state}
        vectors = {name: value.detach().double().numpy() for name, value in z.items()}
        self.__dict__.setdefault("steps", []).append(
            (index.tolist(), vectors, scales, float(loss.detach()), after)
        )
        return loss

    def _on_epoch_end(self, epoch: int) -> None:
        super()._on_epoch_end(epoch)
        self.__dict__["steps"].append(None)


def cross_entropies(b: Any, y: Any, scale: float) -> float:
    """Mean of both directions, one trial after the other."""
    logits = scale * b @ y.T
    losses = []
    for i in range(len(logits)):
        for row in (logits[i], logits[:, i]):
            losses.append(np.log(np.exp(row - row.max()).sum()) + row.max() - row[i])
    return float(np.mean(losses))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"decouple": "smooth"},
        {"judge": "current"},
        {"text_weight": 0.0},
        {"preset": "code"},
        {"decouple": "off", "text_weight": 0.2},
        {"dynamic": False},
    ],
)
def test_losses_and_levels_are_those_of_a_loop_over_trials(
    problem: TinyProblem, params: dict[str, Any]
) -> None:
    decoder = fit(problem, Recorded, significance=0.5, **params)
    bank, stimuli = problem.bank, decoder.train_stimuli_
    smooth = params.get("decouple") == "smooth"
    weight = params.get("text_weight", 0.5)
    e = {name: dict.fromkeys(range(len(stimuli)), 1.0) for name in ("peak", "kernel")}
    now = {name: dict.fromkeys(range(len(stimuli)), 0.0) for name in ("peak", "kernel")}
    coming = {name: dict(levels) for name, levels in now.items()}
    used: set[tuple[float, float]] = set()

    def shown(i: int) -> Any:
        def one(peak_level: float) -> Any:
            view = Fovea(k=51 + 6 * int(now["kernel"][i]), peak=0.5 - 0.5 * peak_level).name
            return unit(bank.vectors(view, ids=[stimuli[i]])[0].astype(float))

        level = now["peak"][i]
        below = np.floor(level)
        used.add((level, now["kernel"][i]))
        if level == below:
            return one(level)
        return unit((1 - (level - below)) * one(below) + (level - below) * one(below + 1))

    for step in decoder.steps:
        if step is None:
            now = {name: dict(levels) for name, levels in coming.items()}
            continue
        index, z, scales, loss, after = step
        v = np.array([shown(i) for i in index])
        t = unit(bank.text_vectors([stimuli[i] for i in index]).astype(float))
        expected = cross_entropies(z["image"], v, scales[0])
        similar = {"kernel": [scales[0] * z["image"][k] @ v[k] for k in range(len(index))]}
        if weight:
            expected = (1 - weight) * expected + weight * cross_entropies(z["text"], t, scales[1])
            similar["peak"] = [scales[1] * z["text"][k] @ t[k] for k in range(len(index))]
        else:
            similar["peak"] = [scales[0] * z["image"][k] @ t[k] for k in range(len(index))]
        assert loss == pytest.approx(expected, rel=1e-4)
        switched = {"peak": params.get("decouple") != "off", "kernel": params.get("dynamic", True)}
        for name in ("peak", "kernel"):
            if not switched[name]:
                assert set(after[f"next_{name}"]) == {0.0}
                continue
            for k, i in enumerate(index):
                e[name][i] = 0.3 * similar[name][k] + 0.7 * e[name][i]
            batch = [e[name][i] for i in index]
            mean, half = np.mean(batch), 0.67449 * np.std(batch, ddof=1)
            for k, i in enumerate(index):
                current = params.get("judge") == "current" or "preset" in params
                judged = similar[name][k] if current else e[name][i]
                level = float(judged < mean - half) - float(judged > mean + half)
                if smooth and name == "peak":
                    level = min(1.0, max(-1.0, (mean - judged) / half))
                coming[name][i] = level
                assert after[f"next_{name}"][k] == pytest.approx(level, abs=1e-3)
                # As the decoder rounded it, so that what follows is compared, not rounding.
                coming[name][i] = after[f"next_{name}"][k]
            assert after[f"{name}_smoothed"] == pytest.approx(batch, rel=1e-4, abs=1e-4)
    assert len(used) >= (7 if all(switched.values()) else 3)


@pytest.mark.parametrize("decouple", ["discrete", "smooth"])
def test_about_a_tenth_is_outside_in_every_epoch(problem: TinyProblem, decouple: str) -> None:
    shares: list[tuple[float, float]] = []

    class Watched(BVSA):
        def _on_epoch_end(self, epoch: int) -> None:
            super()._on_epoch_end(epoch)
            seen = self._state["peak_smoothed"] != 1
            for name in ("peak", "kernel"):
                level = self._state[name][seen]
                shares.append(((level <= -0.999).double().mean(), (level >= 0.999).double().mean()))

    fit(problem, Watched, decouple=decouple, epochs=8)
    assert all(low < 0.2 and high < 0.2 for low, high in shares)
    assert all(0.03 < low + high < 0.25 for low, high in shares)
    lagging = shares.copy()
    shares.clear()
    fit(problem, Watched, decouple=decouple, epochs=8, judge="current")
    # What the smoothed similarity is judged for: the current one runs ahead of their interval.
    assert max(low for low, _ in shares) > 0.5 > max(low for low, _ in lagging)


def test_levels_come_from_training_alone_and_held_out_trials_keep_theirs(
    problem: TinyProblem,
) -> None:
    decoder = fit(problem)
    untouched = decoder._state["peak_smoothed"] == 1
    assert int(untouched.sum()) == 12  # a tenth of 40 concepts, three pictures each
    assert set(decoder._state["peak"][untouched].tolist()) == {0.0}


def test_an_interrupted_training_goes_on_to_the_same_bits(
    problem: TinyProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BVSA, "_checkpoint_seconds", 0.0)
    params: dict[str, Any] = {
        "significance": 0.5,
        "decouple": "smooth",
        "text_modulation": "gate_max",
        "epochs": 4,
    }
    whole = fit(problem, **params)
    ended = BVSA._on_epoch_end

    def stop(self: BVSA, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        ended(self, epoch)

    monkeypatch.setattr(BVSA, "_on_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        BVSA(**QUICK | params).fit(problem.train, problem.bank, checkpoint=tmp_path, progress=False)
    starts: list[int] = []
    monkeypatch.setattr(BVSA, "_on_epoch_end", ended)
    monkeypatch.setattr(BVSA, "_on_epoch_start", lambda self, epoch: starts.append(epoch))
    again = BVSA(**QUICK | params).fit(
        problem.train, problem.bank, checkpoint=tmp_path, progress=False
    )
    assert starts == [2, 3]
    for name, value in whole._state.items():
        assert torch.equal(again._state[name], value)
    assert again.modulation_ == whole.modulation_
    first, second = (one.similarity(problem.test, problem.bank) for one in (whole, again))
    assert np.array_equal(first.matrix, second.matrix)


# --------------------------------------------------------------------------------------- scores
@pytest.mark.parametrize("rule", _modulation.LABEL_FREE)
def test_inductive_rules_read_one_query_and_no_answers(
    problem: TinyProblem, tmp_path: Path, rule: str
) -> None:
    decoder = fit(problem, text_modulation=rule, epochs=2)
    assert bool(decoder.modulation_) == (rule in _modulation.FITTED)
    queries = problem.test.average()
    found = decoder.similarity(queries, problem.bank)
    assert found.uses_gallery_text == (rule != "none")
    assert not found.uses_test_labels
    hidden = relabelled(
        queries, stimulus=[f"unknown-{i}" for i in range(queries.n_trials)], concept=""
    )
    assert np.array_equal(decoder.similarity(hidden, problem.bank).matrix, found.matrix)
    for row in range(0, queries.n_trials, 5):
        alone = decoder.similarity(queries.select([row]), problem.bank).matrix[0]
        np.testing.assert_allclose(alone, found.matrix[row], rtol=1e-5, atol=1e-6)
    decoder.save_pretrained(tmp_path / "m")
    loaded = BVSA.from_pretrained(tmp_path / "m")
    assert loaded.modulation_ == decoder.modulation_
    assert np.array_equal(found.matrix, loaded.similarity(queries, problem.bank).matrix)


@pytest.mark.parametrize("views", [None, ("fovea(k=45)", "original")])
def test_scores_by_hand(problem: TinyProblem, views: tuple[str, ...] | None) -> None:
    # The last epoch, as the rules choose different ones.
    params = {"gallery_views": views, "selection": "fixed_epoch"}
    decoder = fit(problem, **params)
    queries, bank = problem.test.average(), problem.bank
    names = views or ("fovea(k=51)",)
    z = encode_all(decoder, queries)
    b, by_text = (unit(z[name].double().numpy()) for name in ("image", "text"))
    m = np.mean([b @ unit(bank.vectors(bank.expand(v)[0])).T for v in names], axis=0)
    x = by_text @ unit(bank.text_vectors()).T
    found = decoder.similarity(queries, bank)
    np.testing.assert_allclose(found.matrix, m + m * x, rtol=0, atol=1e-6)
    rule = decoder._score_rule()
    assert rule.endswith("text modulation product")
    assert ("original" in rule) == bool(views)
    off = fit(problem, **params, text_modulation="none")
    np.testing.assert_allclose(off.similarity(queries, bank).matrix, m, rtol=0, atol=1e-6)


@pytest.mark.parametrize("preset", ["seed", "code"])
def test_oracles_are_fenced(problem: TinyProblem, preset: str) -> None:
    decoder = fit(problem, preset=preset)
    held = HeldOut(problem.test)
    with pytest.raises(DataError, match="reads the answers"):
        decoder.evaluate(held, problem.bank)
    assert held.opened == 0
    with pytest.warns(DesignWarning, match="test labels"):
        result = decoder.evaluate(held, problem.bank, labels="stimulus")
    assert result.protocol.uses_test_labels
    with pytest.raises(DataError, match="reads the answers"):
        decoder.similarity(problem.test, problem.bank)
    plain = fit(problem, **PLAIN).evaluate(problem.test, problem.bank)
    table, marked = comparison({"oracle": result, "fair": plain}, "fair")
    assert list(table["row"]) == ["fair"]
    assert list(marked["row"]) == ["oracle"]


def test_oracle_scores_by_hand(problem: TinyProblem) -> None:
    decoder = fit(problem, text_modulation="oracle_row")
    queries = problem.test.average()
    ids = list(dict.fromkeys(queries.trials["stimulus"]))[::-1]
    z = encode_all(decoder, queries)
    view = problem.bank.expand("fovea(k=51)")[0]
    m = unit(z["image"].double().numpy()) @ unit(problem.bank.vectors(view, ids=ids)).T
    x = unit(z["text"].double().numpy()) @ unit(problem.bank.text_vectors(ids)).T
    own = np.array([x[i, ids.index(s)] for i, s in enumerate(queries.trials["stimulus"])])
    sure = own >= own.mean() - 1.96 * own.std(ddof=1) / np.sqrt(len(own))
    assert 0 < sure.sum() < len(own)
    with pytest.warns(DesignWarning, match="test labels"):
        found = decoder.similarity(queries, problem.bank, ids=ids, labels="stimulus")
    np.testing.assert_allclose(found.matrix, m + sure[:, None] * m * x, rtol=0, atol=1e-6)
    with pytest.warns(DesignWarning, match="test labels"):
        listed = decoder.similarity(
            queries, problem.bank, ids=ids, labels=list(queries.trials["stimulus"])
        )
    assert np.array_equal(listed.matrix, found.matrix)
    for labels, words in (("answer", "column"), (ids[:-1], "19 labels"), (["x"] * 20, "x")):
        with pytest.raises(DataError, match=words):
            decoder.similarity(queries, problem.bank, ids=ids, labels=labels)


def test_labels_are_refused_where_no_rule_reads_them(problem: TinyProblem) -> None:
    held = HeldOut(problem.test)
    for decoder in (fit(problem), UBP(**QUICK).fit(problem.train, problem.bank, progress=False)):
        with pytest.raises(DataError, match="read no answers"):
            decoder.evaluate(held, problem.bank, labels="stimulus")
    assert held.opened == 0


# ---------------------------------------------------------------------------------------- names
def test_names_may_be_of_another_width(problem: TinyProblem) -> None:
    narrow = TinyProblem(problem.train, problem.test, with_narrow_names(problem.bank))
    for shared in (True, False):
        decoder = fit(narrow, shared_trunk=shared, epochs=10)
        assert encode_all(decoder, narrow.test)["text"].shape[1] == 10
        assert decoder.evaluate(narrow.test, narrow.bank).two_way > 0.75
    with pytest.raises(SpaceMismatchError, match="names are in another space"):
        decoder.similarity(narrow.test, problem.bank)
    for params in ({"text_weight": 0.0}, {"preset": "seed"}):
        with pytest.raises(SpaceMismatchError, match="text_weight=0"):
            fit(narrow, **params)


def test_without_a_text_head_names_judge_and_do_not_train(problem: TinyProblem) -> None:
    judged = fit(problem, text_weight=0.0, decouple="discrete", dynamic=False, significance=0.5)
    assert not any("text" in name for name in judged.modules_)
    static = fit(problem, text_weight=0.0, decouple="off", dynamic=False)
    assert set(judged._state["peak"].tolist()) == {-1.0, 0.0, 1.0}
    assert set(static._state["peak"].tolist()) == {0.0}
    assert not any(value.requires_grad for value in judged._state.values())
    # Until the first levels take effect the two are one training: names give no gradient.
    assert judged.history_["loss"][0] == static.history_["loss"][0]
    assert judged.history_["loss"][1] != static.history_["loss"][1]


def test_shuffled_names_are_never_a_concepts_own(problem: TinyProblem) -> None:
    decoder = fit(problem, shuffle_names=True, epochs=1)
    bank, ids = problem.bank, problem.bank.ids
    assert bank.text is not None
    given = decoder._text_vectors(bank, ids)
    names = bank.text.vectors("text")
    rows = [int(np.flatnonzero((names == vector).all(1))[0]) for vector in given]
    own = [bank.text.ids.index(c) for c in bank.stimuli["concept"]]
    assert all(a != b for a, b in zip(rows, own, strict=True))
    assert len(set(zip(own, rows, strict=True))) == len(set(own)) == len(set(rows))


def test_names_help_where_they_carry_signal_and_shuffled_ones_do_not() -> None:
    ranks: dict[str, list[float]] = {"names": [], "no names": [], "shuffled": []}
    for seed in range(3):
        problem = tiny_problem(seed, snr=0.3)
        for label, params in (
            ("names", {}),
            ("no names", {"text_modulation": "none"}),
            ("shuffled", {"shuffle_names": True}),
        ):
            decoder = fit(problem, **PLAIN, **params, epochs=6, random_state=seed)
            table = decoder.evaluate(problem.test, problem.bank).table
            ranks[label].append(float(table["rank"].mean()))
    mean = {label: np.mean(values) for label, values in ranks.items()}
    assert mean["names"] < mean["no names"] - 0.1
    assert mean["names"] < mean["shuffled"] - 0.2


# -------------------------------------------------------------------------- manners of the method
def test_vanilla_is_the_plain_contrast_of_ubp(problem: TinyProblem) -> None:
    assert list(BVSA.ablations) == [
        "vanilla", "+ decouple", "+ dynamic", "+ modulation", "shuffled names",
    ]  # fmt: skip
    vanilla = fit(problem, **BVSA.ablations["vanilla"])
    bare = replace(problem.bank, text=None)  # it needs no names
    assert fit(TinyProblem(problem.train, problem.test, bare), **BVSA.ablations["vanilla"])
    plain = UBP(**QUICK, views=("original",), uncertainty=False)
    plain.fit(problem.train, problem.bank, progress=False)
    assert plain.history_["loss"].tolist() == vanilla.history_["loss"].tolist()
    queries = problem.test.average()
    assert np.array_equal(vanilla.embed(queries).vectors, plain.embed(queries).vectors)
    np.testing.assert_allclose(
        vanilla.similarity(queries, bare).matrix,
        plain.similarity(queries, bare).matrix,
        rtol=0,
        atol=1e-6,
    )


def test_two_encoders_start_alike_and_presets_override(problem: TinyProblem) -> None:
    code = fit(problem, preset="code", text_weight=0.1, epochs=1, lr=0.0)
    assert code._setting("text_weight") == 0.5
    assert code.text_weight == 0.1
    assert code._setting("shared_trunk") is False
    shared = fit(problem, epochs=1, lr=0.0)
    queries = problem.test.average()
    assert np.array_equal(code.embed(queries).vectors, shared.embed(queries).vectors)
    sizes = [sum(p.numel() for p in one.modules_.parameters()) for one in (shared, code)]
    assert sizes[1] > 1.6 * sizes[0]


def test_a_new_subject_is_adapted_to(problem: TinyProblem) -> None:
    people = tiny_problem(0, subjects=2)
    first, second = (people.train.select(subject=name) for name in ("01", "02"))
    wishes: list[dict[str, Any]] = [{}, {"subject_layers": True, "decouple": "smooth"}]
    for params in wishes:
        decoder = BVSA(**{**QUICK, "epochs": 8, **params})
        decoder.fit(first, people.bank, progress=False)
        levels = {name: value.clone() for name, value in decoder._state.items()}
        adapted = decoder.adapt(second, people.bank, epochs=20, progress=False)
        test = people.test.select(subject="02")
        result = adapted.evaluate(test, people.bank)
        assert result.two_way > 0.6
        assert not result.protocol.uses_test_labels
        assert all(torch.equal(decoder._state[name], value) for name, value in levels.items())
        with pytest.raises(SpaceMismatchError, match="names are in another space"):
            decoder.adapt(second, with_narrow_names(people.bank), progress=False)


def test_impossible_wishes_are_refused_before_training(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: Any) -> None:
        raise AssertionError("a training step was made")

    monkeypatch.setattr(BVSA, "_loss", trained)
    bare = replace(problem.bank, text=None)
    with pytest.raises(DataError, match="with_text"):
        BVSA(**QUICK).fit(problem.train, bare, progress=False)
    for params, words in (
        ({"views": ("original",)}, "nine views"),
        ({"text_modulation": "gate_max", "selection": "fixed_epoch"}, "held-out"),
        ({"text_modulation": "best"}, "unknown text_modulation"),
        ({"preset": "paper"}, "preset"),
        ({"decouple": "hard"}, "unknown decouple"),
        ({"judge": "both"}, "unknown judge"),
        ({"text_weight": 2.0}, "share"),
        ({"smoothing": 0.0}, "smoothing"),
        ({"significance": 1.0}, "significance"),
        ({"gallery_views": ("fovea(k=99)",), "selection": "fixed_epoch"}, "k=99"),
        ({"shared_trunk": False, "subject_layers": True}, "subject layer"),
    ):
        with pytest.raises((DataError, UnknownNameError), match=words):
            fit(problem, **params)


@pytest.mark.parametrize(
    "changes", [{}, {"shared_trunk": False}, {"text_modulation": _modulation.FITTED[0]}]
)
def test_signals_kept_in_bf16_train_to_the_same_bits(
    problem: TinyProblem, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    half = fit(problem, precision="bf16", **changes)
    assert half._signal_dtype("bf16") == torch.bfloat16
    monkeypatch.setattr(BVSA, "_takes_rounded", False)
    full = fit(problem, precision="bf16", **changes)
    for name, value in full.modules_.state_dict().items():
        assert torch.equal(value, half.modules_.state_dict()[name]), name

"""The audit: every planted leak is found where it can be, and no clean pipeline is accused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from phosphene.errors import DataError, LeakError
from phosphene.evaluation.audit import Audit, Verdict, audit, audit_pipeline, merge
from phosphene.evaluation.protocol import Protocol

N, DIM, CHANNELS = 24, 6, 15


def problem(seed: int = 0, noise: float = 1.0) -> dict[str, Any]:
    """Linear responses to vectors: 200 training trials, one test trial per candidate."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(DIM, CHANNELS))
    shown = rng.normal(size=(200, DIM))
    gallery = rng.normal(size=(N, DIM))
    train = shown @ mixing + noise * rng.normal(size=(200, CHANNELS))
    test = gallery @ mixing + noise * rng.normal(size=(N, CHANNELS))
    return {"train": (train, shown), "test": test, "gallery": gallery, "answers": np.arange(N)}


DATA = problem()


def fit(signals: Any, vectors: Any) -> Callable[[Any, Any], Any]:
    ridge = SklearnRidge(10.0).fit(signals, vectors)

    def decode(queries: Any, gallery: Any) -> Any:
        guess = ridge.predict(queries)
        lengths = np.linalg.norm(guess, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
        return guess @ gallery.T / lengths

    return decode


ridge = fit(*DATA["train"])


def verdicts(found: Audit) -> dict[str, str]:
    return {verdict.check: verdict.verdict for verdict in found}


def failed(found: Audit) -> set[str]:
    return {verdict.check for verdict in found.failed}


def behaviour_of(decode: Callable[[Any, Any], Any], **more: Any) -> Audit:
    parts = {name: DATA[name] for name in ("test", "gallery", "answers")}
    return audit(decode, **parts, **more)


# ------------------------------------------------------------------ leaks of a callable
def oracle_gate(queries: Any, gallery: Any) -> Any:
    """Chooses by the true answer between two scores."""
    scores = ridge(queries, gallery)
    right = scores.argmax(axis=1) == TRUTH[: len(queries)]
    return np.where(right[:, None], scores, -scores)


TRUTH = DATA["answers"]


def true_answer_by_place(queries: Any, gallery: Any) -> Any:
    scores = ridge(queries, gallery).copy()
    places = TRUTH[: len(queries)]
    inside = places < len(gallery)
    scores[np.flatnonzero(inside), places[inside]] += 0.3
    return scores


def label_sorted_gallery(queries: Any, gallery: Any) -> Any:
    """Favours candidates near the query's own place: right where both are sorted by label."""
    away = np.abs(np.arange(len(queries))[:, None] - np.arange(len(gallery)))
    return ridge(queries, gallery) - 0.05 * away


def batch_statistics(queries: Any, gallery: Any) -> Any:
    return ridge((queries - queries.mean(axis=0)) / queries.std(axis=0), gallery)


def hungarian(queries: Any, gallery: Any) -> Any:
    scores = ridge(queries, gallery)
    out = np.zeros_like(scores)
    out[linear_sum_assignment(-scores)] = 1
    return out


def csls(queries: Any, gallery: Any) -> Any:
    scores = ridge(queries, gallery)
    return 2 * scores - np.sort(scores, axis=0)[-3:].mean(axis=0)


def batch_norm_in_training_mode(queries: Any, gallery: Any) -> Any:
    norm = torch.nn.BatchNorm1d(CHANNELS, affine=False)
    if len(queries) == 1:
        norm.eval()  # torch refuses one query in training mode
    return ridge(norm(torch.as_tensor(queries).float()).double().numpy(), gallery)


@pytest.mark.parametrize(
    ("decode", "expected"),
    [
        (oracle_gate, {"query order", "gallery order"}),
        (true_answer_by_place, {"query order", "gallery order", "shuffled responses"}),
        (label_sorted_gallery, {"query order", "gallery order", "shuffled responses"}),
        (batch_statistics, {"one query alone"}),
        (hungarian, {"one query alone"}),
        (csls, {"one query alone"}),
        (batch_norm_in_training_mode, {"one query alone"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_leaks_of_a_callable_are_found_by_behaviour(decode: Any, expected: set[str]) -> None:
    found = behaviour_of(decode)
    assert expected <= failed(found)
    assert found[sorted(expected)[0]].found_by == "behaviour"
    assert not found.passed
    with pytest.raises(LeakError, match="checks of"):
        found.require()
    if expected == {"one query alone"}:
        assert failed(found) == expected  # and nothing else is accused


def test_declared_steps_are_a_warning_and_not_a_failure() -> None:
    found = behaviour_of(hungarian, transductive=["hungarian"])
    assert verdicts(found)["one query alone"] == "warn"
    assert "hungarian" in found["one query alone"].evidence
    assert found.passed


def test_constant_scores_are_told_from_their_first_candidate() -> None:
    found = behaviour_of(lambda q, g: np.zeros((len(q), len(g))))
    assert found["ties"].verdict == "warn"
    assert found["ties"].numbers["share"] == 1
    assert found["ties"].numbers["top1_expected"] == pytest.approx(1 / N)
    assert found.passed


def test_what_a_callable_was_fitted_on_is_not_checkable() -> None:
    memory = fit(DATA["test"], DATA["gallery"])  # trained on the very test
    found = behaviour_of(memory)
    assert found.passed
    assert found["what it was fitted on"].verdict == "not checkable"


def test_random_scores_are_a_warning() -> None:
    rng = np.random.default_rng(0)
    found = behaviour_of(lambda q, g: ridge(q, g) + 0.01 * rng.normal(size=(len(q), len(g))))
    assert found["same question twice"].verdict == "warn"
    # Changes within the decoder's own noise accuse nobody.
    assert found.passed


def test_a_refusal_is_not_checkable_and_nan_is_a_failure() -> None:
    def picky(queries: Any, gallery: Any) -> Any:
        if len(queries) < 2:
            raise ValueError("needs a batch")
        return ridge(queries, gallery)

    found = behaviour_of(picky)
    assert found["one query alone"].verdict == "pass"
    assert "2 parts, 8 refused" in found["one query alone"].evidence

    def rigid(queries: Any, gallery: Any) -> Any:
        if len(queries) != N:
            raise ValueError("needs the whole batch")
        return ridge(queries, gallery)

    found = behaviour_of(rigid)
    assert found["one query alone"].verdict == "not checkable"
    assert "ValueError: needs the whole batch" in found["one query alone"].evidence
    assert failed(behaviour_of(lambda q, g: np.full((len(q), len(g)), np.nan))) == {"scores"}
    with pytest.raises(DataError, match="another shape"):
        behaviour_of(lambda q, g: np.zeros((len(g), 3)))


def test_untrained_and_refitted_decoders() -> None:
    honest = behaviour_of(
        ridge,
        train=DATA["train"],
        fit=fit,
        untrained=fit(np.random.default_rng(1).normal(size=(9, CHANNELS)), np.ones((9, DIM))),
    )
    assert honest.passed
    assert honest["refit on shuffled labels"].verdict == "pass"
    assert honest["untrained decoder"].verdict == "pass"

    def peeking(signals: Any, vectors: Any) -> Any:
        return fit(DATA["train"][0], DATA["train"][1])  # not the labels that it was handed

    found = behaviour_of(ridge, train=DATA["train"], fit=peeking, untrained=ridge)
    assert failed(found) == {"refit on shuffled labels", "untrained decoder"}
    assert found["untrained decoder"].numbers["p"] < 0.001
    with pytest.raises(DataError, match="fit needs train"):
        behaviour_of(ridge, fit=fit)


# ------------------------------------------------------------------ leaks of a whole analysis
def classes(seed: int = 0, n: int = 96, n_classes: int = 4) -> tuple[Any, Any, Any]:
    """Trials of four classes in six runs, each run with an offset of its own."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.arange(n_classes), n // n_classes)
    runs = np.repeat(np.arange(6), n // 6)
    offset = rng.normal(size=(6, CHANNELS))
    means = 0.6 * rng.normal(size=(n_classes, CHANNELS))
    return means[y] + offset[runs] + rng.normal(size=(n, CHANNELS)), y, runs


def leave_one_run_out(x: Any, y: Any, runs: Any) -> list[Any]:
    return list(LeaveOneGroupOut().split(x, y, runs))


def logistic(x: Any, y: Any, train: Any, test: Any) -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    return model.fit(x[train], y[train]).decision_function(x[test])


def scaler_on_all_data(x: Any, y: Any, train: Any, test: Any) -> Any:
    # A scaler within the training trials would undo it: then it would be no leak.
    model = LogisticRegression(C=0.1).fit((x := StandardScaler().fit_transform(x))[train], y[train])
    return model.decision_function(x[test])


def selection_on_all_data(x: Any, y: Any, train: Any, test: Any) -> Any:
    return logistic(SelectKBest(f_classif, k=4).fit_transform(x, y), y, train, test)


def epoch_chosen_on_test(x: Any, y: Any, train: Any, test: Any) -> Any:
    weights = np.zeros((x.shape[1], 4))
    best, chosen = -1.0, np.zeros((len(test), 4))
    for _ in range(40):
        logits = x[train] @ weights
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        weights -= 0.05 * x[train].T @ (p - np.eye(4)[y[train]]) / len(train)
        scores = x[test] @ weights
        accuracy = float((scores.argmax(axis=1) == y[test]).mean())
        if accuracy > best:
            best, chosen = accuracy, scores
    return chosen


def fitted_on_test(x: Any, y: Any, train: Any, test: Any) -> Any:
    return logistic(x, y, np.concatenate([train, test]), test)


def gate_on_truth(x: Any, y: Any, train: Any, test: Any) -> Any:
    return logistic(x, y, train, test) + np.eye(4)[y[test]]


def matched(x: Any, y: Any, train: Any, test: Any) -> Any:
    scores = logistic(x, y, train, test)
    return scores - scores.mean(axis=0)


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        (scaler_on_all_data, {"other test trials replaced"}),
        (selection_on_all_data, {"test labels replaced", "other test trials replaced"}),
        (epoch_chosen_on_test, {"test labels replaced"}),
        (fitted_on_test, {"test labels replaced", "other test trials replaced"}),
        (gate_on_truth, {"test labels replaced"}),
        (matched, {"other test trials replaced"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_leaks_of_an_analysis_are_found_by_behaviour(pipeline: Any, expected: set[str]) -> None:
    x, y, runs = classes()
    found = audit_pipeline(pipeline, x, y, leave_one_run_out(x, y, runs)[:1], groups=runs)
    assert expected <= failed(found)


def test_labels_that_a_pipeline_takes_from_elsewhere() -> None:
    x, y, runs = classes()

    def outside(x: Any, labels: Any, train: Any, test: Any) -> Any:
        return logistic(x, y, train, test)

    x = 3 * np.eye(CHANNELS)[y] + x
    found = audit_pipeline(outside, x, y, leave_one_run_out(x, y, runs))
    assert failed(found) == {"training labels shuffled"}
    assert found["training labels shuffled"].numbers["two_way"] > 0.9


def drifting(seed: int = 0) -> tuple[Any, Any, Any]:
    """Volumes of blocks whose noise is the same over a block: neighbours give the class away."""
    rng = np.random.default_rng(seed)
    x, y, runs = [], [], []
    for run in range(6):
        for label in rng.permutation(4):
            block = rng.normal(size=CHANNELS) * 2 + 0.5 * np.eye(CHANNELS)[label]
            x += [block + 0.5 * rng.normal(size=CHANNELS) for _ in range(6)]
            y += [label] * 6
            runs += [run] * 6
    return np.array(x), np.array(y), np.array(runs)


def test_a_random_split_of_drifting_volumes_is_flagged_and_shown_to_inflate() -> None:
    x, y, runs = drifting()
    random = list(StratifiedKFold(6, shuffle=True, random_state=0).split(x, y))
    found = audit_pipeline(logistic, x, y, random, groups=runs)["blocks on both sides"]
    assert found.verdict == "fail"
    assert found.numbers["as_split"] > found.numbers["by_block"] + 0.2
    assert audit_pipeline(logistic, x, y, leave_one_run_out(x, y, runs), groups=runs).passed


def test_shared_blocks_without_inflation_are_a_warning() -> None:
    x, y, runs = classes()
    random = list(StratifiedKFold(6, shuffle=True, random_state=0).split(x, y))
    found = audit_pipeline(logistic, x, y, random, groups=runs)["blocks on both sides"]
    assert found.verdict == "warn"
    assert found.numbers["p"] > 0.01
    assert found.numbers["as_split"] == pytest.approx(found.numbers["by_block"], abs=0.1)


def test_classes_that_are_sessions_are_exposed() -> None:
    x, _, runs = classes()
    folds = [(np.flatnonzero(np.arange(96) % 4 > 0), np.flatnonzero(np.arange(96) % 4 == 0))]
    found = audit_pipeline(logistic, x, runs, folds, groups=runs)["blocks on both sides"]
    assert found.verdict == "fail"
    assert found.numbers["as_split"] > 0.4
    assert "no class occurs in two blocks" in found.evidence


def test_data_that_do_not_fit_are_refused() -> None:
    x, y, runs = classes()
    with pytest.raises(DataError, match="not among those of training"):
        audit_pipeline(logistic, x, y, [(np.flatnonzero(y < 3), np.flatnonzero(y == 3))])
    with pytest.raises(DataError, match="differ in length"):
        audit_pipeline(logistic, x, y, [([0], [0])], groups=runs[1:])
    with pytest.raises(DataError, match="no fold"):
        audit_pipeline(logistic, x, y, [])
    with pytest.raises(DataError, match="answers"):
        audit(ridge, DATA["test"], DATA["gallery"], answers=np.arange(N) + 1)


# ------------------------------------------------------------------ clean pipelines
def cosine_of_ridge(queries: Any, gallery: Any) -> Any:
    return ridge(queries, gallery)


def distance(queries: Any, gallery: Any) -> Any:
    guess = queries @ np.linalg.pinv(np.eye(DIM, CHANNELS))
    return -np.square(guess[:, None] - gallery[None]).sum(axis=2)


def softmax_over_the_gallery(queries: Any, gallery: Any) -> Any:
    scores = np.exp(5 * ridge(queries, gallery))
    return scores / scores.sum(axis=1, keepdims=True)


def network_in_float32(queries: Any, gallery: Any) -> Any:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(CHANNELS, 32), torch.nn.BatchNorm1d(32), torch.nn.GELU(),
        torch.nn.Dropout(0.5), torch.nn.Linear(32, DIM),
    ).eval()  # fmt: skip
    with torch.no_grad():
        return layers(torch.as_tensor(queries).float()).numpy() @ gallery.T


@pytest.mark.parametrize(
    "decode",
    [cosine_of_ridge, distance, softmax_over_the_gallery, network_in_float32],
    ids=lambda f: f.__name__,
)
def test_clean_callables_are_not_accused(decode: Any) -> None:
    found = behaviour_of(decode)
    assert set(verdicts(found).values()) <= {"pass", "not checkable"}
    checked = [v for v in found if v.verdict == "pass"]
    assert len(checked) == len(found) - 1  # all but what it was fitted on


MODELS: dict[str, Callable[[], Any]] = {
    "scaled logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "selection inside": lambda: make_pipeline(SelectKBest(f_classif, k=5), LogisticRegression()),
    "pca and lda": lambda: make_pipeline(PCA(5), LinearDiscriminantAnalysis()),
    "penalty by inner folds": lambda: make_pipeline(StandardScaler(), RidgeClassifierCV()),
    "grid search inside": lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3),
    "support vectors": lambda: make_pipeline(StandardScaler(), SVC(decision_function_shape="ovr")),
    "neighbours": lambda: KNeighborsClassifier(7),
    "naive bayes": GaussianNB,
}


@pytest.mark.parametrize("name", MODELS)
def test_clean_analyses_are_not_accused(name: str) -> None:
    def pipeline(x: Any, y: Any, train: Any, test: Any) -> Any:
        model = MODELS[name]().fit(x[train], y[train])
        score = getattr(model, "decision_function", None) or model.predict_proba
        return score(x[test])

    x, y, runs = classes(seed=3)
    found = audit_pipeline(pipeline, x, y, leave_one_run_out(x, y, runs), groups=runs)
    assert set(verdicts(found).values()) == {"pass"}


def seeds() -> Iterator[int]:
    yield from range(40)


@pytest.mark.slow
def test_chance_checks_rarely_accuse_over_many_data_sets() -> None:
    """Each makes three tests at .001: of 40 honest decoders none is expected to be accused."""
    accused = []
    for seed in seeds():
        data = problem(seed, noise=2.0)
        decode = fit(*data["train"])
        blind = fit(np.random.default_rng(seed + 100).normal(size=(9, CHANNELS)), np.eye(9, DIM))
        found = audit(
            decode, data["test"], data["gallery"], answers=data["answers"],
            train=data["train"], fit=fit, untrained=blind, seed=seed,
        )  # fmt: skip
        accused += failed(found)
    assert not accused


@pytest.mark.slow
def test_analyses_of_noise_are_rarely_accused() -> None:
    accused = []
    for seed in seeds():
        x, y, runs = classes(seed)
        found = audit_pipeline(logistic, x, y, leave_one_run_out(x, y, runs), groups=runs)
        accused += failed(found)
    assert not accused


# ------------------------------------------------------------------ what an audit is
def test_audits_are_shown_saved_and_looked_up(tmp_path: Path) -> None:
    protocol = Protocol(selection="test", transductive=(), uses_test_labels=False)
    found = behaviour_of(cosine_of_ridge, protocol=protocol, name="<mine>")
    assert failed(found) == {"selection"}
    assert found["selection"].found_by == "provenance"
    table = found.to_table()
    assert list(table.columns) == ["check", "verdict", "evidence", "found_by", "fix"]
    assert len(table) == len(found)
    html = found._repr_html_()
    assert "&lt;mine&gt;" in html
    assert "selection" in html
    plain = found.to_json(tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text()) == plain
    assert plain["passed"] is False
    assert plain["checks"][1] == {
        "check": "selection",
        "verdict": "fail",
        "evidence": "the model was chosen by: test",
        "found_by": "provenance",
        "fix": "choose on held-out training concepts, or train a fixed number of epochs",
        "numbers": {},
    }
    with pytest.raises(KeyError, match="no check 'nothing'"):
        found["nothing"]
    with pytest.raises(DataError, match="no such verdict"):
        Verdict("a", "good", "", "behaviour")  # type: ignore[arg-type]


def test_of_several_folds_the_most_serious_verdict_counts() -> None:
    def one(mark: Any) -> Verdict:
        return Verdict("gallery order", mark, f"said {mark}", "behaviour")

    merged = merge({"a": [one("pass")], "b": [one("fail")], "c": [one("warn")]})
    assert [v.verdict for v in merged] == ["fail"]
    assert merged[0].evidence == "said fail (1 of 3 folds; here b)"
    assert merge({"a": [one("warn")]}) == [one("warn")]


def test_answers_can_be_left_out() -> None:
    found = behaviour_of(label_sorted_gallery, accuracy=False)
    assert found["shuffled responses"].verdict == "not checkable"
    assert "top-1" not in found["ties"].evidence
    assert "gallery order" in failed(found)

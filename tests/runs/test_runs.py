"""Run folders: fitted once, resumed when interrupted, verified when opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from phosphene._saving import verify_folder
from phosphene.config import load_recipe
from phosphene.data.recording import Recording
from phosphene.errors import (
    ArtefactError,
    DataError,
    NotFittedError,
    RecipeError,
    SpaceMismatchError,
    StorageError,
)
from phosphene.evaluation.result import Result
from phosphene.runs import Run, evaluate, fit, predict, summary_rows
from phosphene.runs.sources import load_sources
from phosphene.stimuli.bank import FeatureBank

NICE = [
    "method.name=nice",
    "method.params={epochs: 6, encoder: mlp, encoder_params: {width: 16}, batch_size: 16,"
    " device: cpu, precision: fp32}",
    "per_subject=false",
]


@pytest.fixture
def copy(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "copy"))


def test_a_run_folder_holds_what_the_design_says(fitted: Path) -> None:
    names = {p.name for p in fitted.iterdir()}
    wanted = {"recipe.yaml", "model", "protocol.json", "queries.csv", "scores.npz", "log.txt"}
    assert wanted | {"manifest.json", "run.json"} <= names
    assert not (fitted / ".unfinished").exists()
    assert not (fitted / ".checkpoints").exists()
    manifest = verify_folder(fitted, kind="run")
    assert {"log.txt", "model/fold-01/model.safetensors", "scores.npz"} <= set(manifest["files"])
    assert "fitted ridge on subject 01" in (fitted / "log.txt").read_text()
    with np.load(fitted / "scores.npz", allow_pickle=False) as scores:
        assert scores["matrix"].shape == (10, 5)


def test_the_resolved_recipe_makes_the_same_run(fitted: Path, tmp_path: Path) -> None:
    again = fit(load_recipe(fitted / "recipe.yaml"), tmp_path / "again", progress=False)
    evaluate(again, progress=False)
    ours, theirs = (Result.load(f, verify=True) for f in (fitted, tmp_path / "again"))
    pd.testing.assert_frame_equal(ours.table, theirs.table)


def test_every_subject_has_a_decoder_and_the_table_says_which(fitted: Path) -> None:
    run = Run.open(fitted)
    assert run.folds == {"fold-01": "subject 01", "fold-02": "subject 02"}
    result = Result.load(fitted)
    assert result.table.groupby("fold")["subject"].unique().explode().to_dict() == {
        "subject 01": "01",
        "subject 02": "02",
    }
    assert result.protocol.zero_shot is True
    assert result.protocol.gallery_size == 5
    assert result.protocol.simulated is False
    assert result.protocol.split_kind == "concept"
    assert result.config["method"]["name"] == "ridge"
    assert result.top1 > 0.6
    columns, rows = summary_rows(result)
    assert [row[0] for row in rows] == ["01", "02", "mean"]
    assert all(len(row) == len(columns) for row in rows)


def test_openings_of_the_test_data_are_counted(copy: Path) -> None:
    assert Run.open(copy).state["opened"] == 1
    result = evaluate(copy, progress=False)
    assert result.protocol.test_openings == 2
    assert Run.open(copy).state["opened"] == 2
    assert json.loads((copy / "protocol.json").read_text())["test_openings"] == 2
    assert any("2 times" in mark for mark in result.protocol.watermarks())


def test_an_interrupted_evaluation_counts_and_is_repeated(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, **kwargs: Any) -> None:
        (copy / "queries.csv").write_text("half a fi")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Result, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(copy, progress=False)
    result = evaluate(copy, progress=False)
    assert result.protocol.test_openings == 3
    assert len(Result.load(copy).table) == 10
    assert "stopped: KeyboardInterrupt" in (copy / "log.txt").read_text()


def test_fitting_a_finished_run_again_does_nothing(
    copy: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copy / "manifest.json").read_bytes()
    monkeypatch.setattr(
        "phosphene.runs.fitting.load_sources", lambda *a, **k: pytest.fail("loaded")
    )
    assert fit(load_recipe(tiny), copy, progress=False).fitted
    assert (copy / "manifest.json").read_bytes() == before


def test_a_run_of_another_recipe_is_refused_and_the_difference_named(
    copy: Path, tiny: Path
) -> None:
    recipe = load_recipe(tiny, ["seed=5", "method.params.standardise=false"])
    with pytest.raises(RecipeError) as caught:
        fit(recipe, copy, progress=False)
    message = str(caught.value)
    assert "seed is 0 there and 5 in the recipe" in message
    assert "method.params.standardise is None there and False in the recipe" in message
    assert "--out" in message


def test_a_folder_with_other_files_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StorageError, match=r"thesis\.tex"):
        fit(load_recipe(tiny), tmp_path, progress=False)
    with pytest.raises(StorageError, match="is a file"):
        fit(load_recipe(tiny), tmp_path / "thesis.tex", progress=False)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_an_interrupted_fit_goes_on_and_ends_in_the_same_model(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phosphene.methods import nice

    method = nice.NICE

    recipe = load_recipe(tiny, NICE)
    whole = fit(recipe, tmp_path / "whole", progress=False)
    monkeypatch.setattr(method, "_checkpoint_seconds", 0.0)
    epochs: list[int] = []
    original: Callable[..., None] = method._on_epoch_end

    def stop(self: Any, epoch: int) -> None:
        epochs.append(epoch)
        original(self, epoch)
        if epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(method, "_on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, tmp_path / "cut", progress=False)
    with pytest.raises(NotFittedError, match="run the same `phosphene fit` command again"):
        Run.open(tmp_path / "cut")
    with pytest.raises(RecipeError, match="seed is 0 there and 1"):
        fit(load_recipe(tiny, [*NICE, "seed=1"]), tmp_path / "cut", progress=False)
    started = []
    with monkeypatch.context() as patch:
        patch.setattr(method, "_on_epoch_end", lambda self, epoch: started.append(epoch))
        fit(recipe, tmp_path / "cut", progress=False)
    assert epochs == [0, 1, 2, 3]
    assert started[0] == 3  # epoch 2 was the last one that was complete
    weights = [f / "model" / "model.safetensors" for f in (whole.folder, tmp_path / "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_changed_data_are_noticed_by_a_resumed_fit_and_by_the_evaluation(own: Path) -> None:
    out = own.parent / "run"
    fit(load_recipe(own), out, progress=False)
    recording = Recording.load(own.parent / "eeg", mmap=False)
    recording.with_signals(np.asarray(recording.signals) * 2).save(own.parent / "eeg")
    with pytest.raises(DataError, match="recording changed"):
        evaluate(out, progress=False)


@pytest.mark.parametrize(
    "name",
    [
        "recipe.yaml",
        "run.json",
        "log.txt",
        "queries.csv",
        "model/fold-01/model.safetensors",
        "model/fold-02/config.json",
    ],
)
def test_a_flipped_bit_anywhere_is_found(copy: Path, name: str) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match=path.name.replace(".", r"\.") + "(.|\n)*sha256"):
        Run.open(copy)


def test_other_files_may_lie_in_a_run_folder(copy: Path) -> None:
    (copy / "report.html").write_text("mine")
    assert evaluate(copy, progress=False).top1 > 0.6
    assert Run.open(copy).fitted


def test_missing_and_truncated_files_are_found(copy: Path, tmp_path: Path) -> None:
    path = copy / "model" / "fold-01" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(ArtefactError, match=r"model\.safetensors is truncated"):
        evaluate(copy, progress=False)
    path.unlink()
    with pytest.raises(ArtefactError, match=r"missing.*model\.safetensors"):
        evaluate(copy, progress=False)
    with pytest.raises(ArtefactError, match="no such folder"):
        Run.open(tmp_path / "nowhere")


def test_shuffled_labels_score_at_chance(tiny: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny, ["evaluation.shuffle_labels=3", "method.params.alphas=[1, 100]"])
    result = evaluate(fit(recipe, tmp_path / "run", progress=False), progress=False)
    assert result.two_way < 0.8
    assert any("shuffled with seed 3" in note for note in result.protocol.notes)
    shuffled = load_sources(recipe, progress=False).folds[0].train
    from phosphene.runs.fitting import shuffle_labels

    changed = shuffle_labels(shuffled, 3).trials
    assert (changed["stimulus"] != shuffled.trials["stimulus"]).mean() > 0.8
    assert sorted(changed["stimulus"]) == sorted(shuffled.trials["stimulus"])
    assert (changed["concept"] == changed["stimulus"].str.split("/").str[0]).all()


def test_classification_is_retrieval_among_one_hot_vectors(tiny: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(["face", "house", "shoe"], 8)
    codes = np.tile([0, 1, 2], 8)
    patterns = rng.normal(size=(3, 20))
    signals = patterns[codes] + 0.3 * rng.normal(size=(24, 20))
    trials = {"stimulus": labels, "run": np.repeat(["1", "2", "3", "4"], 6)}
    Recording.from_arrays(signals, trials, modality="fmri").save(tmp_path / "fmri")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: classes\n"
        "data: {kind: recording, path: fmri}\n"
        "features: {kind: onehot}\n"
        "split: {kind: leave_one_run_out}\n"
        "method: {name: ridge, params: {average_repetitions: false}}\n"
        "evaluation: {zero_shot: false}\n"
    )
    run = fit(load_recipe(recipe), tmp_path / "run", progress=False)
    assert list(run.folds.values()) == ["run 1", "run 2", "run 3", "run 4"]
    result = evaluate(run, progress=False)
    assert result.table.groupby("fold").size().to_dict() == dict.fromkeys(run.folds.values(), 3)
    assert result.chance == pytest.approx(1 / 3)
    assert result.top1 == 1.0
    assert result.protocol.split_rule == "intra-subject; leave one run out"
    control = load_recipe(recipe, ["evaluation.shuffle_labels=0"])
    shuffled = evaluate(fit(control, tmp_path / "control", progress=False), progress=False)
    assert shuffled.top1 < 0.8


def test_pairs_of_concepts_are_held_out_in_turn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(["cat", "house", "shoe", "chair"], 6)
    signals = rng.normal(size=(24, 12))
    Recording.from_arrays(signals, {"stimulus": labels}, modality="fmri").save(tmp_path / "fmri")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: pairs\n"
        "data: {kind: recording, path: fmri}\n"
        "features: {kind: onehot}\n"
        "split: {kind: concept_pairs}\n"
        "method: {name: ridge}\n"
    )
    sources = load_sources(load_recipe(recipe), progress=False)
    assert [fold.label for fold in sources.folds][:2] == ["cat / chair", "cat / house"]
    for fold in sources.folds:
        assert set(fold.train.concepts) | set(fold.test.concepts) == set(labels)
        assert not set(fold.train.concepts) & set(fold.test.concepts)


def test_predictions_of_unlabelled_trials(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    recording = Recording.load(tiny.parent / "eeg").select(subject="01", split="test")
    bank = FeatureBank.load(tiny.parent / "bank")
    gallery = bank.select(recording.stimuli)
    path = tmp_path / "new.npz"
    np.savez(path, signals=recording.signals, sfreq=100, channel_names=recording.channel_names)
    table = predict(fitted, path, gallery, top=3, fold="fold-01", progress=False)
    assert list(table.columns) == ["trial", "rank", "stimulus", "concept", "score", "confidence"]
    assert table["confidence"].isna().all()  # ridge holds no concepts out
    assert len(table) == 3 * recording.n_trials
    assert (table["rank"] == [1, 2, 3] * recording.n_trials).all()
    assert (table.groupby("trial")["score"].diff().dropna() <= 0).all()
    first = table.loc[table["rank"] == 1, "stimulus"].to_numpy()
    assert (first == recording.trials["stimulus"].to_numpy()).mean() > 0.5
    # Epochs of MNE and the saved recording give the same answer, whatever their labels say.
    recording.save(tmp_path / "saved")
    recording.to_epochs().save(tmp_path / "new-epo.fif", verbose="ERROR")
    for other in (tmp_path / "saved", tmp_path / "new-epo.fif"):
        same = predict(fitted, other, gallery, top=3, fold="fold-01", progress=False)
        pd.testing.assert_frame_equal(same, table, check_exact=False, atol=1e-5)


def test_predictions_of_a_run_that_held_concepts_out_have_confidence(
    tiny: Path, tmp_path: Path
) -> None:
    run = fit(load_recipe(tiny, NICE), tmp_path / "run", progress=False)
    where = (tiny.parent / "eeg", tiny.parent / "bank")
    plain = predict(run, *where, top=55, progress=False)
    assert plain.groupby("trial")["confidence"].sum().to_numpy() == pytest.approx(1)
    threshold = float(plain.loc[plain["rank"] == 1, "confidence"].median())
    table = predict(run, *where, top=55, abstain_below=threshold, progress=False)
    pd.testing.assert_frame_equal(table.drop(columns="withheld"), plain)
    best = table[table["rank"] == 1]
    assert (best["withheld"] == (best["confidence"] < threshold)).all()
    assert 0 < best["withheld"].sum() < len(best)
    assert (table["withheld"].to_numpy() == np.repeat(best["withheld"].to_numpy(), 55)).all()


def test_nothing_is_withheld_without_confidence(fitted: Path, tiny: Path) -> None:
    where = (tiny.parent / "eeg", tiny.parent / "bank")
    with pytest.raises(NotFittedError, match="no confidence"):
        predict(fitted, *where, fold="fold-01", abstain_below=0.3, progress=False)


def test_a_prediction_with_several_decoders_asks_which(fitted: Path, tiny: Path) -> None:
    with pytest.raises(RecipeError, match="2 decoders: say which") as caught:
        predict(fitted, tiny.parent / "eeg", tiny.parent / "bank", progress=False)
    assert "fold-01 (subject 01), fold-02 (subject 02)" in str(caught.value)
    where = (tiny.parent / "eeg", tiny.parent / "bank")
    by_name = predict(fitted, *where, fold="fold-02", progress=False)
    pd.testing.assert_frame_equal(by_name, predict(fitted, *where, fold="subject 02"))


def test_a_gallery_of_another_space_is_refused(fitted: Path, tiny: Path) -> None:
    other = FeatureBank.from_arrays(["a", "b"], {"original": np.eye(2, 6)})
    with pytest.raises(SpaceMismatchError):
        predict(fitted, tiny.parent / "eeg", other, fold="fold-01", progress=False)


def test_pictures_need_a_registered_encoder(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="encoder 'fake'"):
        predict(fitted, tiny.parent / "eeg", tmp_path, fold="fold-01", progress=False)

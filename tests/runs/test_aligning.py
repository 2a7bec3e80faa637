"""The study of aligned vectors: what it computes, writes, continues and refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.data.recording import Recording
from phosphene.errors import DataError, LeakError
from phosphene.evaluation.rsm import similarity_matrix
from phosphene.methods.alignment_table import ROWS
from phosphene.methods.brain_alignment import BrainAligner
from phosphene.runs import aligning
from phosphene.runs._alignment_simulated import SimulatedAlignment
from phosphene.runs._alignment_study import ALPHAS, AlignmentStudy, Choices, responses
from phosphene.runs.aligning import align_demo, candidate_bank
from phosphene.runs.aligning_files import verdicts
from phosphene.simulation.multimodal import MultimodalStudy, simulate_multimodal
from phosphene.simulation.scene import make_scene
from phosphene.simulation.world import get_world
from phosphene.stimuli.bank import FeatureBank

N_TRAIN, N_TEST, N_WRONG = 40, 10, 30
PEOPLE: dict[Any, int] = {"fmri": 3, "meg": 2, "ecog": 2}
SMALL: dict[str, Any] = {
    "driver_layer": "driver", "target_layer": "target", "early_uv": 0.0, "meaning_uv": 0.0,
    "object_dims": 10, "train_concepts": N_TRAIN, "train_exemplars": 1, "test_concepts": N_TEST,
    "voxels_per_roi": 12, "sfreq": 50.0, "n_times": 20, "test_repetitions": 30,
}  # fmt: skip


def bank(names: list[str], seed: int, layers: Any = ("driver", "target")) -> FeatureBank:
    """Pictures of concepts: driver and target are mixtures of the same content."""
    content = np.random.default_rng(seed).standard_normal((len(names), 12))
    mix = np.random.default_rng(99)
    mixed = {
        ("original", layer): content @ mix.standard_normal((12, 20)) + mix.standard_normal(20)
        for layer in ("driver", "target")
    }
    ids = [f"{name}/{name}_1.png" for name in names]
    wanted = {key: vectors for key, vectors in mixed.items() if key[1] in layers}
    return FeatureBank.from_arrays(ids, wanted)


def make_study(**overrides: Any) -> MultimodalStudy:
    world = get_world("multimodal-quick", **{**SMALL, **overrides})
    scene = make_scene(world, bank=bank([f"c{i:02d}" for i in range(N_TRAIN + N_TEST)], 0))
    return simulate_multimodal(world, subjects=PEOPLE, scene=scene, averaged=True, progress=False)


@pytest.fixture(scope="module")
def study() -> MultimodalStudy:
    return make_study()


@pytest.fixture(scope="module")
def candidates() -> FeatureBank:
    return bank([f"w{i:02d}" for i in range(N_WRONG)], 1, ["target"])


@pytest.fixture(scope="module")
def done(
    study: MultimodalStudy, candidates: FeatureBank, tmp_path_factory: pytest.TempPathFactory
) -> aligning.AlignmentOutcome:
    folder = tmp_path_factory.mktemp("align") / "out"
    return align_demo(folder, quick=True, study=study, candidates=candidates)


def test_the_table_has_every_control_of_every_modality_with_intervals(
    done: aligning.AlignmentOutcome,
) -> None:
    table = pd.read_csv(done.folder / "alignment.csv")
    assert list(dict.fromkeys(table["row"])) == ["aligned", "autoencoder", "residual", *ROWS[1:]]
    assert set(table["modality"]) == set(PEOPLE)
    assert len(table) == 3 * 9 * 5
    assert (table["low"] < table["mean"]).all()
    assert (table["mean"] < table["high"]).all()
    controls = table[table["row"] != "aligned"]
    assert (controls["gain_low"] <= controls["gain"]).all()
    wide = table.pivot_table(index=["modality", "row"], columns="score", values=["mean", "gain"])
    aligned = wide["mean", "identification"].xs("aligned", level="row")
    for (modality, row), line in wide.iterrows():  # type: ignore[misc]
        if row != "aligned":
            gap = aligned[modality] - line["mean", "identification"]
            assert line["gain", "identification"] == pytest.approx(gap, abs=1e-4)
    # The people respond to what the vectors hold: everything that centres finds it.
    assert wide["mean", "identification"].xs("centred", level="row").min() > 0.6


def decoded_by_hand(units: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Ridge regression with an intercept, by the normal equations of the units."""
    x, centre = units[:N_TRAIN], targets[:N_TRAIN].mean(axis=0)
    weights = np.linalg.solve(
        x.T @ x + 100 * np.eye(x.shape[1]), x.T @ (targets[:N_TRAIN] - centre)
    )
    return units[N_TRAIN:] @ weights + centre


def share_by_hand(decoded: np.ndarray, true: np.ndarray, wrong: np.ndarray) -> list[float]:
    found = []
    for p, t in zip(decoded, true, strict=True):
        own = np.corrcoef(p, t)[0, 1]
        found.append(float(np.mean([np.corrcoef(p, c)[0, 1] < own for c in wrong])))
    return found


def names_of(study: MultimodalStudy) -> list[str]:
    return [*study.concepts("train"), *study.concepts("test")]


def vectors_of(study: MultimodalStudy) -> np.ndarray:
    return study.bank.vectors("original", ids=ids_of(study)).astype(float)


def ids_of(study: MultimodalStudy) -> list[str]:
    return [f"{name}/{name}_1.png" for name in names_of(study)]


def units_by_hand(study: MultimodalStudy, recording: Recording) -> np.ndarray:
    order = {stimulus: i for i, stimulus in enumerate(recording.trials["stimulus"])}
    x = np.asarray(recording.signals)[[order[id] for id in ids_of(study)]].astype(float)
    if x.ndim == 3:  # windows of 50 ms: at 50 Hz the nearest are two samples
        x = x.reshape(len(x), x.shape[1], -1, 2).mean(axis=3).reshape(len(x), -1)
    return (x - x[:N_TRAIN].mean(axis=0)) / x[:N_TRAIN].std(axis=0)


def aligner_without(
    study: MultimodalStudy, subject: str, region: str, alpha: Any = ALPHAS
) -> BrainAligner:
    brain = {
        s: similarity_matrix(units_by_hand(study, one.pick(roi=region))[:N_TRAIN])
        for s, one in study.recordings("fmri").items()
        if s != subject
    }
    assert len(brain) == (2 if subject.startswith("fmri") else 3)
    return BrainAligner(alpha=alpha).fit(vectors_of(study)[:N_TRAIN], brain)


@pytest.mark.parametrize(("modality", "subject"), [("fmri", "fmri-02"), ("meg", "meg-01")])
def test_scores_are_those_of_an_aligner_that_never_saw_the_person(
    done: aligning.AlignmentOutcome,
    study: MultimodalStudy,
    candidates: FeatureBank,
    modality: str,
    subject: str,
) -> None:
    y, wrong = vectors_of(study), candidates.vectors("original").astype(float)
    one = study.recordings(modality)[subject]
    units = units_by_hand(study, one.pick(roi="V4") if modality == "fmri" else one)
    aligner = aligner_without(study, subject, "V4")
    queries = done.findings.queries
    mine = queries[(queries["subject"] == subject) & (queries["modality"] == modality)]
    for row, z, w in (
        ("original", y, wrong),
        ("aligned", aligner.transform(y), aligner.transform(wrong)),
    ):
        expected = share_by_hand(decoded_by_hand(units, z), z[N_TRAIN:], w)
        part = mine[mine["row"] == row].set_index("stimulus").loc[names_of(study)[N_TRAIN:]]
        # A tie in rounding moves one candidate.
        np.testing.assert_allclose(part["identification"], expected, atol=1.01 / N_WRONG)
        assert np.mean(part["identification"] - expected) == pytest.approx(0.0, abs=2e-3)


def test_the_grid_and_the_matrices_leave_the_person_out(
    done: aligning.AlignmentOutcome, study: MultimodalStudy, candidates: FeatureBank
) -> None:
    y, wrong = vectors_of(study), candidates.vectors("original").astype(float)
    grid = done.findings.grid.set_index(["region", "column", "subject"])
    one = aligner_without(study, "fmri-02", "FFA", 0.01)
    z, w = one.transform(y), one.transform(wrong)
    units = units_by_hand(study, study.recordings("fmri")["fmri-02"].pick(roi="FFA"))
    decoded = decoded_by_hand(units, z)
    cell = grid.loc[("FFA", "alpha=0.01", "fmri-02")]
    expected = np.mean(share_by_hand(decoded, z[N_TRAIN:], w))
    assert cell["identification"] == pytest.approx(expected, abs=2e-3)
    pairs = zip(decoded, z[N_TRAIN:], strict=True)
    expected = np.mean([np.corrcoef(p, t)[0, 1] for p, t in pairs])
    assert cell["correlation"] == pytest.approx(expected, abs=1e-4)
    after = done.findings.rsms[next(name for name in done.findings.rsms if "after" in name)]
    z = aligner_without(study, "fmri-01", "V4").transform(y)[N_TRAIN:]
    # In the order of a tree: the same pairs, elsewhere.
    np.testing.assert_allclose(
        np.sort(after, axis=None), np.sort(similarity_matrix(z), axis=None), atol=1e-4
    )


def test_the_grid_has_every_region_at_every_alpha_and_its_controls(
    done: aligning.AlignmentOutcome,
) -> None:
    grid = done.findings.grid
    assert set(grid["region"]) == {"V1", "V2", "V3", "V4", "LOC", "FFA", "PPA"}
    assert list(dict.fromkeys(grid["column"])) == [
        *(f"alpha={alpha:g}" for alpha in ALPHAS), "original", "centred", "whitened",
    ]  # fmt: skip
    assert (grid.groupby(["region", "column"])["subject"].nunique() == 3).all()
    # In V4 a control of the grid is that of the table: the same vectors, the same people.
    table = done.findings.summary.set_index(["modality", "row", "score"])["mean"]
    for score in ("identification", "correlation"):
        mine = grid[(grid["region"] == "V4") & (grid["column"] == "centred")][score].mean()
        assert mine == pytest.approx(table["fmri", "centred", score], abs=1e-9)


def test_the_report_is_one_file_that_says_simulated(
    done: aligning.AlignmentOutcome, study: MultimodalStudy
) -> None:
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "SIMULATED DATA" in page
    assert "simulated data: these are not measurements of a brain" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count("<figure>") == 7
    for words in ("Region and alpha", "whitened", "chance .5", "MEG, 2 people", "Licences"):
        assert words in page
    for concept in study.concepts("test"):  # every one is named
        assert f"<td>{concept}</td>" in page
    assert (done.folder / "manifest.json").is_file()


def test_the_command_prints_the_table_and_what_follows(
    done: aligning.AlignmentOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def finished(out: Path, **options: Any) -> aligning.AlignmentOutcome:
        asked.update(options, out=out)
        return done

    monkeypatch.setattr(aligning, "align_demo", finished)
    words = ["align", "--demo", "--quick", "--out", str(tmp_path), "--seed", "3"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 0, ended.output
    assert (asked["quick"], asked["seed"], asked["out"]) == (True, 3, tmp_path)
    for modality in ("fMRI", "MEG", "ECoG"):
        assert f"SIMULATED DATA: world 'multimodal-quick', seed 0: {modality}" in ended.stdout
        assert f"{modality}, identification:" in ended.stdout
    table = [line for line in ended.stdout.splitlines() if line.startswith("whitened")]
    assert len(table) == 3
    assert all(line.count("[") == 5 for line in table)
    value = done.findings.summary.set_index(["modality", "row", "score"]).loc[
        ("fmri", "whitened", "identification"), "mean"
    ]
    assert table[0].split()[1] == f"{value:.3f}"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_interrupted_run_continues_to_the_same_files(
    done: aligning.AlignmentOutcome, study: MultimodalStudy, candidates: FeatureBank
) -> None:
    before = contents(done.folder)
    for name in ("report.html", "alignment.csv", "parts/meg-words.csv", "parts/region-V2-grid.csv"):
        (done.folder / name).unlink()
    damaged = done.folder / "parts" / "ecog-queries.csv"
    damaged.write_bytes(damaged.read_bytes()[:200])
    said: list[str] = []
    align_demo(done.folder, quick=True, study=study, candidates=candidates, say=said.append)
    fresh = {line.split("] ")[1].split(" (")[0] for line in said if "was done before" not in line}
    assert fresh == {"meg", "ecog", "region V2"}
    assert contents(done.folder) == before


def test_other_settings_start_anew(
    tmp_path: Path, study: MultimodalStudy, candidates: FeatureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: AlignmentStudy, region: str) -> pd.DataFrame:
        raise KeyboardInterrupt

    monkeypatch.setattr(AlignmentStudy, "region", stop)
    fresh: list[int] = []
    for seed in (0, 0, 1):
        said: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            align_demo(
                tmp_path, quick=True, seed=seed, study=study, candidates=candidates,
                say=said.append,
            )  # fmt: skip
        fresh.append(sum("was done before" not in line for line in said))
    assert fresh == [3, 0, 3]


def test_the_decoder_is_the_one_asked_for(study: MultimodalStudy, candidates: FeatureBank) -> None:
    """Least squares on five voxels, by hand."""
    choices = Choices(draws=1, others={}, decoder="ols", voxels=5)
    about = SimulatedAlignment(study, candidates, choices)
    queries = about.modality("fmri")["queries"]
    chosen = (queries["row"] == "original") & (queries["subject"] == "fmri-02")
    mine = queries[chosen].set_index("stimulus").loc[names_of(study)[N_TRAIN:]]
    x = units_by_hand(study, study.recordings("fmri")["fmri-02"].pick(roi="V4"))
    y = vectors_of(study)
    decoded = np.empty((N_TEST, y.shape[1]))
    for unit, target in enumerate(y[:N_TRAIN].T):
        r = [abs(np.corrcoef(column, target)[0, 1]) for column in x[:N_TRAIN].T]
        some = np.argsort(r)[-5:]
        design = np.column_stack([np.ones(len(x)), x[:, some]])
        weights = np.linalg.lstsq(design[:N_TRAIN], target, rcond=None)[0]
        decoded[:, unit] = design[N_TRAIN:] @ weights
    expected = [np.corrcoef(p, t)[0, 1] for p, t in zip(decoded, y[N_TRAIN:], strict=True)]
    np.testing.assert_allclose(mine["correlation"], expected, rtol=1e-5)
    assert "least-squares decoder, 5 voxels" in str(about.protocol("fmri").method)


def test_without_a_signal_nothing_is_identified_and_nothing_claimed(
    candidates: FeatureBank,
) -> None:
    from phosphene.runs.aligning_files import summarise

    about = SimulatedAlignment(make_study(signal=0.0), candidates, Choices(draws=2, others={}))
    found = about.modality("fmri")
    summary = summarise(found["queries"], found["subjects"], "fmri")
    chosen = summary[summary["score"] == "identification"].set_index("row")["mean"]
    # 30 queries of which ten share a category: four standard errors are about .2.
    assert chosen.between(0.3, 0.7).all(), chosen
    assert all(line.endswith("not beyond every control.") for line in verdicts(summary, "fmri"))


def test_verdicts_follow_the_intervals() -> None:
    lines = [
        {"row": row, "mean": 0.7, "gain": gain, "gain_low": gain - 0.1, "gain_high": gain + 0.1}
        for row, gain in (("aligned", np.nan), ("original", 0.3), ("pca", 0.05), ("centred", -0.2))
    ]
    table = pd.DataFrame(lines).assign(modality="meg", score="identification")
    summary = pd.concat([table, table.assign(score="correlation", gain_low=0.1, gain_high=0.2)])
    one, other = verdicts(summary, "meg")
    assert "MEG, identification: 0.700 aligned" in one
    assert one.endswith(
        "above original; below centred; not told apart from pca: not beyond every control."
    )
    assert other.endswith("above original, pca, centred.")


def test_constant_units_are_left_out_and_nothing_but_constant_ones_is_refused() -> None:
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((8, 5)).astype(np.float32)
    signals[:6, 2] = 3.0  # constant in training, where it counts
    table = {"stimulus": [f"s{i}" for i in range(8)], "subject": ["a"] * 8}
    names = table["stimulus"]
    found = responses(Recording.from_arrays(signals, table, modality="fmri"), names, 6)
    assert found.shape == (8, 4)
    np.testing.assert_allclose(found[:6].std(axis=0), 1.0)
    signals[:6] = 3.0
    with pytest.raises(DataError, match="constant"):
        responses(Recording.from_arrays(signals, table, modality="fmri"), names, 6)


def test_bad_input_is_refused_before_anything_is_computed(
    tmp_path: Path, study: MultimodalStudy, candidates: FeatureBank
) -> None:
    with pytest.raises(DataError, match="unknown decoder"):
        align_demo(tmp_path / "a", study=study, candidates=candidates, decoder="lasso")  # type: ignore[arg-type]
    with pytest.raises(LeakError, match="candidates") as leak:
        align_demo(tmp_path / "a", study=study, candidates=study.bank)
    assert "c00" in str(leak.value)
    with pytest.raises(DataError, match="together"):
        align_demo(tmp_path / "b", study=study)
    alone = MultimodalStudy(study.scene, {"meg": study.studies["meg"]})
    with pytest.raises(DataError, match="fMRI"):
        align_demo(tmp_path / "c", study=alone, candidates=candidates)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        align_demo(tmp_path / "file")
    few = make_study(train_concepts=19)
    with pytest.raises(DataError, match="too few categories"):
        align_demo(tmp_path / "d", study=few, candidates=candidates)


def test_candidates_are_of_concepts_that_nobody_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def extract(stimuli: Any, encoder: Any, views: Any, layers: Any, **more: Any) -> Any:
        asked.update(table=stimuli.table, encoder=encoder, views=views, layers=layers)

    monkeypatch.setattr(FeatureBank, "extract", extract)
    world = get_world("multimodal-quick")
    candidate_bank(world, [], 12, progress=False)
    first = set(asked["table"]["concept"])
    candidate_bank(world, list(first)[:5], 12, progress=False)
    assert len(first) == len(set(asked["table"]["concept"])) == 12
    assert not set(list(first)[:5]) & set(asked["table"]["concept"])
    assert (asked["encoder"], asked["views"]) == (world.encoder, ("original",))
    assert asked["layers"] == (world.target_layer,)

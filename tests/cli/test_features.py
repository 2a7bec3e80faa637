"""`phosphene features` and the contact sheet, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.stimuli.bank import FeatureBank

runner = CliRunner()


def invoke(*words: object) -> Any:
    return runner.invoke(app, [str(word) for word in words])


def refused(*words: object) -> str:
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.stderr
    return str(result.stderr)


def width_of(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.width


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOSPHENE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for name in ("cat/cat_1.png", "cat/cat_2.png", "cup/cup_1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_extract_info_verify_similarity(pictures: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    words = ("features", "extract", "--stimuli", pictures, "--encoder", "efficientnet-lite0",
             "--views", "original", "fovea(k=21)", "mean_of(original,gaussian(k=9))",
             "--layers", "pool", "block3", "--precision", "fp32", "--out", bank)  # fmt: skip
    first = invoke(*words)
    assert first.exit_code == 0, first.output
    assert "9 pass(es) of the encoder" in first.stdout  # three pictures, three rendered views
    again = invoke(*words)
    assert "0 pass(es) of the encoder" in again.stdout
    saved = FeatureBank.load(bank)
    assert saved.layers == ("pool", "block3")
    assert saved.views[1] == "fovea(k=21,g=3,peak=0.5)"

    shown = invoke("features", "info", bank)
    assert shown.exit_code == 0, shown.output
    for word in ("efficientnet-lite0", "pool (1280)", "fovea(k=21,g=3,peak=0.5)", "float32"):
        assert word in shown.stdout
    facts = json.loads(invoke("features", "info", bank, "--json").stdout)
    assert facts["layers"] == {"pool": 1280, "block3": 24}
    assert facts["hash"] == saved.hash

    verified = invoke("features", "verify", bank, "--stimuli", pictures, "--sample", 4)
    assert verified.exit_code == 0, verified.output
    assert "vectors: passed (4 compared" in verified.stdout
    as_json = json.loads(invoke("features", "verify", bank, "--json").stdout)
    assert as_json["passed"]
    assert {check["what"]: check["outcome"] for check in as_json["checks"]}["vectors"] == (
        "not checkable"
    )

    figure = tmp_path / "map.png"
    drawn = invoke("features", "similarity", bank, "--stimuli", pictures, "--out", figure,
                   "--probe", "cat/cat_1.png", "cup/cup_1.png", "-k", 1)  # fmt: skip
    assert drawn.exit_code == 0, drawn.output
    assert width_of(figure) > 500
    assert len([line for line in drawn.stdout.splitlines() if "/" in line]) >= 2


def test_verify_finds_what_was_changed(pictures: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    assert invoke("features", "extract", "--stimuli", pictures, "--out", bank).exit_code == 0
    Image.new("RGB", (40, 40)).save(pictures / "cat" / "cat_2.png")
    changed = invoke("features", "verify", bank, "--stimuli", pictures)
    assert changed.exit_code == 1
    assert "cat/cat_2.png" in changed.stdout
    vectors = sorted(bank.glob("*.npy"))[0]
    data = bytearray(vectors.read_bytes())
    data[-3] ^= 1
    vectors.write_bytes(data)
    assert vectors.name in refused("features", "verify", bank)
    assert vectors.name in refused("features", "info", bank)


def test_broken_pictures_stop_or_are_left_out(pictures: Path, tmp_path: Path) -> None:
    (pictures / "cup" / "cup_2.png").write_bytes(b"no picture")
    words = ("features", "extract", "--stimuli", pictures, "--out", tmp_path / "bank")
    assert "cup_2.png" in refused(*words)
    result = invoke(*words, "--skip-broken")
    assert result.exit_code == 0, result.output
    assert "left out cup/cup_2.png" in result.stdout
    assert len(FeatureBank.load(tmp_path / "bank")) == 3


def test_pictures_may_be_listed_in_a_csv(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("stimulus,path\nfirst,pictures/cat/cat_1.png\n")
    result = invoke("features", "extract", "--stimuli", table, "--out", tmp_path / "bank",
                    "--dtype", "float16")  # fmt: skip
    assert result.exit_code == 0, result.output
    bank = FeatureBank.load(tmp_path / "bank")
    assert bank.ids == ["first"]
    assert next(iter(bank.arrays.values())).dtype == np.float16


def test_wrong_words_are_answered(pictures: Path, tmp_path: Path) -> None:
    extract = ("features", "extract", "--out", tmp_path / "bank", "--stimuli")
    assert "no pictures at" in refused(*extract, tmp_path / "nowhere")
    assert "list of pictures" in refused(*extract, pictures / "cat" / "cat_1.png")
    assert "fovea" in refused(*extract, pictures, "--views", "fovia")
    assert "pool" in refused(*extract, pictures, "--layers", "pol")
    assert "efficientnet-lite0" in refused(*extract, pictures, "--encoder", "efficientnet")
    assert "'k'" in refused(*extract, pictures, "--views", "fovea(kk=3)")
    for command in ("info", "verify", "similarity"):
        assert "no saved FeatureBank" in refused("features", command, tmp_path / "nowhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    words = ("features", "extract", "--stimuli", pictures, "--out", tmp_path / "mine")
    assert "did not write" in refused(*words)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "bank").exists()


def test_contact_sheet(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    picture = pictures / "cat" / "cat_1.png"
    result = invoke("list", "views", "--figure", out, "--picture", picture)
    assert result.exit_code == 0, result.output
    assert width_of(out) > 800
    assert "mean_of" in result.stdout
    assert ".png" in refused("list", "views", "--figure", tmp_path / "sheet.xyz")
    assert "views" in refused("list", "methods", "--figure", out)
    assert "does not exist" in refused("list", "views", "--figure", out, "--picture", "no.png")


def test_feature_files_of_others_go_in_and_banks_come_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 5)).astype(np.float32)
    np.save(tmp_path / "theirs.npy", vectors[:, None])
    (tmp_path / "ids.txt").write_text("cat/1.png\ncat/2.png\ncup/1.png\n")
    bank = tmp_path / "bank"
    words = (
        "features",
        "import",
        tmp_path / "theirs.npy",
        "--encoder",
        "clip ViT-L/14",
        "--out",
        bank,
    )
    result = invoke(*words, "--ids", tmp_path / "ids.txt", "--layer", "embedding")
    assert result.exit_code == 0, result.output
    saved = FeatureBank.load(bank)
    np.testing.assert_array_equal(saved.vectors("original", ids=["cup/1.png"])[0], vectors[2])
    assert saved.provenance["kind"] == "foreign"
    verified = invoke("features", "verify", bank)
    assert verified.exit_code == 0
    assert "not checkable" in verified.stdout
    assert "ids" in refused(*words)
    assert "ids cannot be read" in refused(*words, "--ids", tmp_path / "nowhere.txt")
    out = tmp_path / "bank.npz"
    assert invoke("features", "export", bank, "--out", out).exit_code == 0
    with np.load(out) as file:
        np.testing.assert_array_equal(file["original/embedding"], vectors)
        assert file["ids"].tolist() == saved.ids

    np.savez(tmp_path / "dict.npz", low=vectors, high=-vectors)
    keyed = ("features", "import", tmp_path / "dict.npz", "--encoder", "x", "--out",
             tmp_path / "b2", "--ids", tmp_path / "ids.txt")  # fmt: skip
    assert invoke(*keyed, "--key", "high").exit_code == 0
    np.testing.assert_array_equal(FeatureBank.load(tmp_path / "b2").vectors("original"), -vectors)
    assert "low" in refused(*keyed, "--key", "middle")

"""Verification of a bank: every kind of lie is found, and what cannot be checked is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from phosphene import _registry
from phosphene._manifest import write_manifest
from phosphene.data.stimuli import StimulusSet
from phosphene.stimuli.bank import FeatureBank

Extract = Callable[..., FeatureBank]
Kit = SimpleNamespace
VIEWS = ["original", "noise", "mean_of(original,gaussian(k=5))"]


def outcomes(report: Any) -> dict[str, str]:
    return {check.what: check.outcome for check in report.checks}


def message(report: Any, what: str) -> str:
    (check,) = [check for check in report.checks if check.what == what]
    return str(check.message)


@pytest.fixture
def saved(kit: Kit, extract: Extract, tmp_path: Path) -> Callable[..., FeatureBank]:
    def make(stimuli: StimulusSet | None = None, **more: Any) -> FeatureBank:
        stimuli = kit.pictures(6) if stimuli is None else stimuli
        options: dict[str, Any] = {"views": VIEWS, "layers": ["early", "late"], **more}
        model = kit.encoder(kit.Network())
        return extract(stimuli, model, **options, out=tmp_path / "bank")

    return make


def test_a_good_bank_passes(kit: Kit, saved: Callable[..., FeatureBank]) -> None:
    bank, model = saved(), kit.encoder(kit.Network())
    report = bank.verify(kit.pictures(6), model, sample=1000)
    assert report.passed
    assert report.complete
    assert outcomes(report) == dict.fromkeys(
        ("files", "content", "pictures", "encoder", "vectors"), "passed"
    )
    last = report.checks[-1]
    assert last.compared == 6 * 3 * 2
    assert last.worst is not None
    assert last.worst < 1e-5
    assert "nothing wrong" in str(report)
    # Another order, longer paths: pictures are found by id.
    shuffled = kit.pictures(6).select(kit.pictures(6).ids[::-1])
    assert bank.verify(shuffled, model).passed


def test_half_precision_passes_within_its_rounding(
    kit: Kit, saved: Callable[..., FeatureBank]
) -> None:
    report = saved(dtype="float16").verify(kit.pictures(6), kit.encoder(kit.Network()), sample=99)
    assert report.passed
    assert 1e-6 < report.checks[-1].worst < 1e-3


def test_the_sample_depends_on_the_seed_only(kit: Kit, saved: Callable[..., FeatureBank]) -> None:
    def seen(seed: int) -> list[list[float]]:
        network = kit.Network()
        means: list[list[float]] = []
        model = kit.encoder(
            lambda x: means.extend(x.mean((1, 2, 3)).tolist()) or network(x),
            weights_hash=bank.provenance["encoder"]["weights_hash"],
        )
        assert bank.verify(kit.pictures(6), model, sample=3, seed=seed).passed
        return sorted(means)

    bank = saved()
    assert seen(0) == seen(0)
    assert len({str(seen(seed)) for seed in range(5)}) > 1


def test_a_changed_file_of_the_bank_is_found(
    kit: Kit, saved: Callable[..., FeatureBank], tmp_path: Path
) -> None:
    bank = saved()
    file = tmp_path / "bank" / "vectors-001.npy"
    content = bytearray(file.read_bytes())
    content[-4] ^= 1
    file.write_bytes(content)
    report = bank.verify(kit.pictures(6), kit.encoder(kit.Network()))
    assert not report.passed
    assert outcomes(report)["files"] == "failed"
    assert file.name in message(report, "files")
    assert "not what it says" in str(report)


def test_an_edited_bank_with_a_new_manifest_is_found(
    kit: Kit, saved: Callable[..., FeatureBank], tmp_path: Path
) -> None:
    bank = saved()
    where = list(bank.arrays).index(("noise(std=25)", "late"))
    file = tmp_path / "bank" / f"vectors-{where:03d}.npy"
    array = np.load(file)
    array[3] *= 1.01
    np.save(file, array)
    write_manifest(tmp_path / "bank")
    loaded = FeatureBank.load(tmp_path / "bank")
    report = loaded.verify(kit.pictures(6), kit.encoder(kit.Network()), sample=1000)
    assert outcomes(report) == {
        "files": "passed",
        "content": "failed",
        "pictures": "passed",
        "encoder": "passed",
        "vectors": "failed",
    }
    assert f"{bank.ids[3]} / noise(std=25) / late" in message(report, "vectors")
    assert report.checks[-1].worst == pytest.approx(0.01, rel=1e-2)


def test_vectors_of_another_view_or_picture_are_found(
    kit: Kit, saved: Callable[..., FeatureBank]
) -> None:
    bank = saved()
    arrays = {pair: np.array(array) for pair, array in bank.arrays.items()}
    swapped = dict(arrays)
    swapped["original", "late"] = arrays["noise(std=25)", "late"]
    rows = dict(arrays)
    rows["original", "late"] = arrays["original", "late"][[1, 0, 2, 3, 4, 5]]
    for wrong in (swapped, rows):
        report = replace(bank, arrays=wrong).verify(
            kit.pictures(6), kit.encoder(kit.Network()), sample=1000
        )
        assert outcomes(report)["vectors"] == "failed"
        assert "/ original / late" in message(report, "vectors")
        assert outcomes(report)["files"] == "not checkable"  # no longer the bank of the folder


def test_changed_and_missing_pictures_are_found(
    kit: Kit, saved: Callable[..., FeatureBank], tmp_path: Path
) -> None:
    from PIL import Image

    stimuli = kit.picture_files(tmp_path / "images", 4)
    bank, model = saved(stimuli), kit.encoder(kit.Network())
    assert bank.verify(stimuli, model).passed
    Image.fromarray(np.full((12, 12, 3), 9, np.uint8)).save(tmp_path / "images" / stimuli.ids[2])
    report = bank.verify(stimuli, model, sample=1000)  # the same set, which remembers its hashes
    assert outcomes(report)["pictures"] == outcomes(report)["vectors"] == "failed"
    assert "content changed: " + stimuli.ids[2] in message(report, "pictures")
    (tmp_path / "images" / stimuli.ids[2]).unlink()
    report = bank.verify(stimuli, model, sample=1000)
    assert f"unreadable: {stimuli.ids[2]}" in message(report, "pictures")
    assert f"{stimuli.ids[2]} / original / late: unreadable" in message(report, "vectors")
    fewer = bank.verify(stimuli.select(stimuli.ids[:2]), model)
    assert outcomes(fewer)["pictures"] == "failed"
    assert stimuli.ids[3] in message(fewer, "pictures")
    assert outcomes(fewer)["vectors"] == "not checkable"


@pytest.mark.parametrize("change", ["weights", "precision", "id"])
def test_another_encoder_is_found(kit: Kit, saved: Callable[..., FeatureBank], change: str) -> None:
    model = {
        "weights": kit.encoder(kit.Network(seed=1)),
        "precision": kit.encoder(kit.Network(), precision="bf16"),
        "id": kit.encoder(kit.Network(), "tiny-2"),
    }[change]
    report = saved().verify(kit.pictures(6), model)
    assert outcomes(report)["encoder"] == "failed"
    assert change in message(report, "encoder")
    assert outcomes(report)["vectors"] == "not checkable"
    assert not report.passed


def test_an_encoder_is_made_again_from_its_name(
    kit: Kit, saved: Callable[..., FeatureBank], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = saved()
    report = bank.verify(kit.pictures(6))
    assert outcomes(report)["encoder"] == outcomes(report)["vectors"] == "not checkable"
    assert "give the encoder" in message(report, "encoder")
    assert report.passed
    assert not report.complete
    assert "could not be made" in str(report)

    def make(precision: str, device: str) -> Any:
        assert precision == "fp32"  # the recorded one, not what this machine prefers
        return kit.encoder(kit.Network())

    _registry.names("image_encoder")
    known = _registry._entries["image_encoder"]
    entry = _registry.Entry("image_encoder", "tiny", make)
    monkeypatch.setitem(known, "tiny", entry)
    assert bank.verify(kit.pictures(6)).complete


def test_other_versions_are_mentioned(
    kit: Kit, saved: Callable[..., FeatureBank], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = saved()
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    report = bank.verify(kit.pictures(6), kit.encoder(kit.Network()))
    assert report.passed
    assert "checked with 0.0.1" in message(report, "encoder")


def test_foreign_vectors_are_not_checkable_and_never_passed(kit: Kit, tmp_path: Path) -> None:
    bank = FeatureBank.from_arrays(
        ["a/a_01"], {"original": np.ones((1, 3))}, provenance={"kind": "foreign"}
    )
    report = bank.verify(kit.pictures(2))
    assert set(outcomes(report).values()) == {"not checkable", "failed"}
    assert outcomes(report)["pictures"] == "failed"  # there is no picture of this name
    bank.save(tmp_path / "bank")
    loaded = FeatureBank.load(tmp_path / "bank").verify()
    assert outcomes(loaded) == {
        "files": "passed",
        "content": "passed",
        "pictures": "not checkable",
        "encoder": "not checkable",
        "vectors": "not checkable",
    }
    assert "'foreign'" in message(loaded, "vectors")
    assert "3 of 5 checks could not be made" in str(loaded)


def test_text_banks_are_computed_again_from_their_texts() -> None:
    class Letters:
        id = "letters"
        weights_hash = "v1"

        def encode(self, texts: Any) -> Any:
            return np.array([[t.count("a"), t.count("e"), len(t)] for t in texts], np.float32)

    bank = FeatureBank.from_text(["apple", "pear", "fig"], Letters(), "a {concept}")
    report = bank.verify(encoder=Letters())
    assert outcomes(report)["vectors"] == "passed"
    assert report.checks[-1].compared == 3
    wrong = replace(bank, arrays={("text", "vector"): bank.vectors("text")[[1, 0, 2]]})
    assert not wrong.verify(encoder=Letters()).passed


def test_a_bank_changed_in_memory_is_found(kit: Kit, extract: Extract) -> None:
    bank = extract(kit.pictures(3), kit.encoder(kit.Network()))
    assert outcomes(bank.verify())["content"] == "not checkable"
    assert bank.hash
    assert outcomes(bank.verify())["content"] == "passed"
    bank.arrays["original", "late"][0, 0] += 1
    report = bank.verify(kit.pictures(3), kit.encoder(kit.Network()))
    assert outcomes(report)["content"] == outcomes(report)["vectors"] == "failed"

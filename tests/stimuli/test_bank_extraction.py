"""Extraction of a feature bank: what costs a pass, what makes another address, what goes wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, PhospheneError, StorageError, UnknownNameError
from phosphene.stimuli import _address, _arrays, _extract
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import CallableEncoder
from phosphene.stimuli.images import prepare
from phosphene.stimuli.views import MeanOf, Noise, augmentations

Extract = Callable[..., FeatureBank]
Kit = SimpleNamespace


# -- what costs a pass ----------------------------------------------------------------------


def test_a_mean_of_views_costs_no_pass_of_its_own(kit: Kit, extract: Extract) -> None:
    network, stimuli = kit.Network(), kit.pictures(5)
    four = augmentations()
    bank = extract(stimuli, kit.encoder(network), views=["original", "mean_of"])
    assert network.seen == 5 * (1 + 4)
    assert bank.views == ("original", MeanOf().name)
    parts = extract(stimuli, kit.encoder(network), views=[*four, "mean_of"], layers=["late"])
    assert network.seen == 5 * (1 + 4)
    expected = np.mean([parts.vectors(view) for view in four], axis=0)
    np.testing.assert_allclose(bank.vectors("mean_of"), expected, atol=1e-6)
    assert not np.allclose(bank.vectors("mean_of"), parts.vectors(four[0]), atol=1e-3)
    # One of its parts is known already, three are new.
    other = kit.Network(seed=1)
    extract(stimuli, kit.encoder(other), views=["noise"])
    extract(stimuli, kit.encoder(other), views=["mean_of"])
    assert other.seen == 5 * 4


def test_noise_is_seeded_by_the_content_of_the_stimulus(kit: Kit, extract: Extract) -> None:
    stimuli, network = kit.pictures(5), kit.Network()
    bank = extract(stimuli, kit.encoder(network), views=["noise"])
    images = [prepare(stimuli.image(id), kit.SIZE, None) for id in bank.ids]
    noisy = Noise()(torch.from_numpy(np.stack(images)), list(bank.stimuli["sha256"]))
    with torch.inference_mode():
        expected = network(noisy)["late"]
    np.testing.assert_allclose(bank.vectors("noise"), expected, atol=1e-6)


@pytest.mark.parametrize("rule", [
    {"resize": 16}, {"resize": 16, "interpolation": "pillow-nearest"}, {"mode": "squash"},
])  # fmt: skip
def test_pictures_are_prepared_by_the_encoders_own_rule(
    kit: Kit, extract: Extract, rule: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 30, 44, 3), dtype=np.uint8)
    model = CallableEncoder(lambda x: x[:, :, 3, 3:9].flatten(1), "pixels", image_size=kit.SIZE)
    model.preprocessing = {"version": 1, **rule}
    bank = extract(StimulusSet.from_arrays(["a", "b"], images), model)
    words = {name: value.removeprefix("pillow-") if name == "interpolation" else value
             for name, value in rule.items()}  # fmt: skip
    seen = [prepare(image, kit.SIZE, **{"resize": None, **words}) for image in images]
    expected = np.stack(seen)[:, :, 3, 3:9].reshape(2, -1)
    np.testing.assert_array_equal(bank.vectors("original"), expected)


def test_only_missing_layers_are_asked_for(kit: Kit, extract: Extract) -> None:
    class Recorder(CallableEncoder):
        def encode(self, images: torch.Tensor, layers: Sequence[str] | None = None) -> Any:
            asked.append((len(images), tuple(layers or ())))
            return super().encode(images, layers)

    asked: list[tuple[int, tuple[str, ...]]] = []
    model = Recorder(kit.Network(), "tiny", image_size=kit.SIZE, layers=("early", "late"))
    stimuli = kit.pictures(2)
    extract(stimuli, model, layers=["late"])
    both = extract(stimuli, model, layers=["late", "early"], views=["original", "gaussian(k=5)"])
    assert asked == [(2, ("late",)), (2, ("early",)), (2, ("late", "early"))]
    assert both.timings["encoder_passes"] == 4
    extract(stimuli, model, layers=["early"], views=["gaussian(k=5)"])
    assert len(asked) == 3


def test_an_edited_file_is_another_picture_for_the_same_set(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    from PIL import Image

    stimuli, network = kit.picture_files(tmp_path / "images", 3), kit.Network()
    before = extract(stimuli, kit.encoder(network))
    Image.fromarray(np.full((12, 12, 3), 9, np.uint8)).save(tmp_path / "images" / stimuli.ids[1])
    after = extract(stimuli, kit.encoder(network))
    assert network.seen == 4
    same = (before.vectors("original") == after.vectors("original")).all(axis=1)
    assert same.tolist() == [True, False, True]
    assert before.stimuli["sha256"].iloc[1] != after.stimuli["sha256"].iloc[1]


def test_batches_do_not_depend_on_what_is_known(kit: Kit, extract: Extract) -> None:
    class Sizes(CallableEncoder):
        def encode(self, images: torch.Tensor, layers: Sequence[str] | None = None) -> Any:
            sizes.append(len(images))
            return super().encode(images, layers)

    sizes: list[int] = []
    stimuli = kit.pictures(8)
    model = Sizes(kit.Network(), "tiny", image_size=kit.SIZE, layers=("early", "late"))
    extract(stimuli.select(stimuli.ids[1:2]), model)
    # The known one lacks in its own batch; the others are what they would have been without it.
    extract(stimuli, model, batch_size=3)
    assert sizes == [1, 2, 3, 2]


# -- what makes another address -------------------------------------------------------------


def test_everything_that_changes_a_vector_is_in_the_address(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def address(background: Any = (255, 255, 255), dtype: str = "float32", **more: Any) -> str:
        model = kit.encoder(kit.Network(), weights_hash="w")
        for name, value in more.items():
            setattr(model, name, value)
        return str(_address.encoder_address(model, background, dtype))

    plain = address()
    assert address() == plain
    changed = {
        "background": address(background=(0, 0, 0)),
        "dtype": address(dtype="float16"),
        "id": address(id="other"),
        "weights": address(weights_hash="v"),
        "revision": address(revision="abc"),
        "precision": address(precision="bf16"),
        "device": address(device=torch.device("cuda:1")),
        "packages": address(packages=("safetensors",)),
        "preprocessing": address(preprocessing={"version": 2}),
    }
    with monkeypatch.context() as patch:
        patch.setattr(_address, "DECODING_VERSION", 99)
        changed["decoding"] = address()
    with monkeypatch.context() as patch:
        patch.setattr(_address, "VIEWS_VERSION", 99)
        changed["views"] = address()
    for library in (torch, np):
        with monkeypatch.context() as patch:
            patch.setattr(library, "__version__", "0.0.1")
            changed[library.__name__] = address()
    with monkeypatch.context() as patch:
        patch.setattr(_address, "version", lambda name: "0.0.1")
        changed["pillow"] = address()
    assert len({plain, *changed.values()}) == 1 + len(changed), changed
    # The number of a device does not change what it computes.
    assert address(device=torch.device("cuda:0")) == changed["device"]


def test_what_is_kept_in_half_precision_is_never_given_out_as_full(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    stimuli, network = kit.pictures(4), kit.Network()
    half = extract(stimuli, kit.encoder(network), dtype="float16", views=["original", "mean_of"])
    full = extract(stimuli, kit.encoder(network), dtype="float32", views=["original", "mean_of"])
    assert network.seen == 2 * 4 * 5
    assert {a.dtype.name for a in half.arrays.values()} == {"float16"} != {"float32"}
    assert half.provenance["dtype"] == "float16"
    for view in full.views:
        np.testing.assert_allclose(half.vectors(view), full.vectors(view), atol=2e-3)
    assert not np.array_equal(half.vectors("original"), full.vectors("original"))
    np.testing.assert_array_equal(
        half.vectors("original"), full.vectors("original").astype(np.float16).astype(np.float32)
    )
    half.save(tmp_path / "half")
    assert FeatureBank.load(tmp_path / "half").hash == half.hash != full.hash
    assert half.space() == full.space()
    assert "float16" in repr(half)


def test_values_too_large_for_half_precision_are_named(kit: Kit, extract: Extract) -> None:
    def large(x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3))
        y[1] = 1e5
        return y

    model = CallableEncoder(large, "large", image_size=kit.SIZE)
    with pytest.raises(DataError, match=r"'original'.*'vector'.*float16[\s\S]*thing1_01\.png"):
        extract(kit.pictures(2), model, dtype="float16")
    assert extract(kit.pictures(2), model).vectors("original").max() == np.float32(1e5)
    with pytest.raises(DataError, match="dtype"):
        extract(kit.pictures(2), model, dtype="int8")


def test_the_background_of_transparent_pictures_counts(kit: Kit, extract: Extract) -> None:
    image = np.zeros((kit.SIZE, kit.SIZE, 4), np.uint8)
    stimuli, network = StimulusSet.from_arrays(["a/a_01"], [image]), kit.Network()
    white = extract(stimuli, kit.encoder(network), layers="early")
    grey = extract(stimuli, kit.encoder(network), layers="early", background=(128, 0, 64))
    assert network.seen == 2
    np.testing.assert_allclose(white.vectors("original"), 1)
    np.testing.assert_allclose(grey.vectors("original")[0] * 255, [128, 0, 64], atol=1e-4)
    assert grey.provenance["decoding"]["background"] == [128, 0, 64]


def test_aliases_of_layers_are_recorded_and_understood(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    class Aliased(CallableEncoder):
        def canonical_layer(self, name: str) -> str:
            return {"depth=1": "late", "depth=0.5": "early"}.get(name, name)

    network = kit.Network()
    model = Aliased(network, "tiny", image_size=kit.SIZE, layers=("early", "late"))
    plain = extract(kit.pictures(3), model, layers=["late", "early"])
    bank = extract(kit.pictures(3), model, layers=["depth=1", "late", "depth=0.5"])
    assert network.seen == 3
    assert bank.layers == ("late", "early")
    assert bank.provenance["layer_aliases"] == {"depth=1": "late", "depth=0.5": "early"}
    bank.save(tmp_path / "bank")
    loaded = FeatureBank.load(tmp_path / "bank")
    np.testing.assert_array_equal(
        loaded.vectors("original", "depth=0.5"), plain.vectors("original", "early")
    )
    assert loaded.space("depth=0.5") == plain.space("early")
    assert bank.hash == plain.hash  # another spelling is not another bank
    with pytest.raises(UnknownNameError, match="depth=1"):
        loaded.vectors("original", "depth=11")


# -- what goes wrong ------------------------------------------------------------------------


def broken_set(kit: Kit, folder: Path) -> StimulusSet:
    """Six pictures: the second is cut off, the fifth is its copy, the sixth is no picture."""
    kit.picture_files(folder, 6)
    paths = sorted(folder.rglob("*.png"))
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    paths[4].write_bytes(paths[1].read_bytes())
    paths[5].write_bytes(b"not a picture")
    return StimulusSet.from_folder(folder)


def test_broken_pictures_are_left_out_if_asked(
    kit: Kit, extract: Extract, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stimuli, network = broken_set(kit, tmp_path / "images"), kit.Network()
    with pytest.raises(PhospheneError, match=r"thing1_01\.png"):
        extract(stimuli, kit.encoder(network), batch_size=1)
    assert network.seen == 1
    bank = extract(stimuli, kit.encoder(network), on_error="skip", batch_size=1)
    assert network.seen == 3 == bank.timings["encoder_passes"] + 1
    assert bank.ids == [stimuli.ids[i] for i in (0, 2, 3)]
    skipped = bank.provenance["skipped"]
    assert list(skipped) == [stimuli.ids[i] for i in (1, 4, 5)]
    assert "cannot be read as an image" in skipped[stimuli.ids[5]]
    assert str(tmp_path) not in str(bank.provenance)  # a bank is the same wherever the files lie
    assert "left out 3 of 6" in caplog.text
    assert "3 pictures left out" in repr(bank)
    assert "left out" in bank._repr_html_()
    good = extract(stimuli.select(bank.ids), kit.encoder(kit.Network()), cache=tmp_path / "fresh")
    np.testing.assert_allclose(bank.vectors("original"), good.vectors("original"), atol=1e-6)


def test_a_missing_file_is_left_out_too(kit: Kit, extract: Extract, tmp_path: Path) -> None:
    stimuli = kit.picture_files(tmp_path / "images", 3)
    (tmp_path / "images" / stimuli.ids[0]).unlink()
    with pytest.raises(DataError, match=r"thing0_01\.png"):
        extract(stimuli, kit.encoder(kit.Network()))
    bank = extract(stimuli, kit.encoder(kit.Network()), on_error="skip")
    assert bank.ids == stimuli.ids[1:]
    assert list(bank.provenance["skipped"]) == stimuli.ids[:1]


def test_nothing_but_broken_pictures_is_an_error(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    stimuli = broken_set(kit, tmp_path / "images")
    bad = stimuli.select([stimuli.ids[i] for i in (1, 4, 5)])
    with pytest.raises(DataError, match="none of 3 pictures"):
        extract(bad, kit.encoder(kit.Network()), on_error="skip")
    with pytest.raises(DataError, match="on_error"):
        extract(bad, kit.encoder(kit.Network()), on_error="ignore")


def test_a_full_disk_stops_and_keeps_what_is_finished(
    kit: Kit, extract: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stimuli, network = kit.pictures(7), kit.Network()
    written = Path.write_bytes

    def until_full(path: Path, data: bytes) -> int:
        if len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2:
            written(path, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", until_full)
        with pytest.raises(StorageError, match="no space"):
            extract(stimuli, kit.encoder(network))
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    again = kit.Network()
    bank = extract(stimuli, kit.encoder(again))
    assert again.seen == 3 == bank.timings["encoder_passes"]


@pytest.mark.parametrize("where", ["view", "item", "vector"])
def test_any_flipped_bit_of_the_store_is_found(
    kit: Kit, extract: Extract, tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    stimuli = kit.pictures(2)
    bank = extract(stimuli, kit.encoder(kit.Network()), views=["fovea(k=5)", "fovea(k=7)"])
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    content = file.read_bytes()
    if where == "view":  # vectors of one view would be given out as another's
        content = content.replace(b"fovea(k=5,", b"fovea(k=7,", 1)
    elif where == "item":
        digest = stimuli.hashes().iloc[0].encode()
        content = content.replace(digest, digest[::-1], 1)
    else:
        content = content[:-1] + bytes([content[-1] ^ 1])
    assert content != file.read_bytes()
    file.write_bytes(content)
    network = kit.Network()
    again = extract(stimuli, kit.encoder(network), views=["fovea(k=5)", "fovea(k=7)"])
    assert network.seen == 4
    assert "computing again" in caplog.text
    assert again.hash == bank.hash


def test_a_disk_that_never_gives_back_what_was_written_is_given_up(
    kit: Kit, extract: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def spoil(store: Any, items: Any, targets: Any) -> list[Path]:
        return [tmp_path]

    monkeypatch.setattr(_extract.VectorStore, "fill", spoil)
    with pytest.raises(StorageError, match="check the disk"):
        extract(kit.pictures(2), kit.encoder(kit.Network()))


def test_a_width_that_changes_is_refused(kit: Kit, extract: Extract) -> None:
    calls: list[int] = []

    def growing(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.ones(len(x), len(calls))

    with pytest.raises(DataError, match="width"):
        extract(kit.pictures(4), CallableEncoder(growing, "growing", image_size=kit.SIZE))


# -- where the bank is put ------------------------------------------------------------------


def test_a_large_bank_is_put_together_on_disk(
    kit: Kit, extract: Extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    views = ["original", "mean_of(original,gaussian(k=5))"]
    small = extract(kit.pictures(5), kit.encoder(kit.Network()), views=views)
    assert not any(isinstance(array, np.memmap) for array in small.arrays.values())
    monkeypatch.setattr(_arrays, "IN_MEMORY", 5 * 3 * 5 * 4 - 1)  # of three views, one is passing
    large = extract(kit.pictures(5), kit.encoder(kit.Network()), views=views)
    assert all(isinstance(array, np.memmap) for array in large.arrays.values())
    assert large.hash == small.hash
    left = {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert left == {".safetensors", ".json"}  # nothing of the scratch files can be seen


def test_a_bank_is_extracted_into_its_folder(kit: Kit, extract: Extract, tmp_path: Path) -> None:
    views = ["original", "mean_of(original,gaussian(k=5))"]
    layers = ["early", "late"]
    options: dict[str, Any] = {"views": views, "layers": layers, "dtype": "float16"}
    memory = extract(kit.pictures(5), kit.encoder(kit.Network()), **options)
    bank = extract(kit.pictures(5), kit.encoder(kit.Network()), **options, out=tmp_path / "bank")
    assert bank.hash == memory.hash == FeatureBank.load(tmp_path / "bank").hash
    assert bank.folder == tmp_path / "bank"
    assert all(isinstance(array, np.memmap) for array in bank.arrays.values())
    for pair, array in memory.arrays.items():
        np.testing.assert_array_equal(bank.arrays[pair], array)
    assert bank.select(bank.ids).hash == bank.hash  # of the content this time
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "cache"]
    again = extract(kit.pictures(3), kit.encoder(kit.Network()), out=tmp_path / "bank")
    assert len(again) == 3  # an older bank is replaced


def test_a_foreign_folder_is_refused_before_the_work(
    kit: Kit, extract: Extract, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("mine")
    network = kit.Network()
    with pytest.raises(StorageError, match="did not write"):
        extract(kit.pictures(2), kit.encoder(network), out=tmp_path / "theirs")
    assert network.seen == 0

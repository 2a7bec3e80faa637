"""Stimulus sets and the decoding of images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from phosphene.data import _decode
from phosphene.data.stimuli import StimulusSet, decode_image
from phosphene.errors import DataError


def picture(seed: int, size: tuple[int, int] = (6, 5)) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for i, name in enumerate(["dog/dog_01.png", "dog/dog_02.PNG", "cat/cat_01.png"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(root / name, format="PNG")
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()
    Image.fromarray(picture(9)).save(root / ".cache" / "x.png")
    return root


def test_from_folder(folder: Path) -> None:
    stimuli = StimulusSet.from_folder(folder)
    assert stimuli.ids == ["cat/cat_01.png", "dog/dog_01.png", "dog/dog_02.PNG"]
    assert stimuli.concepts.tolist() == ["cat", "dog", "dog"]
    assert list(stimuli.table.columns) == ["concept", "caption", "licence", "path", "sha256"]
    assert stimuli.table.index.name == "stimulus"
    np.testing.assert_array_equal(stimuli.image("dog/dog_01.png"), picture(0))
    assert len(stimuli) == 3
    assert "dog/dog_01.png" in stimuli
    assert repr(stimuli) == "StimulusSet(3 images of 2 concepts)"


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent does not exist"):
        StimulusSet.from_folder(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match="there are no images in"):
        StimulusSet.from_folder(tmp_path)
    with pytest.raises(DataError, match=r"a\.txt is not a folder"):
        StimulusSet.from_folder(tmp_path / "a.txt")


def test_from_csv(folder: Path) -> None:
    table = pd.DataFrame(
        {
            "stimulus": ["01", "02"],
            "path": ["dog/dog_01.png", "cat/cat_01.png"],
            "concept": ["dog", "cat"],
            "caption": ["a dog", ""],
            "licence": "CC0",
            "rating": ["3", "4"],
        }
    )
    table.to_csv(folder / "list.csv", index=False)
    stimuli = StimulusSet.from_csv(folder / "list.csv")
    assert stimuli.ids == ["01", "02"]
    assert stimuli.table.loc["01", ["concept", "caption", "licence", "rating"]].tolist() == [
        "dog",
        "a dog",
        "CC0",
        "3",
    ]
    np.testing.assert_array_equal(stimuli.image("02"), picture(2))
    table.drop(columns=["stimulus", "concept"]).to_csv(folder / "list.csv", index=False)
    assert StimulusSet.from_csv(folder / "list.csv").concepts.tolist() == ["dog", "cat"]


def test_bad_csv_files_are_named(folder: Path) -> None:
    path = folder / "list.csv"
    with pytest.raises(DataError, match=r"list\.csv cannot be read"):
        StimulusSet.from_csv(path)
    path.write_text("image,concept\na.png,a\n")
    with pytest.raises(DataError, match=r"list\.csv lacks the columns 'stimulus', 'path'"):
        StimulusSet.from_csv(path)
    path.write_text("path\ndog/dog_01.png\ndog/gone.png\n")
    with pytest.raises(DataError, match=r"do not exist: .*gone\.png"):
        StimulusSet.from_csv(path)
    path.write_text("path\ndog/dog_01.png\ndog/dog_01.png\n")
    with pytest.raises(DataError, match=r"more than once: 'dog/dog_01\.png' \(2 times\)"):
        StimulusSet.from_csv(path)


def test_from_arrays_and_callables() -> None:
    stimuli = StimulusSet.from_arrays(["b/1", "a/1"], [picture(1), picture(2)], ["x", "y"])
    assert stimuli.concepts.to_dict() == {"b/1": "x", "a/1": "y"}
    np.testing.assert_array_equal(stimuli.image("a/1"), picture(2))
    with pytest.raises(DataError, match="2 ids, 1 images"):
        StimulusSet.from_arrays(["a", "b"], [picture(1)])
    calls = []

    def render() -> np.ndarray[Any, Any]:
        calls.append(1)
        return picture(3)

    table = pd.DataFrame({"sha256": ["declared"]}, index=["made/1"])
    made = StimulusSet(table, {"made/1": render})
    assert made.hash("made/1") == "declared"
    assert not calls  # a declared digest needs no rendering
    np.testing.assert_array_equal(made.image("made/1"), picture(3))
    undeclared = StimulusSet(table.drop(columns="sha256"), {"made/1": render})
    arrays = StimulusSet.from_arrays(["z"], [picture(3)])
    assert undeclared.hash("made/1") == arrays.hash("z")


def test_hashes_are_of_the_bytes_of_the_file_and_found_once(folder: Path) -> None:
    stimuli = StimulusSet.from_folder(folder)
    file = folder / "dog" / "dog_01.png"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert stimuli.hashes()["dog/dog_01.png"] == digest
    file.unlink()
    assert stimuli.hash("dog/dog_01.png") == digest
    assert stimuli.select(["dog/dog_01.png"]).hash("dog/dog_01.png") == digest
    with pytest.raises(DataError, match=r"dog_01\.png does not exist"):
        stimuli.image("dog/dog_01.png")


def test_duplicates_are_grouped(folder: Path) -> None:
    copy = folder / "cat" / "copy.png"
    copy.write_bytes((folder / "dog" / "dog_01.png").read_bytes())
    stimuli = StimulusSet.from_folder(folder)
    assert stimuli.duplicates() == [["cat/copy.png", "dog/dog_01.png"]]
    assert stimuli.select(["cat/copy.png", "cat/cat_01.png"]).duplicates() == []


def test_select_and_load(folder: Path) -> None:
    stimuli = StimulusSet.from_folder(folder)
    some = stimuli.select(["images/dog/dog_02.PNG", "cat/cat_01.png"])
    assert some.ids == ["dog/dog_02.PNG", "cat/cat_01.png"]
    loaded = list(some.load_images())
    np.testing.assert_array_equal(loaded[0], picture(1))
    assert len(list(stimuli.load_images(["cat/cat_01.png"]))) == 1
    for ask in (stimuli.image, stimuli.hash):
        with pytest.raises(DataError, match="missing: gone"):
            ask("gone.png")
    with pytest.raises(DataError, match="known under another path"):
        stimuli.image("images/cat/cat_01.png")


def test_ids_need_an_image_and_are_unique() -> None:
    with pytest.raises(DataError, match="without an image: b"):
        StimulusSet(pd.DataFrame(index=["a", "b"]), {"a": picture(0)})
    with pytest.raises(DataError, match="'a' \\(2 times\\)"):
        StimulusSet(pd.DataFrame(index=["a", "a"]), {"a": picture(0)})


def test_html_shows_thumbnails() -> None:
    stimuli = StimulusSet.from_arrays(["<a>", "b"], [picture(0), picture(1)])
    page = stimuli._repr_html_()
    assert page.count("<img") == 2
    assert "data:image/jpeg;base64," in page
    assert "&lt;a&gt;" in page
    assert "<a>" not in page


# decoding


def test_grey_and_alpha() -> None:
    grey = np.array([[0, 200]], dtype=np.uint8)
    assert decode_image(grey).tolist() == [[[0] * 3, [200] * 3]]
    assert decode_image(grey[:, :, None]).tolist() == [[[0] * 3, [200] * 3]]
    clear = np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], dtype=np.uint8)
    assert decode_image(clear).tolist() == [[[255] * 3, [10, 20, 30], [204] * 3]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_modes_of_files(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode).save(path)
    image = decode_image(path)
    assert image.shape == (3, 4, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


def test_transparent_palette_and_16_bits(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert (decode_image(tmp_path / "p.png") == 255).all()
    deep = np.array([[0, 65535, 32768]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "d.png")
    assert decode_image(tmp_path / "d.png")[0, :, 0].tolist() == [0, 255, 128]


def test_webp_and_16_bit_colour(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = picture(0, (20, 31))
    Image.fromarray(pixels).save(tmp_path / "x.webp", lossless=True)
    np.testing.assert_array_equal(decode_image(tmp_path / "x.webp"), pixels)
    deep = np.random.default_rng(1).integers(0, 65536, (8, 9, 3), dtype=np.uint16)
    assert cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    found = decode_image(tmp_path / "deep.png")
    assert np.abs(found - deep / 257).max() < 1  # Pillow itself cuts colour to eight bits


def test_transparency_is_laid_on_the_background_asked_for(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255  # the upper half is opaque black
    Image.fromarray(clear).save(tmp_path / "half.png")
    stimuli = StimulusSet.from_folder(tmp_path)
    assert stimuli.image("half.png")[3, 0].tolist() == [255, 255, 255]
    for laid in (stimuli.image("half.png", (10, 20, 30)), decode_image(clear, (10, 20, 30))):
        assert laid[3, 0].tolist() == [10, 20, 30]
        assert laid[0, 0].tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="colour"):
        decode_image(clear, (0, 0, 256))


def test_the_orientation_of_the_camera_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    image = decode_image(tmp_path / "x.png")
    assert image.shape == (4, 2, 3)
    assert (image[0, 1] == 255).all()


def test_too_many_pixels_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 50_000
    with pytest.raises(DataError, match=r"bomb\.png is too large[\s\S]*10000 x 10000 pixels"):
        decode_image(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"bomb\.png is too large"):
        decode_image(tmp_path / "bomb.png")
    monkeypatch.setattr(_decode, "MAX_PIXELS", 5)
    with pytest.raises(DataError, match="2 x 3 pixels"):
        decode_image(np.zeros((3, 2), np.uint8))


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("text")
    with pytest.raises(DataError, match=r"x\.png cannot be read as an image"):
        decode_image(tmp_path / "x.png")
    whole = tmp_path / "whole.png"
    Image.fromarray(picture(0, (64, 64))).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"half\.png cannot be read as an image"):
        decode_image(tmp_path / "half.png")


def test_arrays_that_are_no_images() -> None:
    with pytest.raises(DataError, match=r"float64[\s\S]*uint8"):
        decode_image(np.zeros((2, 2, 3)))
    with pytest.raises(DataError, match="another shape"):
        decode_image(np.zeros((2, 2, 2), np.uint8))
    stimuli = StimulusSet.from_arrays(["odd"], [np.zeros((2, 2, 2), np.uint8)])
    with pytest.raises(DataError, match="stimulus 'odd'"):
        stimuli.image("odd")

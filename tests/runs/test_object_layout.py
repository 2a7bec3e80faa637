"""Position and size of the object, read off pictures whose layout is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from phosphene import reconstruction
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import ArtefactError, DataError
from phosphene.runs import object_layout
from phosphene.runs.object_layout import LayoutReader, faded, layout, object_surface
from phosphene.simulation.pictures import picture_set
from phosphene.testing import tiny_images


def concepts(which: str) -> list[str]:
    path = Path(reconstruction.__file__).parent / "assets" / "demo" / "concepts.json"
    return [str(name) for name in json.loads(path.read_text())[which]]


def shown(stimuli: StimulusSet) -> np.ndarray:
    return np.stack([stimuli.image(id) for id in stimuli.ids]).astype(np.float32) / 255


def truth(stimuli: StimulusSet) -> np.ndarray:
    return layout(torch.from_numpy(object_surface(stimuli, stimuli.ids))).numpy()


def test_layout_of_a_surface_is_its_centre_and_the_root_of_its_area() -> None:
    cover = torch.zeros(2, 8, 8)
    cover[0, 2:6, 4:8] = 1  # rows are y
    cover[1, 0, 0] = 0.5
    found = layout(cover)
    torch.testing.assert_close(found[0], torch.tensor([0.75, 0.5, 0.5]))
    torch.testing.assert_close(found[1], torch.tensor([1 / 16, 1 / 16, (0.5 / 64) ** 0.5]))
    assert torch.isfinite(layout(torch.zeros(1, 8, 8))).all()


def test_the_reader_that_comes_along_reads_concepts_it_has_never_seen() -> None:
    stimuli = picture_set(concepts("tested")[::3], 1, seed=5, size=64)
    pictures, known = shown(stimuli), truth(stimuli)
    reader = LayoutReader.shipped()
    constant = known - known.mean(axis=0)
    for what in (pictures, faded(pictures, seed=2)):
        off = reader.read(what) - known
        assert np.hypot(off[:, 0], off[:, 1]).mean() < 0.3 * np.hypot(*constant[:, :2].T).mean()
        assert np.abs(off[:, 2]).mean() < 0.6 * np.abs(constant[:, 2]).mean()
        assert np.abs(off.mean(axis=0)).max() < 0.02  # neither aside nor smaller
    errors = reader.errors(pictures[:, None].repeat(2, axis=1), stimuli, stimuli.ids)
    off = reader.read(pictures) - known
    np.testing.assert_allclose(errors["position error"], np.hypot(off[:, 0], off[:, 1]), rtol=1e-4)
    np.testing.assert_allclose(errors["size error"], np.abs(off[:, 2]), rtol=1e-3, atol=1e-5)
    # Read from a picture that does not show the object: no better than a constant answer.
    rolled = reader.errors(np.roll(pictures, 1, axis=0)[:, None], stimuli, stimuli.ids)
    assert rolled["position error"].mean() > np.hypot(*constant[:, :2].T).mean()


def test_no_concept_that_a_world_tests_was_learned_from() -> None:
    assert not set(concepts("train")) & set(concepts("tested"))


def test_a_reader_learns_from_pictures_and_is_kept(tmp_path: Path) -> None:
    learned = picture_set(concepts("train")[::5], 2, seed=3, size=64)
    other = picture_set(concepts("tested")[::4], 1, seed=4, size=64)
    lines: list[str] = []
    state = torch.random.get_rng_state()
    reader = LayoutReader.fit(learned, learned.ids, epochs=3, say=lines.append)
    assert torch.equal(state, torch.random.get_rng_state())
    assert len(lines) == 3
    known = truth(other)
    off = reader.read(shown(other)) - known
    constant = known - truth(learned).mean(axis=0)
    # Measured .36 and .39; .60 and more where pictures are mirrored and surfaces are not.
    assert np.hypot(*off[:, :2].T).mean() < 0.48 * np.hypot(*constant[:, :2].T).mean()
    again = LayoutReader.fit(learned, learned.ids, epochs=3)
    np.testing.assert_array_equal(again.read(shown(other)), reader.read(shown(other)))
    # What a table says names the weights: the same for the same, others for others.
    assert reader.facts == again.facts
    assert len(reader.facts["weights"]) == 64
    assert reader.facts["weights"] != LayoutReader.shipped().facts["weights"]
    reader.save(tmp_path / "below" / "reader.safetensors")
    assert (tmp_path / "below" / "reader.safetensors").stat().st_size < 250_000


def test_a_damaged_file_of_the_reader_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "reader.safetensors"
    broken.write_bytes(object_layout.WEIGHTS.read_bytes()[:1000])
    monkeypatch.setattr(object_layout, "WEIGHTS", broken)
    with pytest.raises(ArtefactError, match=r"reader\.safetensors cannot be read"):
        LayoutReader.shipped.__wrapped__(LayoutReader)


def test_pictures_without_a_known_layout_are_refused() -> None:
    pictures = tiny_images()
    with pytest.raises(DataError, match="layout of these pictures is not known"):
        LayoutReader.fit(pictures, pictures.ids)
    few = picture_set(["bell"], 3, size=64)
    with pytest.raises(DataError, match="too few pictures"):
        LayoutReader.fit(few, few.ids)

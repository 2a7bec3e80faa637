"""Feature files of others become banks that say so; banks become npz files and come back."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import ArtefactError, DataError, UnknownNameError
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.foreign import export_npz, import_features, import_npz
from phosphene.stimuli.views import get_view

rng = np.random.default_rng(0)
NAMES = [f"training_images/0000{c}_thing{c}/thing{c}_0{e}b.jpg" for c in range(3) for e in (1, 2)]
VECTORS = rng.standard_normal((6, 4)).astype(np.float32)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def saved(path: Path, value: Any) -> Path:
    """A file of torch, or of numpy by the suffix."""
    if path.suffix == ".pt":
        torch.save(value, path)
    else:
        np.save(path, value, allow_pickle=True)
    return path


def load(path: Path, **options: Any) -> FeatureBank:
    """The file's bank, of a declared encoder."""
    return FeatureBank.from_foreign(path, **{"encoder": "RN50 (OpenAI)", **options})


@pytest.mark.parametrize("kind", ["pt", "npy", "half", "doubles", "(n, 1, d)", "list", "objects"])
def test_a_matrix_takes_the_ids_that_are_given(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("features.pt" if kind in ("pt", "list") else "features.npy")
    objects = np.empty(6, dtype=object)
    objects[:] = list(VECTORS)
    value = {
        "pt": torch.from_numpy(VECTORS),
        "npy": VECTORS,
        "half": VECTORS.astype(np.float16),
        "doubles": VECTORS.astype(np.float64),
        "(n, 1, d)": VECTORS[:, None],
        "list": list(torch.from_numpy(VECTORS)),
        "objects": objects,
    }[kind]
    bank = load(saved(path, value), ids=NAMES)
    assert bank.ids == NAMES
    assert bank.views == ("original",)
    assert bank.layers == ("vector",)
    atol = 1e-3 if kind == "half" else 0
    np.testing.assert_allclose(bank.vectors("original"), VECTORS, atol=atol)
    assert list(bank.stimuli["concept"][:3]) == ["00000_thing0", "00000_thing0", "00001_thing1"]
    turned = load(path, ids=NAMES[::-1], view="fovea(45)", layer="pool")
    np.testing.assert_allclose(turned.vectors("fovea(k=45)"), VECTORS, atol=atol)
    assert turned.layers == ("pool",)


@pytest.mark.parametrize("suffix", ["pt", "npy"])
def test_a_dict_by_name_is_matched_to_ids(tmp_path: Path, suffix: str) -> None:
    of = {np.str_(name): torch.from_numpy(v) for name, v in zip(NAMES, VECTORS, strict=True)}
    if suffix == "npy":
        of = {name: vector.numpy()[None] for name, vector in of.items()}  # type: ignore[misc]
    path = saved(tmp_path / f"features.{suffix}", of)
    bank = load(path)
    assert bank.ids == NAMES
    np.testing.assert_array_equal(bank.vectors("original"), VECTORS)
    wanted = [NAMES[4].removeprefix("training_images/"), NAMES[1].removeprefix("training_images/")]
    some = load(path, ids=wanted)
    assert some.ids == wanted
    np.testing.assert_array_equal(some.vectors("original"), VECTORS[[4, 1]])
    with pytest.raises(DataError, match="unicorn"):
        load(path, ids=[NAMES[0], "unicorn.jpg"])


def ubp(path: Path) -> Path:
    """UBP's cache: image path to vector for each level of blur, class name to text vector."""
    images = {
        tag: {name: torch.from_numpy(VECTORS[row] * scale) for row, name in enumerate(NAMES)}
        for tag, scale in (("low", 1), ("medium", 2), ("high", 3))
    }
    texts = {"aardvark": torch.ones(4), "abacus": torch.zeros(4)}
    return saved(path, {"text_features": texts, "img_features": images})


def test_ubp_files(tmp_path: Path) -> None:
    path = ubp(tmp_path / "ubp_train.pt")
    levels = {f"fovea(k={k})": ("img_features", tag) for k, tag in ((45, "low"), (51, "medium"))}
    bank = load(path, key=levels)
    assert bank.views == (get_view("fovea(45)").name, get_view("fovea(51)").name)
    np.testing.assert_array_equal(bank.vectors("fovea(51)"), 2 * VECTORS)
    one = load(path, key=("img_features", "high"), view="fovea(57)")
    np.testing.assert_allclose(one.vectors("fovea(57)"), 3 * VECTORS)
    text = load(path, key="text_features", view="text")
    assert text.ids == ["aardvark", "abacus"]
    assert text.views == ("text",)
    with pytest.raises(DataError, match="several things") as error:
        load(path)
    assert "'text_features': dict of 2, 'img_features': dict of 3" in str(error.value)
    with pytest.raises(DataError, match="several things") as error:
        load(path, key="img_features")
    assert "'low'" in str(error.value)


def test_atm_files(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "ViT-H-14_features_train.pt",
        {"text_features": torch.ones(3, 4), "img_features": torch.from_numpy(VECTORS)},
    )
    bank = load(path, key="img_features", ids=NAMES)
    np.testing.assert_array_equal(bank.vectors("original"), VECTORS)
    assert load(path, key="text_features", ids=["a", "b", "c"], view="text").ids == ["a", "b", "c"]
    with pytest.raises(DataError, match="no 'img_feature' in the file") as error:
        load(path, key="img_feature", ids=NAMES)
    assert "'text_features', 'img_features'" in str(error.value)
    with pytest.raises(DataError, match="no 'x' in img_features") as error:
        load(path, key=("img_features", "x"), ids=NAMES)
    assert "array (6, 4)" in str(error.value)
    with pytest.raises(DataError, match="several things"):
        load(path, ids=NAMES)
    alone = saved(tmp_path / "one.pt", {"img_features": torch.from_numpy(VECTORS)})
    assert load(alone, ids=NAMES).provenance["files"].popitem()[1]["views"] == {
        "original": {"key": "img_features", "layout": "matrix"}
    }


def test_other_npz_files(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", features=VECTORS, other=np.ones((2, 3)))
    bank = load(tmp_path / "a.npz", ids=NAMES, key="features")
    np.testing.assert_array_equal(bank.vectors("original"), VECTORS)
    objects = np.array([[{}], [{}]], dtype=object)
    np.savez(tmp_path / "b.npz", features=objects)  # numpy pickles these unasked
    with pytest.raises(DataError, match="cannot be read as npz"):
        load(tmp_path / "b.npz", ids=NAMES)


def test_a_set_of_stimuli_gives_ids_and_concepts(tmp_path: Path) -> None:
    stimuli = StimulusSet(
        pd.DataFrame({"concept": list("aabbcc")}, index=NAMES), {name: Path(name) for name in NAMES}
    )
    path = saved(tmp_path / "features.npy", VECTORS)
    bank = load(path, stimuli=stimuli)
    assert list(bank.stimuli["concept"]) == list("aabbcc")
    assert set(bank.stimuli["sha256"]) == {""}  # which pictures they were is not known
    assert list(load(path, ids=NAMES, concepts=list("xxyyzz")).stimuli["concept"]) == list("xxyyzz")
    with pytest.raises(DataError, match="both given"):
        load(path, stimuli=stimuli, ids=NAMES)


def test_provenance_says_foreign(tmp_path: Path) -> None:
    train = load(saved(tmp_path / "train.npy", VECTORS[:4]), ids=NAMES[:4])
    test = load(saved(tmp_path / "test.npy", VECTORS[4:]), ids=NAMES[4:])
    assert train.provenance["kind"] == "foreign"
    assert train.provenance["encoder"] == {"id": "RN50 (OpenAI)", "declared": True}
    ((digest, about),) = train.provenance["files"].items()
    assert len(digest) == 64
    assert about["name"] == "train.npy"
    assert str(tmp_path) not in json.dumps(train.provenance)
    # Training and test features are two files of one space.
    assert train.space() == test.space()
    both = FeatureBank.concatenate([train, test])
    assert both.ids == NAMES
    assert len(both.provenance["files"]) == 2
    # What was merely declared is never taken for what was computed.
    computed = FeatureBank.from_arrays(
        NAMES, {"original": VECTORS}, provenance={"encoder": {"id": "RN50 (OpenAI)"}}
    )
    assert computed.space() != train.space()
    assert load(tmp_path / "train.npy", ids=NAMES[:4], encoder="other").space() != train.space()
    report = train.verify()
    assert report.passed
    assert not report.complete
    train.save(tmp_path / "bank")
    assert FeatureBank.load(tmp_path / "bank").provenance == train.provenance


def test_order_is_never_guessed(tmp_path: Path) -> None:
    path = saved(tmp_path / "features.npy", VECTORS)
    with pytest.raises(DataError, match="does not say which stimuli its 6 rows"):
        load(path)
    with pytest.raises(DataError, match="another number of rows") as error:
        load(path, ids=NAMES[:5])
    assert "6 rows of 4 numbers" in str(error.value)
    assert "5 rows" in str(error.value)
    with pytest.raises(DataError, match="not unique"):
        load(path, ids=[*NAMES[:5], NAMES[0]])


def test_vectors_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    broken = VECTORS.copy()
    broken[2, 1] = np.nan
    with pytest.raises(DataError, match="1 vectors are not finite") as error:
        load(saved(path, broken), ids=NAMES)
    assert NAMES[2] in str(error.value)
    with pytest.raises(DataError, match="2 vectors are not finite"):
        load(saved(path, {"a": broken[2], "b": broken[2], "c": broken[1]}))
    with pytest.raises(DataError, match="not finite"):
        load(saved(path, VECTORS.astype(np.float64) * 1e39), ids=NAMES)
    for value in (VECTORS.astype(np.int64), VECTORS > 0, VECTORS.astype("U5"), VECTORS * 1j):
        with pytest.raises(DataError, match="floating-point") as error:
            load(saved(path, value), ids=NAMES)
        assert str(value.dtype) in str(error.value)
    for value in (VECTORS[0], VECTORS[:, :, None], np.zeros((6, 0)), np.array(1.0), "text"):
        with pytest.raises(DataError, match=r"one vector per stimulus|floating"):
            load(saved(path, value), ids=NAMES)
    with pytest.raises(DataError, match="differ in width"):
        load(saved(path, {"a": VECTORS[0], "b": VECTORS[0][:2]}))
    with pytest.raises(DataError, match="differ in shape"):
        load(saved(tmp_path / "a.pt", [torch.ones(3), torch.ones(4)]), ids=NAMES[:2])
    with pytest.raises(DataError, match="several things"):
        load(saved(path, {}))
    with pytest.raises(UnknownNameError, match="kernel"):
        load(saved(path, VECTORS), ids=NAMES, view="fovea(kernel=3)")


def test_hostile_and_damaged_files(tmp_path: Path) -> None:
    marker = tmp_path / "was_here"
    for name in ("a.pt", "a.npy"):
        path = saved(tmp_path / name, {"img_features": Hostile(marker)})
        with pytest.raises(DataError, match=r"system"):
            load(path)
    assert not marker.exists()
    for path in (ubp(tmp_path / "ubp.pt"), saved(tmp_path / "n.npy", VECTORS)):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=path.name):
            load(path, ids=NAMES)
    with pytest.raises(DataError, match=r"none\.pt"):
        load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("nothing of the kind")
    with pytest.raises(DataError, match="neither a zip archive"):
        load(tmp_path / "text.pt")


# -- npz --------------------------------------------------------------------------------------


def bank() -> FeatureBank:
    """Two views and two layers, one of them narrow."""
    arrays: dict[tuple[str, str], Any] = {
        (view, layer): rng.standard_normal((6, width))
        for view in ("original", "fovea(k=45,g=3.0,peak=0.5)")
        for layer, width in (("pool", 4), ("block.3", 2))
    }
    made = FeatureBank.from_arrays(
        NAMES, arrays, hashes=["0" * 64] * 6, layer="pool",
        provenance={"encoder": {"id": "eye"}, "note": "Tür"},
    )  # fmt: skip
    made.stimuli["caption"] = "a thing, seen"
    return made


def test_npz_is_for_plain_numpy(tmp_path: Path) -> None:
    made = bank()
    path = export_npz(made, tmp_path / "bank.npz")
    with np.load(path, allow_pickle=False) as file:
        assert file["ids"].tolist() == NAMES
        assert file["concepts"].tolist() == list(made.stimuli["concept"])
        assert json.loads(str(file["provenance"]))["encoder"] == {"id": "eye"}
        np.testing.assert_array_equal(file["original/block.3"], made.vectors("original", "block.3"))
    again = export_npz(made, tmp_path / "again.npz")
    assert again.read_bytes() == path.read_bytes()


def test_npz_comes_back_as_the_same_bank(tmp_path: Path) -> None:
    made = bank()
    found = import_npz(export_npz(made, tmp_path / "bank.npz"))
    assert found.hash == made.hash
    assert found.space() == made.space()
    assert found.default_layer == "pool"
    pd.testing.assert_frame_equal(found.stimuli, made.stimuli)
    for narrow in ("float16", "float32"):
        folder = made.save(tmp_path / narrow, dtype=narrow)  # type: ignore[arg-type]
        mapped = FeatureBank.load(folder)
        back = import_npz(export_npz(mapped, tmp_path / "mapped.npz"))
        assert back.hash == mapped.hash
        assert back.arrays["original", "pool"].dtype == narrow
    as_foreign = load(tmp_path / "bank.npz", key="original/pool", ids=NAMES)
    np.testing.assert_array_equal(as_foreign.vectors("original"), made.vectors("original"))


def test_an_edited_npz_is_noticed(tmp_path: Path) -> None:
    path = export_npz(bank(), tmp_path / "bank.npz")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    changed = {**arrays, "original/pool": arrays["original/pool"] * 1.001}
    np.savez(tmp_path / "changed.npz", **changed)
    with pytest.raises(ArtefactError, match=r"changed\.npz was changed"):
        import_npz(tmp_path / "changed.npz")
    swapped = {**arrays, "ids": arrays["ids"][::-1]}
    np.savez(tmp_path / "swapped.npz", **swapped)
    with pytest.raises(ArtefactError, match="was changed"):
        import_npz(tmp_path / "swapped.npz")
    for name in ("ids", "index", "provenance", "original/pool"):
        np.savez(tmp_path / "less.npz", **{k: v for k, v in arrays.items() if k != name})
        with pytest.raises(ArtefactError, match="export_npz") as error:
            import_npz(tmp_path / "less.npz")
        assert name in str(error.value)


def test_damaged_npz_files_end_in_an_error(tmp_path: Path) -> None:
    made = bank()
    path = export_npz(made, tmp_path / "bank.npz")
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        at = int(draw.integers(len(whole)))
        bad = bytearray(whole[:at] if number % 2 else whole)
        if not number % 2:
            bad[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(bad)
        try:
            found = import_npz(path)
        except ArtefactError:
            continue
        assert found.hash == made.hash
        assert number % 2 == 0
    with pytest.raises(ArtefactError, match=r"none\.npz"):
        import_npz(tmp_path / "none.npz")


def test_npz_files_that_would_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phosphene.stimuli._npz.MOST", 1000)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(10**7))
    with pytest.raises(DataError, match="unpack to"):
        import_features(path, encoder="x", ids=NAMES)

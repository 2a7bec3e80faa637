"""Where models come from: specs, folders, the hub, and everything that can be wrong with them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from phosphene.errors import DataError, MissingExtraError, UnknownNameError
from phosphene.stimuli._sources import is_path, split_revision
from phosphene.stimuli.encoders import Clip, get_encoder
from phosphene.stimuli.text import get_text_encoder
from phosphene.testing import _tiny_models as tiny

hub = pytest.importorskip("huggingface_hub")
transformers = pytest.importorskip("transformers")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, make in (("clip", tiny.tiny_clip), ("dinov2", tiny.tiny_dinov2)):
        (root / name).mkdir()
        make(root / name)
    return root


@pytest.fixture
def clip(made: Path, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return Path(shutil.copytree(made / "clip", tmp_path / "clip"))


def load(folder: Path, kind: str = "clip") -> Any:
    return get_encoder(f"{kind}:{folder}", precision="fp32", device="cpu")


# ------------------------------------------------------------------------------------- specs
def test_sources_and_revisions(tmp_path: Path) -> None:
    assert split_revision("a/b@v1.0") == ("a/b", "v1.0")
    assert split_revision("a/b") == ("a/b", None)
    for path in ("/x/a@b", "./a@b", "~/a@b", "a/b/c@d", str(tmp_path)):
        assert is_path(path)
        assert split_revision(path) == (path, None)
    for wrong in ("a/b@", "@main"):
        with pytest.raises(DataError, match="HUB_ID@REVISION"):
            split_revision(wrong)


def test_a_folder_may_have_an_at_in_its_name(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made / "clip", tmp_path / "clip@home")
    assert load(Path(folder)).id == "clip:clip@home"


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "auto"])
def test_a_kind_needs_a_source(kind: str) -> None:
    for spec in (kind, f"{kind}:"):
        with pytest.raises(DataError, match=rf"needs to be told which one[\s\S]*e\.g\. {kind}:"):
            get_encoder(spec)
    with pytest.raises(DataError, match=r"e\.g\. clip-text:"):
        get_text_encoder("clip-text")


def test_wrong_specs_say_what_to_write(made: Path) -> None:
    with pytest.raises(UnknownNameError, match="'clip'"):
        get_encoder("clipp:openai/clip-vit-base-patch32")
    with pytest.raises(UnknownNameError, match="say what kind"):
        get_encoder("openai/clip-vit-base-patch32")
    with pytest.raises(UnknownNameError, match="say what kind"):
        get_encoder(str(made / "clip"))
    with pytest.raises(DataError, match="takes no source"):
        get_encoder("efficientnet-lite0:somewhere")
    with pytest.raises(DataError, match="a revision is for models on the hub"):
        Clip(str(made / "clip"), revision="main")


# ----------------------------------------------------------------------------------- folders
def test_folders_that_hold_no_model(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*absent"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="a file"):
        load(clip / "config.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no config\.json[\s\S]*an empty folder"):
        load(tmp_path / "empty")
    (clip / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json[\s\S]*JSON"):
        load(clip)
    (clip / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no model_type"):
        load(clip)


def test_a_model_of_another_kind_is_named(made: Path) -> None:
    with pytest.raises(DataError, match=r"'dinov2'[\s\S]*expected: 'clip'[\s\S]*try dinov2:"):
        load(made / "dinov2")
    with pytest.raises(DataError, match=r"'clip'[\s\S]*expected: 'siglip'[\s\S]*try clip:"):
        load(made / "clip", "siglip")
    with pytest.raises(DataError, match=r"found: model_type 'clip'[\s\S]*try clip-text:"):
        get_text_encoder(f"siglip-text:{made / 'clip'}")
    with pytest.raises(DataError, match="model_type 'dinov2'"):
        get_text_encoder(f"clip-text:{made / 'dinov2'}")


def test_an_unknown_architecture_is_no_reason_to_run_its_code(clip: Path) -> None:
    config = json.loads((clip / "config.json").read_text())
    config |= {"model_type": "home-made", "auto_map": {"AutoModel": "modeling.Evil"}}
    (clip / "config.json").write_text(json.dumps(config))
    (clip / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(DataError, match="home-made"):
        load(clip, "auto")


def test_damaged_weights(clip: Path) -> None:
    weights = clip / "model.safetensors"
    content = weights.read_bytes()
    for spoiled in (content[: len(content) // 2], content[:4], b"", b"\xff" * 64):
        weights.write_bytes(spoiled)
        with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
            load(clip)
    weights.unlink()
    with pytest.raises(DataError, match=r"no weights[\s\S]*model\.safetensors or"):
        load(clip)
    (clip / "pytorch_model.bin").write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="cannot read the weights"):
        load(clip)


def test_weights_that_do_not_fill_the_model_are_refused(clip: Path) -> None:
    weights = load_file(clip / "model.safetensors")
    lost = "vision_model.encoder.layers.1.mlp.fc1.weight"
    save_file(
        {k: v for k, v in weights.items() if k != lost},
        clip / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(DataError, match=lost.replace(".", r"\.")):
        load(clip)
    assert get_text_encoder(f"clip-text:{clip}").encode(["a cat"]).shape == (1, 20)
    weights[lost] = torch.zeros(3, 3)
    save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="cannot read the weights"):
        load(clip)


def test_weights_in_pieces_and_in_pytorchs_format(clip: Path) -> None:
    whole = load(clip)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = whole.encode(images)["embedding"]
    weights = load_file(clip / "model.safetensors")
    (clip / "model.safetensors").unlink()
    torch.save(weights, clip / "pytorch_model.bin")
    np.testing.assert_allclose(load(clip).encode(images)["embedding"], expected, atol=1e-6)
    (clip / "pytorch_model.bin").unlink()
    names = sorted(weights)
    for part, chosen in enumerate((names[::2], names[1::2]), 1):
        save_file(
            {name: weights[name] for name in chosen},
            clip / f"model-0000{part}-of-00002.safetensors",
            metadata={"format": "pt"},
        )
    places = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (clip / "model.safetensors.index.json").write_text(json.dumps(index))
    pieces = load(clip)
    np.testing.assert_allclose(pieces.encode(images)["embedding"], expected, atol=1e-6)
    assert pieces.weights_hash != whole.weights_hash
    (clip / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"00002-of-00002.*is missing"):
        load(clip)


# ----------------------------------------------------------------------------- preprocessing
def test_a_model_says_how_pictures_are_prepared(clip: Path) -> None:
    path = clip / "preprocessor_config.json"
    said = json.loads(path.read_text())

    def write(**changes: Any) -> None:
        path.write_text(json.dumps({**said, **changes}))

    for changes, named in (
        ({"do_center_crop": False}, "not be square"),
        ({"crop_size": {"height": 32, "width": 24}}, "not be square"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"do_resize": False}, "do_resize"),
        ({"resample": 5}, "resample 5"),
        ({"crop_size": {"height": 64, "width": 64}}, "crop is larger"),
    ):
        write(**changes)
        with pytest.raises(DataError, match=named):
            load(clip)
    write(do_normalize=False)
    assert load(clip).preprocessing["mean"] == [0.0, 0.0, 0.0]
    write(size=32, crop_size=32)  # as OpenAI's own file says it
    assert load(clip).preprocessing["resize"] == 32
    write(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    with pytest.raises(DataError, match=r"does not take pictures[\s\S]*24 x 24"):
        load(clip)
    path.unlink()
    with pytest.raises(DataError, match=r"no preprocessor_config\.json"):
        load(clip)


def test_settings_inside_a_processors_file_count_too(clip: Path) -> None:
    path = clip / "preprocessor_config.json"
    said = {"image_processor": json.loads(path.read_text()), "processor_class": "CLIPProcessor"}
    expected = load(clip).preprocessing
    path.rename(clip / "processor_config.json")
    (clip / "processor_config.json").write_text(json.dumps(said))
    if transformers.__version__ >= "5":
        assert load(clip).preprocessing == expected


def test_a_processor_with_a_rule_of_its_own_is_refused(clip: Path) -> None:
    path = clip / "preprocessor_config.json"
    said = json.loads(path.read_text())
    # LeViT enlarges by 256 / 224 before the crop, which its settings do not say.
    path.write_text(json.dumps({**said, "image_processor_type": "LevitImageProcessor"}))
    with pytest.raises(DataError, match="does more than its settings say"):
        load(clip)


# ----------------------------------------------------------------------------------- the hub
@pytest.fixture
def cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that holds one model, and no connection."""
    import huggingface_hub.constants

    repo = tmp_path / "hub" / "models--lab--tiny-clip"
    shutil.copytree(made / "clip", repo / "snapshots" / COMMIT)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return repo


def test_a_cached_model_is_used_offline(cache: Path, made: Path) -> None:
    encoder = get_encoder("clip:lab/tiny-clip", precision="fp32")
    local = load(made / "clip")
    assert (encoder.id, encoder.revision) == ("clip:lab/tiny-clip", COMMIT)  # type: ignore[attr-defined]
    assert encoder.weights_hash == local.weights_hash
    images = torch.rand(2, 3, 32, 32)
    np.testing.assert_array_equal(
        encoder.encode(images)["embedding"], local.encode(images)["embedding"]
    )
    assert get_encoder(f"clip:lab/tiny-clip@{COMMIT}").weights_hash == local.weights_hash
    text = get_text_encoder("clip-text:lab/tiny-clip@main")
    assert text.spaces["vector"] == encoder.spaces["embedding"]  # type: ignore[attr-defined]


def test_offline_and_not_cached(cache: Path) -> None:
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE is set[\s\S]*hf download lab/other"):
        get_encoder("clip:lab/other")
    with pytest.raises(DataError, match=r"revision 'v2' is not in the local cache"):
        get_encoder("clip:lab/tiny-clip@v2")
    (cache / "snapshots" / COMMIT / "model.safetensors").unlink()
    with pytest.raises(DataError, match="has no weights"):
        get_encoder("clip:lab/tiny-clip")


def raising(error: Exception) -> Callable[..., str]:
    def hf_hub_download(*_args: Any, **_options: Any) -> str:
        raise error

    return hf_hub_download


def answer(kind: str, status: int) -> Exception:
    """An exception of the hub's client as a response of this status makes it."""
    from types import SimpleNamespace

    import huggingface_hub.utils

    cls = getattr(huggingface_hub.utils, kind)
    error: Exception = cls.__new__(cls)
    error.args = (f"{status} Client Error.\nCannot access the model.",)
    error.response = SimpleNamespace(status_code=status, headers={})  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (("GatedRepoError", 403), r"gated[\s\S]*accept them at https"),
        (("RepositoryNotFoundError", 401), r"no folder 'lab/x' here and no public model"),
        (("RevisionNotFoundError", 404), r"no revision 'v1'"),
        (("EntryNotFoundError", 404), r"no file config\.json"),
        (("HfHubHTTPError", 403), r"gated"),
        (("HfHubHTTPError", 500), r"could not be downloaded"),
    ],
)
def test_answers_of_the_hub(
    error: tuple[str, int], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", raising(answer(*error)), raising=False)
    with pytest.raises(DataError, match=named):
        get_encoder("clip:lab/x@v1")


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ConnectionError("refused"), "could not be downloaded"),
        (OSError(28, "No space left on device"), "No space left"),
        (ValueError("strange"), "could not be downloaded"),
    ],
)
def test_other_failures_of_a_download(
    error: Exception, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", raising(error), raising=False)
    with pytest.raises(DataError, match=named):
        get_encoder("clip:lab/x")


def test_what_is_neither_a_folder_nor_an_id() -> None:
    with pytest.raises(DataError, match="neither a folder here nor a hub id"):
        get_encoder("clip:not an id!")


def test_only_what_is_needed_is_fetched(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named files of one commit, and the type of model before its weights."""
    import huggingface_hub.utils as errors

    asked: list[tuple[str, str | None]] = []
    remote = {"lab/clip": made / "clip", "lab/dinov2": made / "dinov2"}
    unreachable: set[str] = set()

    def fetch(repo: str, name: str, revision: str | None = None) -> str:
        asked.append((name, revision))
        if name in unreachable:
            raise errors.LocalEntryNotFoundError("no connection")
        if not (remote[repo] / name).is_file():
            raise errors.EntryNotFoundError(f"404: {name}")
        target = made / "cache" / repo / "snapshots" / COMMIT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(remote[repo] / name, target)
        return str(target)

    monkeypatch.setattr(hub, "hf_hub_download", fetch, raising=False)
    encoder = get_encoder("clip:lab/clip@v1", precision="fp32")
    assert encoder.weights_hash == load(made / "clip").weights_hash
    assert asked[0] == ("config.json", "v1")
    assert {revision for _, revision in asked[1:]} == {COMMIT}
    assert [name for name, _ in asked[1:]] == [
        "preprocessor_config.json",
        "processor_config.json",
        "model.safetensors",
    ]
    asked.clear()
    with pytest.raises(DataError, match="'dinov2'"):
        get_encoder("clip:lab/dinov2")
    assert [name for name, _ in asked] == ["config.json"]
    # A file that cannot be reached is not taken for one that is not there.
    unreachable.add("merges.txt")
    with pytest.raises(DataError, match=r"merges\.txt .* not in the local cache"):
        get_text_encoder("clip-text:lab/clip")


def test_without_transformers_the_command_is_named(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"phosphene\[hf\]\""):
        load(made / "clip")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"phosphene\[hf\]"):
        get_encoder("clip:lab/tiny-clip")


def test_importing_encoders_imports_no_transformers() -> None:
    import subprocess

    code = (
        "import sys, phosphene.stimuli.encoders, phosphene.stimuli.text\n"
        "from phosphene import _registry; _registry.names('image_encoder')\n"
        "print([m for m in ('transformers', 'huggingface_hub', 'open_clip') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

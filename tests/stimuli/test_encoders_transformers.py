"""Image encoders of transformers: small random models, saved and loaded as real ones are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError, UnknownNameError
from phosphene.stimuli.bank import FeatureBank
from phosphene.stimuli.encoders import ImageEncoder, check_layers, get_encoder
from phosphene.stimuli.text import get_text_encoder
from phosphene.testing import _tiny_models as tiny

transformers = pytest.importorskip("transformers")

Maker = Callable[..., Mapping[str, Any]]
MODELS: dict[str, tuple[str, Maker, str]] = {
    "clip": ("clip", tiny.tiny_clip, "CLIPModel"),
    "siglip": ("siglip", tiny.tiny_siglip, "SiglipModel"),
    "dinov2": ("dinov2", tiny.tiny_dinov2, "AutoModel"),
    "registers": ("dinov2", lambda f: tiny.tiny_dinov2(f, registers=3), "AutoModel"),
    "vit": ("auto", tiny.tiny_vit, "ViTForImageClassification"),
    "resnet": ("auto", tiny.tiny_resnet, "AutoModel"),
    "convnext": ("auto", lambda f: tiny.tiny_resnet(f, kind="ConvNext"), "AutoModel"),
    "two towers": ("auto", tiny.tiny_siglip, "SiglipModel"),
}
if not hasattr(transformers, "Dinov2WithRegistersModel"):
    del MODELS["registers"]
# Tokens before the patches; None for maps.
FIRST_PATCH = {"clip": 1, "siglip": 0, "dinov2": 1, "registers": 4, "vit": 1, "two towers": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, (_, make, _) in MODELS.items():
        made[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        make(made[name])
    return made


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        name: get_encoder(f"{kind}:{folders[name]}", precision="fp32", device="cpu")
        for name, (kind, _, _) in MODELS.items()
    }


def pictures(encoder: ImageEncoder, n: int = 3) -> torch.Tensor:
    size = encoder.image_size
    coarse = torch.rand(n, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def original(folder: Path, class_name: str) -> Any:
    return getattr(transformers, class_name).from_pretrained(folder).eval()


@torch.inference_mode()
def forward(folder: Path, class_name: str, images: torch.Tensor) -> Any:
    """Transformers' own outputs for the same pictures: results, and hidden states."""
    tower = {"CLIPModel": "CLIPVisionModel", "SiglipModel": "SiglipVisionModel"}
    model = original(folder, tower.get(class_name, class_name))
    model = getattr(model, "vit", model)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (tiny.MEAN, tiny.STD))
    return model(pixel_values=(images - mean) / std, output_hidden_states=True)


def pooled(state: torch.Tensor, name: str, pooling: str) -> np.ndarray:
    if pooling == "tokens":
        return state.flatten(1).numpy()
    if state.ndim == 4:
        return state.mean((2, 3)).numpy()
    if pooling == "cls":
        return state[:, 0].numpy()
    return state[:, FIRST_PATCH[name] :].mean(1).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_equals_transformers_own_forward(
    name: str, folders: dict[str, Path], encoders: dict[str, Any]
) -> None:
    encoder = encoders[name]
    images = pictures(encoder)
    out = forward(folders[name], MODELS[name][2], images)
    poolings = ["mean", "tokens"] + (["cls"] if FIRST_PATCH.get(name) else [])
    names = [f"layer{i}:{p}" for i in range(len(out.hidden_states)) for p in poolings]
    names += [f"last:{p}" for p in poolings]
    found = encoder.encode(images, names)
    assert list(found) == names
    for layer in names:
        base, pooling = layer.split(":")
        state = out.last_hidden_state if base == "last" else out.hidden_states[int(base[5:])]
        assert found[layer].dtype == np.float32
        np.testing.assert_allclose(
            found[layer], pooled(state, name, pooling), rtol=1e-5, atol=1e-5, err_msg=layer
        )
        # Alone, the pass ends early; that changes nothing.
        np.testing.assert_array_equal(encoder.encode(images, [layer])[layer], found[layer])


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_embedding_is_what_the_whole_model_gives(
    name: str, folders: dict[str, Path], encoders: dict[str, Any]
) -> None:
    encoder = encoders[name]
    images = pictures(encoder)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        expected = original(folders[name], MODELS[name][2]).get_image_features(
            pixel_values=(images - mean) / std
        )
    expected = getattr(expected, "pooler_output", expected)  # an object from transformers 5 on
    found = encoder.encode(images)
    assert list(found) == ["embedding"]
    np.testing.assert_allclose(found["embedding"], expected.numpy(), rtol=1e-5, atol=1e-5)
    assert not np.allclose(np.linalg.norm(found["embedding"], axis=1), 1, atol=0.05)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("siglip", "two towers")])
def test_pooled_is_the_class_token_or_the_models_own(
    name: str, folders: dict[str, Path], encoders: dict[str, Any]
) -> None:
    encoder = encoders[name]
    images = pictures(encoder)
    out = forward(folders[name], MODELS[name][2], images)
    own = name in ("clip", "resnet", "convnext")
    expected = out.pooler_output.flatten(1) if own else out.last_hidden_state[:, 0]
    found = encoder.encode(images, ["pooled"])["pooled"]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert name == "clip" or encoder.default_layer == "pooled"


@pytest.mark.parametrize("name", MODELS)
def test_one_by_one_equals_a_batch(name: str, encoders: dict[str, Any]) -> None:
    encoder = encoders[name]
    images = pictures(encoder, 11)  # more than go through a CPU at once
    layers = [encoder.default_layer, "layer2"]
    together = encoder.encode(images, layers)
    for layer in layers:
        alone = np.concatenate([encoder.encode(images[i : i + 1], [layer])[layer] for i in (0, 9)])
        np.testing.assert_allclose(together[layer][[0, 9]], alone, rtol=1e-4, atol=1e-5)
    assert encoder.encode(images[:0], layers)["layer2"].shape == (0, together["layer2"].shape[1])


@pytest.mark.parametrize("name", MODELS)
def test_only_what_is_needed_is_run(name: str, encoders: dict[str, Any]) -> None:
    encoder = encoders[name]
    module = encoder._network.module
    blocks = max(
        (m for m in module.modules() if isinstance(m, torch.nn.ModuleList)),
        key=lambda m: len(m) == encoder._network.depth,
    )
    ran: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda *_, i=i: ran.append(i))
        for i, block in enumerate(blocks)
    ]
    encoder.encode(pictures(encoder), ["layer1", "layer2:tokens", "depth=0"])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_depth_is_a_fraction_of_the_blocks(encoders: dict[str, Any]) -> None:
    clip, resnet = encoders["clip"], encoders["resnet"]
    found = {d: clip.canonical_layer(f"depth={d}") for d in ("0", "0.3", "0.5", "0.6", ".9", "1")}
    expected = ["layer0", "layer1", "layer2", "layer2", "layer4", "layer4"]
    assert list(found.values()) == [f"{layer}:cls" for layer in expected]
    assert resnet.canonical_layer("depth=0.5:tokens") == "layer2:tokens"
    images = pictures(clip)
    both = clip.encode(images, ["depth=0.6", "layer2:cls"])
    np.testing.assert_array_equal(both["depth=0.6"], both["layer2:cls"])
    for wrong in ("depth=1.5", "depth=-1", "depth=half", "depth="):
        with pytest.raises(UnknownNameError, match="clip"):
            clip.canonical_layer(wrong)


def test_modules_inside_are_reached_by_path(
    folders: dict[str, Path], encoders: dict[str, Any]
) -> None:
    encoder = encoders["clip"]
    images = pictures(encoder)
    model = original(folders["clip"], "CLIPModel")
    kept: list[torch.Tensor] = []
    model.vision_model.encoder.layers[3].mlp.register_forward_hook(
        lambda _m, _i, output: kept.append(output)
    )
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        model.get_image_features(pixel_values=(images - mean) / std)
    name = "vision_model.encoder.layers.3.mlp"
    found = encoder.encode(images, [f"{name}:tokens", f"{name}:mean", name])
    np.testing.assert_allclose(
        found[f"{name}:tokens"], kept[0].flatten(1).numpy(), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        found[f"{name}:mean"], kept[0][:, 1:].mean(1).numpy(), rtol=1e-5, atol=1e-5
    )
    # The same module under the name that it has in another version of transformers.
    assert encoder.canonical_layer(name) == "encoder.layers.3.mlp:cls"
    assert encoder.canonical_layer("encoder.layers.3.mlp") == "encoder.layers.3.mlp:cls"
    assert encoder.canonical_layer("visual_projection") == "visual_projection"


def test_unknown_layers_list_the_nearest(encoders: dict[str, Any]) -> None:
    clip = encoders["clip"]
    for name, near in {
        "embeding": "'embedding'",
        "layer9": "layer",
        "encoder.layers.3.mlpp": "encoder.layers.3.mlp",
        "layer1:max": "layer1:cls",
        "embedding:mean": "one vector",
        "encoder.layers": "encoder.layers",  # a container runs nothing itself
        "": "one of",
    }.items():
        with pytest.raises(UnknownNameError, match=near):
            check_layers(clip, [name])
    with pytest.raises(UnknownNameError, match="no pooling 'cls'"):
        check_layers(encoders["siglip"], "layer1:cls")
    with pytest.raises(UnknownNameError, match="no pooling 'cls'"):
        check_layers(encoders["resnet"], "layer1:cls")
    with pytest.raises(DataError, match="no layer"):
        clip.encode(pictures(clip), [])


def test_outputs_that_are_not_over_the_picture_are_not_averaged(encoders: dict[str, Any]) -> None:
    clip, siglip = encoders["clip"], encoders["siglip"]
    with pytest.raises(DataError, match="does not depend on the picture"):
        clip.encode(pictures(clip), ["embeddings.position_embedding"])
    with pytest.raises(UnknownNameError, match=r"head\.mlp:tokens"):
        siglip.canonical_layer("head.mlp:mean")  # one token, which is no patch
    assert siglip.canonical_layer("head.mlp") == "head.mlp:tokens"


def test_what_has_random_weights_is_no_layer(encoders: dict[str, Any]) -> None:
    vit = encoders["vit"]  # saved as a classifier, without the pooler
    assert vit._network.lacking
    with pytest.raises(UnknownNameError, match="pooler"):
        vit.encode(pictures(vit), ["pooler.dense"])


def test_check_layers_gives_canonical_names_once(encoders: dict[str, Any]) -> None:
    names = check_layers(encoders["clip"], ["depth=0.5", "layer2", "embedding"])
    assert names == ("layer2:cls", "embedding")
    assert check_layers(encoders["dinov2"], None) == ("pooled",)
    for encoder in encoders.values():
        assert check_layers(encoder, encoder.layers) == encoder.layers


def test_both_towers_declare_one_space(folders: dict[str, Path], encoders: dict[str, Any]) -> None:
    for name in ("clip", "siglip"):
        image, text = encoders[name], get_text_encoder(f"{name}-text:{folders[name]}")
        assert image.spaces == {"embedding": text.spaces["vector"]}
        assert text.spaces["vector"] == f"{name}:{image.weights_hash}"
        images, texts = image.encode(pictures(image))["embedding"], text.encode(["a cat"])
        assert images.shape[1] == texts.shape[1]
    assert encoders["dinov2"].spaces == {}
    assert encoders["clip"].packages == ("transformers",)


def test_a_tower_saved_alone_is_read(
    folders: dict[str, Path], encoders: dict[str, Any], tmp_path: Path
) -> None:
    model = transformers.CLIPModel.from_pretrained(folders["clip"])
    config = model.config.vision_config
    config.projection_dim = model.config.projection_dim
    alone = transformers.CLIPVisionModelWithProjection(config)
    alone.load_state_dict(model.state_dict(), strict=False)
    alone.save_pretrained(tmp_path)
    said = (folders["clip"] / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(said)
    encoder = get_encoder(f"clip:{tmp_path}", precision="fp32", device="cpu")
    images = pictures(encoder)
    expected = encoders["clip"].encode(images)["embedding"]
    np.testing.assert_allclose(encoder.encode(images)["embedding"], expected, atol=1e-5)
    plain = get_encoder(f"auto:{folders['clip']}", precision="fp32", device="cpu")
    np.testing.assert_allclose(
        plain.encode(images, ["layer2"])["layer2"],
        encoders["clip"].encode(images, ["layer2"])["layer2"],
        atol=1e-5,
    )


def test_identity_is_of_the_content(
    folders: dict[str, Path], encoders: dict[str, Any], tmp_path: Path
) -> None:
    hashes = {encoder.weights_hash for name, encoder in encoders.items() if name != "two towers"}
    assert len(hashes) == len(encoders) - 1
    other = tmp_path / "clip"
    other.mkdir()
    tiny.tiny_clip(other)
    same = get_encoder(f"clip:{other}", precision="fp32")
    assert same.weights_hash == encoders["clip"].weights_hash
    assert same.id == "clip:clip"
    config = json.loads((other / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "relu"
    (other / "config.json").write_text(json.dumps(config))
    # The same weights with another activation function are another network.
    assert get_encoder(f"clip:{other}").weights_hash != same.weights_hash


def test_bf16_is_close_and_declared(folders: dict[str, Path], encoders: dict[str, Any]) -> None:
    for name in ("clip", "dinov2", "convnext"):
        rough = get_encoder(f"{MODELS[name][0]}:{folders[name]}", precision="bf16", device="cpu")
        assert rough.precision == "bf16"
        assert next(rough._network.module.parameters()).dtype == torch.bfloat16
        images = pictures(rough)
        a, b = (e.encode(images)[e.default_layer] for e in (rough, encoders[name]))
        assert a.dtype == np.float32
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.99


def test_threads_do_not_disturb_one_another(encoders: dict[str, Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    encoder = encoders["clip"]
    images = pictures(encoder, 8)
    layers = [["layer1"], ["embedding"], ["layer3:tokens", "layer1"], ["encoder.layers.2.mlp"]] * 6
    expected = [encoder.encode(images, names) for names in layers[:4]] * 6
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda names: encoder.encode(images, names), layers))
    for a, b in zip(found, expected, strict=True):
        for layer in b:
            np.testing.assert_array_equal(a[layer], b[layer])


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "clip": (32, 32, "crop", "bicubic"),
        "siglip": (32, None, "squash", "bicubic"),
        "dinov2": (32, 38, "crop", "bicubic"),
        "vit": (32, None, "squash", "bilinear"),
        "convnext": (64, 73, "crop", "bicubic"),
    }.items(),
)
def test_preprocessing_is_the_models_own(
    name: str, expected: tuple[Any, ...], encoders: dict[str, Any]
) -> None:
    rule = encoders[name].preprocessing
    size, resize, mode, kind = expected
    assert (rule["size"], rule["resize"], rule["mode"]) == (size, resize, mode)
    assert rule["interpolation"] == f"pillow-{kind}"
    assert rule["mean"] == list(tiny.MEAN)
    assert rule["std"] == list(tiny.STD)


def test_a_bank_of_layers_from_a_spec(folders: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = [f"thing{i}/thing{i}_01.png" for i in range(3)]
    stimuli = StimulusSet.from_arrays(
        ids, [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in ids]
    )
    bank = FeatureBank.extract(
        stimuli, f"clip:{folders['clip']}", layers=["embedding", "depth=0.5"],
        cache=tmp_path, precision="fp32", progress=False,
    )  # fmt: skip
    assert bank.layers == ("embedding", "layer2:cls")
    encoder = get_encoder(f"clip:{folders['clip']}", precision="fp32")
    from phosphene.stimuli.images import prepare

    images = torch.stack([torch.from_numpy(prepare(stimuli.image(id), 32, 32)) for id in ids])
    expected = encoder.encode(images)["embedding"]
    np.testing.assert_allclose(bank.vectors("original"), expected, rtol=1e-4, atol=1e-5)

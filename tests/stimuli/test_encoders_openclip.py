"""The adapter of open_clip, against a stand-in with its interface: it needs torchvision itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from phosphene.errors import DataError, MissingExtraError, UnknownNameError
from phosphene.stimuli.encoders import get_encoder
from phosphene.testing import run_checks


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.mlp(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width) for _ in range(layers)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x)
        return x


class VisionTransformer(nn.Module):
    """Modules and names as in open_clip's own image tower."""

    def __init__(self, width: int, layers: int, size: int, patch: int, out: int) -> None:
        super().__init__()
        self.image_size = (size, size)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, out) / width**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(x), 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([cls, x], 1)))
        return self.ln_post(x.mean(1)) @ self.proj


class ResNet(nn.Module):
    """Names of the stages as in open_clip's modified ResNet."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.image_size = size
        self.avgpool = nn.AvgPool2d(2)
        for stage, width in enumerate((3, 4, 6, 8), 1):
            setattr(self, f"layer{stage}", nn.Conv2d(width, (4, 6, 8, 10)[stage - 1], 3, 2, 1))
        self.bn = nn.BatchNorm2d(10)
        self.attnpool = nn.Linear(10, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.avgpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = torch.relu(stage(x))
        return self.attnpool(self.bn(x).mean((2, 3)))


class Clip(nn.Module):
    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        return self.visual(image)


def stand_in() -> Any:
    """A module that answers as open_clip 3 does."""
    package: Any = ModuleType("open_clip")
    configs: dict[str, Any] = {"ViT-T": {"size": 16}, "RN-T": {"size": 32}}
    tags = {
        ("ViT-T", "lab"): {"interpolation": "bilinear", "quick_gelu": True},
        ("RN-T", "b"): {"url": "x"},
    }
    package.made = []

    def add_model_config(path: Path) -> None:
        said = json.loads(Path(path).read_text())
        configs[Path(path).stem] = {"size": said["vision_cfg"]["image_size"]}

    def create_model(
        model_name: str, pretrained: str | None = None, precision: str = "fp32",
        device: str = "cpu", force_quick_gelu: bool = False, require_pretrained: bool = False,
        weights_only: bool = True,
    ) -> Clip:  # fmt: skip
        package.made.append({"name": model_name, "quick_gelu": force_quick_gelu})
        size = configs[model_name]["size"]
        if model_name.startswith("RN"):
            model = Clip(ResNet(size, 7))
        else:
            model = Clip(VisionTransformer(12, 3, size, 8, 7))
        tag = tags.get((model_name, pretrained or ""))
        if pretrained and tag is None:
            model.load_state_dict(torch.load(pretrained, weights_only=weights_only), strict=True)
        model.cfg = {
            "size": model.visual.image_size, "mode": "RGB", "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.3, 0.4), "interpolation": "bicubic", "resize_mode": "shortest",
            "fill_color": 0, **{k: v for k, v in (tag or {}).items() if k == "interpolation"},
        }  # fmt: skip
        return model

    package.__version__ = "3.0.0"
    package.add_model_config = add_model_config
    package.create_model = create_model
    package.list_models = lambda: sorted(configs)
    package.list_pretrained = lambda: list(tags)
    package.get_pretrained_cfg = lambda name, tag: tags.get((name, tag), {})
    package.get_model_preprocess_cfg = lambda model: model.cfg
    return package


@pytest.fixture
def open_clip(monkeypatch: pytest.MonkeyPatch) -> Any:
    import sys

    package = stand_in()
    monkeypatch.setitem(sys.modules, "open_clip", package)
    return package


def pictures(size: int, n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def weights(open_clip: Any, name: str, folder: Path) -> tuple[Clip, Path]:
    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    torch.save(model.state_dict(), folder / "weights.pt")
    return model, folder / "weights.pt"


def test_the_public_checks_pass_on_the_stand_in(open_clip: Any) -> None:
    found = run_checks("openclip")
    assert [o.check for o in found if o.status != "passed"] == []
    assert len(found) > 4


def test_without_open_clip_the_checks_are_skipped() -> None:
    pytest.importorskip("transformers")
    try:
        import open_clip  # noqa: F401
    except ImportError:
        (outcome,) = run_checks("openclip")
        assert outcome.skipped
        assert 'pip install "phosphene[openclip]"' in outcome.message
        with pytest.raises(MissingExtraError, match="openclip"):
            get_encoder("openclip:RN50/openai")


def test_a_transformer_from_a_file(open_clip: Any, tmp_path: Path) -> None:
    model, path = weights(open_clip, "ViT-T", tmp_path)
    encoder: Any = get_encoder(f"openclip:ViT-T/{path}", precision="fp32", device="cpu")
    assert encoder.id == "openclip:ViT-T/weights.pt"
    assert encoder.layers == ("embedding", *(f"layer{i}:cls" for i in range(4)))
    assert encoder.preprocessing["mode"] == "crop"
    assert encoder.spaces == {"embedding": f"openclip:{encoder.weights_hash}"}
    assert encoder.packages == ("open_clip_torch",)
    images = pictures(16)
    x = (images - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    kept: list[torch.Tensor] = []
    model.visual.transformer.resblocks[1].register_forward_hook(lambda _m, _i, o: kept.append(o))
    with torch.inference_mode():
        expected = model.encode_image(x).numpy()
    found = encoder.encode(images, ["embedding", "layer2:mean", "transformer.resblocks.1:tokens"])
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["layer2:mean"], kept[0][:, 1:].mean(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(
        found["transformer.resblocks.1:tokens"], kept[0].flatten(1).numpy(), atol=1e-5
    )
    assert encoder.canonical_layer("depth=0.6") == "layer2:cls"


def test_a_resnet_by_its_tag(open_clip: Any) -> None:
    encoder: Any = get_encoder("openclip:RN-T/b", precision="fp32", device="cpu")
    assert encoder.id == "openclip:RN-T/b"
    assert encoder.layers == ("embedding", *(f"layer{i}:mean" for i in range(5)))
    shapes = {k: v.shape for k, v in encoder.encode(pictures(32), encoder.layers).items()}
    assert shapes == {
        "embedding": (3, 7), "layer0:mean": (3, 3), "layer1:mean": (3, 4), "layer2:mean": (3, 6),
        "layer3:mean": (3, 8), "layer4:mean": (3, 10),
    }  # fmt: skip


def test_what_a_tag_says_is_followed(open_clip: Any) -> None:
    encoder = get_encoder("openclip:ViT-T/lab", precision="fp32")
    assert encoder.preprocessing["interpolation"] == "pillow-bilinear"
    # open_clip itself would only warn that the activation function is another one.
    assert open_clip.made[-1] == {"name": "ViT-T", "quick_gelu": True}


def test_wrong_sources(open_clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="ARCHITECTURE/TAG_OR_FILE"):
        get_encoder("openclip:RN50")
    with pytest.raises(DataError, match=r"no architecture 'ViT-S'[\s\S]*'ViT-T'"):
        get_encoder("openclip:ViT-S/lab")
    with pytest.raises(DataError, match=r"no weights 'labs'[\s\S]*'lab'"):
        get_encoder("openclip:ViT-T/labs")
    with pytest.raises(DataError, match="has no revisions"):
        get_encoder("openclip:ViT-T/lab@main")
    (tmp_path / "broken.pt").write_bytes(b"not weights")
    with pytest.raises(DataError, match=r"cannot load openclip:ViT-T/.*broken\.pt"):
        get_encoder(f"openclip:ViT-T/{tmp_path / 'broken.pt'}")
    _, path = weights(open_clip, "RN-T", tmp_path)
    with pytest.raises(DataError, match="weights of this architecture"):
        get_encoder(f"openclip:ViT-T/{path}")
    with pytest.raises(UnknownNameError, match="layer1:cls"):
        get_encoder("openclip:ViT-T/lab").encode(pictures(16), ["layer1:max"])
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained=None: None)
    with pytest.raises(DataError, match="too old"):
        get_encoder("openclip:ViT-T/lab")


@pytest.mark.parametrize("size", [(16, 24), None])
def test_preprocessing_that_we_do_not_do_is_refused(
    size: Any, open_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"size": size, "mean": (0, 0, 0), "std": (1, 1, 1)}
    monkeypatch.setattr(open_clip, "get_model_preprocess_cfg", lambda model: said)
    with pytest.raises(DataError, match="preprocessing"):
        get_encoder("openclip:ViT-T/lab")

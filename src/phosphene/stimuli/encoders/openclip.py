"""Models of open_clip."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from phosphene import _registry
from phosphene._optional import require
from phosphene.errors import DataError
from phosphene.stimuli.encoders._network import Network, Results
from phosphene.stimuli.encoders._tower import Tower
from phosphene.stimuli.encoders._weights import hash_state
from phosphene.stimuli.images import preprocessing

# What the blocks and stages of open_clip's own towers are called; towers of timm are reached by
# their modules' paths.
_BLOCKS = "transformer.resblocks"
_STAGES = ("layer1", "layer2", "layer3", "layer4")


@_registry.register(
    "image_encoder",
    "openclip",
    extra="openclip",
    needs_source=True,
    usage="openclip:RN50/openai",
    summary="Image tower of open_clip: openclip:ARCHITECTURE/TAG_OR_FILE",
)
class OpenClip(Tower):
    """The image tower of an open_clip model: ``openclip:RN50/openai``.

    Layers: ``embedding`` (the default, in the space shared with text), ``layer0`` to ``layerN``
    (blocks, or stages of a ResNet), ``depth=0.6``, and modules of the image tower by path.

    Parameters
    ----------
    source : str
        Architecture and weights: ``ViT-H-14/laion2b_s32b_b79k`` with one of open_clip's tags, or
        ``RN50-quickgelu/FILE`` with a checkpoint.
    precision, device : str
        As for other encoders.

    Notes
    -----
    open_clip needs torchvision, so it is not part of the tested set: this adapter is tested against
    a stand-in with open_clip's interface.

    References
    ----------
    Cherti et al., Reproducible Scaling Laws for Contrastive Language-Image Learning, CVPR 2023,
    arXiv:2212.07143.
    """

    packages: ClassVar[tuple[str, ...]] = ("open_clip_torch",)

    def __init__(self, source: str, *, precision: str = "auto", device: str = "auto") -> None:
        package = require("open_clip", "openclip", f"openclip:{source}")
        architecture, _, weights = source.partition("/")
        if not architecture or not weights:
            raise DataError(f"cannot read the source {source!r}", found=source,
                            expected="ARCHITECTURE/TAG_OR_FILE, e.g. RN50/openai")  # fmt: skip
        self.source = source
        model = _create(package, architecture, weights)
        rule = _rule(dict(package.get_model_preprocess_cfg(model)), source)
        digest = hash_state(model.state_dict())
        name = Path(weights).name if _is_file(weights) else weights
        self._set_up(
            _network(model),
            id=f"openclip:{architecture}/{name}",
            weights_hash=digest,
            preprocessing=rule,
            default_layer="embedding",
            precision=precision,
            device=device,
            spaces={"embedding": f"openclip:{digest}"},
        )


def _is_file(weights: str) -> bool:
    return Path(weights).expanduser().is_file()


def _create(package: Any, architecture: str, weights: str) -> Any:
    if "weights_only" not in inspect.signature(package.create_model).parameters:
        raise DataError(
            "this open_clip is too old to read weights without running what is in the file",
            found=f"open_clip {getattr(package, '__version__', 'of unknown version')}",
            expected="open_clip_torch 3.0 or later",
            fix="pip install -U open_clip_torch",
        )
    known = list(package.list_models())
    if architecture not in known:
        raise DataError(
            f"open_clip has no architecture {architecture!r}",
            found=f"openclip:{architecture}/{weights}",
            expected="a name of open_clip.list_models()",
            fix=_registry.did_you_mean(architecture, known),
        )
    tag = dict(package.get_pretrained_cfg(architecture, weights) or {})
    if not tag and not _is_file(weights):
        tags = [t for a, t in package.list_pretrained() if a == architecture]
        raise DataError(
            f"open_clip has no weights {weights!r} for {architecture}, and there is no such file",
            found=weights,
            expected="a checkpoint file, or one of " + (", ".join(tags) or "no tag"),
            fix=_registry.did_you_mean(weights, tags),
        )
    try:
        model = package.create_model(
            architecture,
            pretrained=str(Path(weights).expanduser()) if not tag else weights,
            precision="fp32",
            device="cpu",
            # open_clip only warns when weights were trained with another activation function.
            force_quick_gelu=bool(tag.get("quick_gelu", False)),
            require_pretrained=True,
            weights_only=True,
        )
    except Exception as error:  # many kinds, from the download to the reading of the file
        raise DataError(
            f"open_clip cannot load openclip:{architecture}/{weights}",
            found=f"{type(error).__name__}: {error}",
            fix="check the connection, or that the file holds weights of this architecture",
        ) from error
    return model.eval().requires_grad_(False)


def _network(model: Any) -> Network:
    visual: nn.Module = model.visual
    parts = _hidden_modules(visual)

    def forward(x: Tensor, hidden: bool) -> Results:
        taken: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            taken.append(output)

        handles = [part.register_forward_hook(keep) for part in parts] if hidden else []
        try:
            embedding = visual(x)
        finally:
            for handle in handles:
                handle.remove()
        return {"embedding": embedding}, taken

    return Network(visual, forward, prefix="visual.")


def _hidden_modules(visual: nn.Module) -> list[nn.Module]:
    """Modules whose outputs are the hidden layers, from what goes into the first block on."""
    modules = dict(visual.named_modules())
    blocks = modules.get(_BLOCKS)
    if blocks is not None and "ln_pre" in modules:
        return [modules["ln_pre"], *blocks.children()]
    if "avgpool" in modules and all(name in modules for name in _STAGES):
        return [modules["avgpool"], *(modules[name] for name in _STAGES)]
    return []


def _rule(said: Mapping[str, Any], source: str) -> dict[str, Any]:
    size = said.get("size")
    sides = set(size) if isinstance(size, (tuple, list)) else {size}
    mode, how = said.get("resize_mode", "shortest"), said.get("interpolation", "bicubic")
    modes = {"shortest": "crop", "squash": "squash"}
    if len(sides) != 1 or None in sides or mode not in modes or how not in ("bicubic", "bilinear"):
        raise DataError(
            f"the preprocessing of openclip:{source} is not one that we do",
            found=dict(said),
            expected="a square, resize_mode shortest or squash, bicubic or bilinear",
            fix="wrap the model: CallableEncoder(fn, id=...)",
        )
    side = int(sides.pop() or 0)
    return preprocessing(
        side,
        side if mode == "shortest" else None,
        modes[mode],  # type: ignore[arg-type]
        tuple(float(v) for v in said["mean"]),
        tuple(float(v) for v in said["std"]),
        interpolation=how,
    )

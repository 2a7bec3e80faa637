"""Small models with random weights, saved the way that real ones are, for checks and tests.

Weights are large enough that two pictures or words differ clearly; a network of the usual initial
size would give all of them nearly the same vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phosphene._optional import require
from phosphene._saving import write_tensors
from phosphene.stimuli._transformers import quiet

SIZE = 32
MEAN, STD = (0.48, 0.45, 0.41), (0.27, 0.26, 0.28)
_WORDS = "a photo of the cat dog aardvark accordion airplane hot air balloon - . fish red car"
_VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 8,
}
_TEXT = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}


def tiny_clip(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """CLIP with both towers and CLIP's tokenizer (bytes, no merges)."""
    package = require("transformers", "hf", "the example of CLIP")
    letters = _clip_letters(folder)
    ends = {"bos_token_id": letters, "eos_token_id": letters + 1, "pad_token_id": letters + 1}
    config = package.CLIPConfig(
        projection_dim=20,
        initializer_factor=3.0,
        vision_config=_VISION,
        text_config={**_TEXT, "vocab_size": letters + 2, **ends},
    )
    _save(package, "CLIPModel", config, folder, seed)
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="CLIPImageProcessor",
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        do_center_crop=True,
        **_standard(resample=3),
    )
    return {"source": str(folder)}


def tiny_siglip(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """SigLIP with both towers; its tokenizer in the form that SigLIP 2 has."""
    package = require("transformers", "hf", "the example of SigLIP")
    vocabulary = _word_tokenizer(folder, end="</s>")
    config = package.SiglipConfig(
        vision_config=_VISION,
        text_config={**_TEXT, "vocab_size": vocabulary, "pad_token_id": 1, "eos_token_id": 1,
                     "bos_token_id": 0, "projection_size": 24},
    )  # fmt: skip
    _save(package, "SiglipModel", config, folder, seed)
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="SiglipImageProcessor",
        size={"height": SIZE, "width": SIZE},
        **_standard(resample=3),
    )
    return {"source": str(folder)}


def tiny_dinov2(folder: Path, seed: int = 0, registers: int = 0) -> Mapping[str, Any]:
    """DINOv2 for another picture size than it is used at, as the real ones are."""
    package = require("transformers", "hf", "the example of DINOv2")
    name = "Dinov2WithRegisters" if registers else "Dinov2"
    more = {"num_register_tokens": registers} if registers else {}
    sizes = {k: v for k, v in _VISION.items() if k != "intermediate_size"}
    config = getattr(package, f"{name}Config")(
        **{**sizes, "image_size": 48}, mlp_ratio=2, initializer_range=0.2, **more
    )
    _save(package, f"{name}Model", config, folder, seed)
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="BitImageProcessor",
        size={"shortest_edge": SIZE + 6},
        crop_size={"height": SIZE, "width": SIZE},
        do_center_crop=True,
        **_standard(resample=3),
    )
    return {"source": str(folder)}


def tiny_vit(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A ViT saved as a classifier, so without the pooler that ``AutoModel`` would want."""
    package = require("transformers", "hf", "the example of ViT")
    config = package.ViTConfig(**_VISION, initializer_range=0.2, num_labels=5)
    _save(package, "ViTForImageClassification", config, folder, seed)
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="ViTImageProcessor",
        size={"height": SIZE, "width": SIZE},
        **_standard(resample=2),
    )
    return {"source": str(folder)}


def tiny_resnet(folder: Path, seed: int = 0, kind: str = "ResNet") -> Mapping[str, Any]:
    """A convolutional network of four stages: ``ResNet`` or ``ConvNext``."""
    package = require("transformers", "hf", f"the example of {kind}")
    widths = [8, 12, 16, 24]
    more = {"embedding_size": 8, "layer_type": "basic"} if kind == "ResNet" else {}
    config = getattr(package, f"{kind}Config")(
        hidden_sizes=widths, depths=[1, 1, 2, 1], initializer_range=0.2, **more
    )
    _save(package, f"{kind}Model", config, folder, seed)
    _write(
        folder / "preprocessor_config.json",
        image_processor_type="ConvNextImageProcessor",
        size={"shortest_edge": 64},
        crop_pct=0.875,
        **_standard(resample=3),
    )
    return {"source": str(folder)}


def tiny_sentence(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A BERT in the layout of sentence-transformers: mean pooling and unit length."""
    package = require("transformers", "hf", "the example of sentence encoders")
    vocabulary = _word_tokenizer(folder, start="[CLS]", end="[SEP]")
    config = package.BertConfig(**_TEXT, vocab_size=vocabulary, pad_token_id=1,
                                initializer_range=0.2)  # fmt: skip
    _save(package, "BertModel", config, folder, seed)
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write(
        folder / "1_Pooling" / "config.json",
        word_embedding_dimension=24,
        pooling_mode_cls_token=False,
        pooling_mode_mean_tokens=True,
        pooling_mode_max_tokens=False,
    )
    _write(folder / "sentence_bert_config.json", max_seq_length=12, do_lower_case=False)
    return {"source": str(folder)}


def tiny_words(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """Word vectors in GloVe's text format."""
    path = folder / "words.txt"
    words = dict.fromkeys(f"{_WORDS} hot-air".split())
    values = np.random.default_rng(seed).normal(size=(len(words), 6))
    lines = [
        f"{word} {' '.join(f'{v:.4f}' for v in row)}"
        for word, row in zip(words, values, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return {"source": str(path)}


def tiny_openclip(folder: Path, seed: int = 0) -> Mapping[str, Any]:
    """A CLIP of open_clip whose weights lie in a file."""
    package = require("open_clip", "openclip", "the example of open_clip")
    _write(
        folder / "phosphene-tiny.json",
        embed_dim=12,
        vision_cfg={"image_size": SIZE, "layers": 2, "width": 64, "patch_size": 8},
        text_cfg={"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    )
    package.add_model_config(folder / "phosphene-tiny.json")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = package.create_model("phosphene-tiny")
    write_tensors(folder / "weights.safetensors", model.state_dict())
    return {"source": f"phosphene-tiny/{folder / 'weights.safetensors'}"}


def _save(package: Any, name: str, config: Any, folder: Path, seed: int) -> None:
    with quiet(package), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(package, name)(config).eval()
        for key, value in model.named_parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=value[0].numel() ** -0.5)
            elif key.endswith("bias"):
                torch.nn.init.normal_(value, std=0.1)
        model.save_pretrained(folder)


def _standard(resample: int) -> dict[str, Any]:
    return {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "resample": resample,
    }


def _write(path: Path, **content: Any) -> None:
    path.write_text(json.dumps(content, indent=1))


def _clip_letters(folder: Path) -> int:
    """Write a tokenizer of CLIP that spells; gives the number of letters that it knows."""
    require("tokenizers", "hf", "the example of CLIP")
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    _write(folder / "vocab.json", **{token: i for i, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    _write(
        folder / "tokenizer_config.json", tokenizer_class="CLIPTokenizer", model_max_length=16,
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )  # fmt: skip
    return len(tokens) - 2


def _word_tokenizer(folder: Path, end: str, start: str = "") -> int:
    """Write a tokenizer of whole words and gives the size of its vocabulary."""
    require("tokenizers", "hf", "the example of a tokenizer")
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import WordLevel

    tokens = ["[UNK]", end, *([start] if start else []), *_WORDS.split()]
    tokenizer = Tokenizer(WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}".strip(),
        special_tokens=[(t, tokens.index(t)) for t in (start, end) if t],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=16, unk_token="[UNK]", eos_token=end, pad_token=end,
    )  # fmt: skip
    return len(tokens)

"""Text towers of CLIP and SigLIP and sentence encoders, on small random models."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from phosphene.errors import DataError
from phosphene.stimuli.text import TextEncoder, embed_texts, get_text_encoder
from phosphene.testing import _tiny_models as tiny

transformers = pytest.importorskip("transformers")
TEXTS = ["a cat", "a photo of the red airplane", "Accordion", "hot-air balloon.", "fish"]
LONG = "a photo of the cat " * 6
MAKERS = {
    "clip-text": tiny.tiny_clip,
    "siglip-text": tiny.tiny_siglip,
    "sentence": tiny.tiny_sentence,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in MAKERS}
    for name, make in MAKERS.items():
        make(made[name])
    return made


@pytest.fixture
def sentence(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(folders["sentence"], tmp_path / "sentence"))


def load(folder: Path, kind: str = "sentence") -> Any:
    return get_text_encoder(f"{kind}:{folder}")


def tokens(folder: Path, texts: list[str], **more: Any) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer(texts, return_tensors="pt", truncation=True, **more)


@torch.inference_mode()
def expected(folder: Path, kind: str, texts: list[str]) -> np.ndarray:
    """What transformers' own model gives, as its documentation uses it."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    if kind == "clip-text":
        found = model.get_text_features(**tokens(folder, texts, padding=True, max_length=16))
        return getattr(found, "pooler_output", found).numpy()
    if kind == "siglip-text":
        ids = tokens(folder, texts, padding="max_length", max_length=16)["input_ids"]
        found = model.get_text_features(input_ids=ids)
        return getattr(found, "pooler_output", found).numpy()
    inputs = tokens(folder, texts, padding=True, max_length=12)
    states = model(**inputs).last_hidden_state
    rows = [s[m.bool()].mean(0) for s, m in zip(states, inputs["attention_mask"], strict=True)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1).numpy()


@pytest.mark.parametrize("kind", MAKERS)
def test_vectors_equal_the_models_own(kind: str, folders: dict[str, Path]) -> None:
    encoder = load(folders[kind], kind)
    assert isinstance(encoder, TextEncoder)
    texts = [*TEXTS, LONG]
    found = encoder.encode(texts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, expected(folders[kind], kind, texts), rtol=1e-5, atol=1e-5, err_msg=kind
    )
    unit = np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    assert unit == (kind == "sentence")  # the folder asks for it, the others give raw vectors


@pytest.mark.parametrize("kind", MAKERS)
def test_one_by_one_equals_a_batch(kind: str, folders: dict[str, Path]) -> None:
    encoder = load(folders[kind], kind)
    texts = [f"{text} {word}" for text in TEXTS for word in ("", "cat", "dog", "red", "car", "the")]
    texts += TEXTS  # more than one pass
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts[::7]])
    np.testing.assert_allclose(together[::7], alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together[-5:], encoder.encode(TEXTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MAKERS)
def test_long_texts_are_cut_and_counted(
    kind: str, folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = load(folders[kind], kind)
    with caplog.at_level(logging.WARNING, logger="phosphene"):
        encoder.encode(["cat", "a red car"])
        assert not caplog.records
        encoder.encode(["cat", LONG, LONG + "fish", "dog"])
    (record,) = caplog.records
    assert f"reads {encoder.context} tokens: 2 of 4 texts" in record.getMessage()
    assert "'a photo of the cat" in record.getMessage()


def test_names_and_captions_become_vectors(folders: dict[str, Path]) -> None:
    spec = f"clip-text:{folders['clip-text']}"
    vectors, filled, origin = embed_texts(["red_car", "cat"], spec, "a photo of a {concept}")
    assert vectors.shape == (2, 20)
    assert filled[1] == "a photo of a cat"
    assert origin["id"].startswith("clip-text:")
    assert len(origin["weights_hash"]) == 64


def test_the_tokenizer_is_part_of_the_identity(sentence: Path) -> None:
    before = load(sentence)
    text = (sentence / "tokenizer.json").read_text()
    swapped = text.replace('"cat"', '"?"').replace('"dog"', '"cat"').replace('"?"', '"dog"')
    (sentence / "tokenizer.json").write_text(swapped)
    after = load(sentence)
    assert after.weights_hash != before.weights_hash
    np.testing.assert_allclose(after.encode(["cat"]), before.encode(["dog"]), atol=1e-6)


def test_a_tokenizer_that_is_absent_or_not_the_models(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders["clip-text"], tmp_path / "clip"))
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="has no tokenizer"):
        load(folder, "clip-text")
    words = json.loads((folders["clip-text"] / "vocab.json").read_text())
    words["elephant</w>"] = 3000
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match="3001 tokens"):
        load(folder, "clip-text")


# ------------------------------------------------------------------------- sentence encoders
@torch.inference_mode()
def states(folder: Path, texts: list[str]) -> list[torch.Tensor]:
    """Last hidden states of each text alone, which needs no padding."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return [model(**tokens(folder, [text])).last_hidden_state[0] for text in texts]


def pooling(folder: Path, **modes: Any) -> None:
    said = {"word_embedding_dimension": 24, **modes}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))


def test_pooling_and_length_are_the_folders(sentence: Path) -> None:
    each = states(sentence, TEXTS)
    modules = json.loads((sentence / "modules.json").read_text())
    (sentence / "modules.json").write_text(json.dumps(modules[:2]))  # without Normalize
    raw = {"cls": [s[0] for s in each], "max": [s.amax(0) for s in each]}
    raw["mean"] = [s.mean(0) for s in each]
    for mode, key in (
        ("cls", "pooling_mode_cls_token"),
        ("max", "pooling_mode_max_tokens"),
        ("mean", "pooling_mode_mean_tokens"),
    ):
        pooling(sentence, **{key: True})
        encoder = load(sentence)
        assert encoder.pooling == mode
        want = torch.stack(raw[mode]).numpy()
        np.testing.assert_allclose(encoder.encode(TEXTS), want, rtol=1e-4, atol=1e-5)
    pooling(sentence, pooling_mode="cls")
    assert load(sentence).pooling == "cls"


def test_any_text_model_is_averaged(sentence: Path) -> None:
    each = states(sentence, TEXTS)
    (sentence / "modules.json").unlink()
    shutil.rmtree(sentence / "1_Pooling")
    want = torch.stack([s.mean(0) for s in each]).numpy()
    np.testing.assert_allclose(load(sentence).encode(TEXTS), want, rtol=1e-4, atol=1e-5)


def test_what_the_folder_asks_of_texts_is_done(sentence: Path) -> None:
    plain = load(sentence)
    prompts = {"prompts": {"query": "a photo of the "}, "default_prompt_name": "query"}
    (sentence / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    prompted = load(sentence)
    np.testing.assert_allclose(
        prompted.encode(["cat"]), plain.encode(["a photo of the cat"]), atol=1e-6
    )
    assert prompted.weights_hash != plain.weights_hash
    settings = {"max_seq_length": 4, "do_lower_case": True}
    (sentence / "sentence_bert_config.json").write_text(json.dumps(settings))
    assert load(sentence).context == 4


def test_parts_that_are_not_read_are_refused(sentence: Path, folders: dict[str, Path]) -> None:
    modules = json.loads((sentence / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (sentence / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(DataError, match=r"parts that are not read[\s\S]*Dense"):
        load(sentence)
    (sentence / "modules.json").write_text(json.dumps(modules))
    for modes in (
        {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
        {"pooling_mode_lasttoken": True},
        {"pooling_mode_cls_token": False},
    ):
        pooling(sentence, **modes)
        with pytest.raises(DataError, match="pooling"):
            load(sentence)
    with pytest.raises(DataError, match="not an encoder of text"):
        load(folders["clip-text"])


def test_a_sentencepiece_vocabulary_is_read(folders: dict[str, Path], tmp_path: Path) -> None:
    spm = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf", reason="transformers reads sentencepiece through it")
    import io

    folder = Path(shutil.copytree(folders["siglip-text"], tmp_path / "siglip"))
    (folder / "tokenizer.json").unlink()
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["cat", "a dog", "red car"] * 30), model_writer=model, vocab_size=18,
        model_type="char", pad_id=-1, bos_id=-1, eos_id=1, unk_id=0, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    said = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    encoder = load(folder, "siglip-text")
    vectors = encoder.encode(["a cat", "A CAT!", "a dog"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)  # as SigLIP's rule has it
    assert not np.allclose(vectors[0], vectors[2], atol=1e-2)

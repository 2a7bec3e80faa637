"""A model's files in a folder: found, checked and hashed before anything is built from them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from phosphene._saving import sha256_file, sha256_json
from phosphene.errors import DataError
from phosphene.stimuli._hub import HubModel
from phosphene.stimuli._sources import is_path

CONFIG = "config.json"
IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
TEXT_FILES = (
    *VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# In the order in which they are looked for; the others are not read.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Says who wrote the file or how classes are called, not what is computed.
_NOT_ARCHITECTURE = {
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
}


@dataclass(frozen=True)
class ModelFolder:
    """A model's files on this machine.

    Parameters
    ----------
    path : Path
        Where they lie.
    source : str
        Folder or hub id as it was asked for.
    revision : str or None
        Commit on the hub; None for a folder.
    config : dict
        Content of ``config.json``.
    weights : tuple of Path
        The weight files that are read.
    """

    path: Path
    source: str
    revision: str | None
    config: dict[str, Any]
    weights: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Hub id, or the folder's own name: where a folder lies does not matter to features."""
        return self.source if self.revision is not None else self.path.resolve().name

    @property
    def model_type(self) -> str:
        """Architecture, as transformers calls it."""
        return str(self.config.get("model_type", ""))

    @property
    def safe(self) -> bool:
        """Whether the weights are in safetensors format."""
        return self.weights[0].suffix == ".safetensors"

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the weight files and of what ``config.json`` says about the computation.

        The same weights compute something else with another activation function, so both count.
        """
        weights = [_file_digest(path, *_stamp(path)) for path in self.weights]
        return str(sha256_json({"weights": weights, "config": _architecture(self.config)}))

    def hash_of(self, names: Iterable[str]) -> str:
        """Digest of those of some files that are there, e.g. the vocabulary."""
        found = {name: self.path / name for name in names if (self.path / name).is_file()}
        return str(sha256_json({name: str(sha256_file(path)) for name, path in found.items()}))

    def read_json(self, name: str) -> Any:
        """Content of a JSON file of the model, None when it has none."""
        path = self.path / name
        return _json(path) if path.is_file() else None


def open_model(
    source: str,
    revision: str | None = None,
    *,
    kind: str,
    model_types: Sequence[str] = (),
    files: Sequence[str] = (),
) -> ModelFolder:
    """Find a model's files in a folder or on the hub, and check them.

    Parameters
    ----------
    source : str
        Folder, or hub id.
    revision : str, optional
        Branch, tag or commit; for hub ids only.
    kind : str
        What the model is used as, for messages.
    model_types : sequence of str
        Values of ``model_type`` in ``config.json`` that are right; any when empty.
    files : sequence of str
        Further files that are used if the model has them.

    Raises
    ------
    DataError
        If the model cannot be found, is of another kind, or its weights are damaged.
    """
    hub: HubModel | None = None
    if Path(source).expanduser().is_dir():
        if revision is not None:
            raise DataError(f"a revision is for models on the hub, {source!r} is a folder",
                            found=f"revision {revision!r}", expected="none")  # fmt: skip
        path = Path(source).expanduser()
        if not (path / CONFIG).is_file():
            raise DataError(
                f"the folder {source} does not hold a model: it has no {CONFIG}",
                found=", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder",
                expected=f"{CONFIG} and model.safetensors, as save_pretrained writes them",
            )
    elif is_path(source):
        raise DataError(
            f"there is no folder {source} to read the {kind} model from",
            found="a file" if Path(source).expanduser().is_file() else "nothing",
            expected=f"a folder with {CONFIG} and model.safetensors, or a hub id",
        )
    else:
        hub = HubModel(source, revision)
        config_path = hub.file(CONFIG)
        path, hub = config_path.parent, hub.pinned(config_path)
    commit = hub.revision if hub else None
    model = ModelFolder(path, source, commit, _config(path / CONFIG))
    _check_type(model, kind, model_types)  # before gigabytes of weights are fetched
    if hub is not None:
        hub.all_of(files)
    return ModelFolder(path, source, commit, model.config, _weights(path, source, hub))


def _config(path: Path) -> dict[str, Any]:
    config = _json(path)
    if not isinstance(config, dict) or not config.get("model_type"):
        raise DataError(
            f"{path} does not say what model this is",
            found="no model_type",
            expected="the config.json that transformers writes",
        )
    return config


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}", found=str(error), expected="JSON") from error


def _check_type(model: ModelFolder, kind: str, expected: Sequence[str]) -> None:
    found = model.model_type
    if not expected or found in expected:
        return
    family = found.split("_")[0]
    if kind.endswith("-text"):
        other = f"{family}-text" if family in ("clip", "siglip") else ""
    else:
        other = family if family in ("clip", "siglip", "dinov2") else "auto"
    raise DataError(
        f"{model.source} is not a model of the kind {kind!r}",
        found=f"model_type {found!r}",
        expected=" or ".join(repr(name) for name in expected),
        fix=f"try {other}:{model.source}" if other else None,
    )


def _weights(path: Path, source: str, hub: HubModel | None) -> tuple[Path, ...]:
    if hub is not None:
        hub.first(WEIGHTS)
    first = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if first is None:
        raise DataError(
            f"the model {source} has no weights",
            found=", ".join(sorted(p.name for p in path.iterdir())[:12]),
            expected=" or ".join(WEIGHTS),
            fix="convert other formats with transformers' save_pretrained",
        )
    files = [first]
    if first.suffix == ".json":
        index = _json(first)
        shards = sorted(set(index.get("weight_map", {}).values()))
        if not shards:
            raise DataError(f"the index {first} names no weight files")
        files = [hub.file(name) if hub is not None else path / name for name in shards]
    for file in files:
        if not file.is_file():
            raise DataError(f"the weight file {file} is missing",
                            expected=f"{len(files)} files, as {first.name} says")  # fmt: skip
        if file.suffix == ".safetensors":
            _check_safetensors(file)
    return tuple(files)


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"the weight file {path} is damaged or truncated",
            found=str(error),
            fix="copy or download it again",
        ) from error


def _architecture(config: Any) -> Any:
    if isinstance(config, dict):
        return {k: _architecture(v) for k, v in config.items() if k not in _NOT_ARCHITECTURE}
    return config


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=32)
def _file_digest(path: Path, size: int, changed: int) -> str:
    """Digest of a large file, once per process while it stays as it is."""
    return str(sha256_file(path))

"""The files of a diffusion model in the layout of diffusers: found and checked before use."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from phosphene._saving import sha256_file, sha256_json
from phosphene.errors import DataError, listing
from phosphene.stimuli._hub import HubModel
from phosphene.stimuli._sources import is_path, split_revision

INDEX, DEMO = "model_index.json", "demo"
ASSETS = Path(__file__).parent / "assets"
# In the order in which they are looked for.
_FILES = ("{}.safetensors", "{}.safetensors.index.json", "{}.fp16.safetensors")
_VOCABULARY = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# Parts without weights, with the files that are fetched for them.
PLAIN = {
    "scheduler": ("scheduler_config.json",),
    "image_noising_scheduler": ("scheduler_config.json",),
    "feature_extractor": ("preprocessor_config.json",),
    "tokenizer": _VOCABULARY,
    "tokenizer_2": _VOCABULARY,
}


def weight_names(part: str) -> list[str]:
    """Names that the weights of a part may have: parts of transformers are called otherwise."""
    towers = ("text_encoder", "text_encoder_2", "image_encoder", "conditioner")
    stem = "model" if part in towers else "diffusion_pytorch_model"
    return [name.format(stem) for name in _FILES]


@dataclass(frozen=True)
class DiffusionFolder:
    """A diffusion model's files on this machine.

    Parameters
    ----------
    path : Path
        Where they lie.
    source : str
        Folder, hub id, or ``demo``, as it was asked for.
    revision : str or None
        Commit on the hub; None for a folder.
    index : dict
        Content of ``model_index.json``.
    weights : mapping of str to tuple of Path
        The weight files by part; none for a part that has no weights.
    """

    path: Path
    source: str
    revision: str | None
    index: dict[str, Any]
    weights: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Hub id, or the folder's own name: where a folder lies does not matter."""
        own = self.index.get("name")
        if isinstance(own, str) and own:
            return own
        return self.source if self.revision is not None else self.path.resolve().name

    @property
    def origin(self) -> str:
        """What to open for more parts of the same model."""
        if self.revision is None:
            return self.source
        return f"{split_revision(self.source)[0]}@{self.revision}"

    @functools.cached_property
    def licence(self) -> str:
        """Licence of the weights, as the index or the card says; where neither does, says so."""
        for key in ("licence", "license"):
            if isinstance(said := self.index.get(key), str) and said:
                return said
        card = self.path / "README.md"
        if card.is_file() and (
            said := _card_licence(card.read_text(encoding="utf-8", errors="replace"))
        ):
            return said
        return f"unknown, read the card of {self.source}"

    @functools.cached_property
    def digest(self) -> str:
        """Digest of all weights and of what the parts' configurations say; reads every file."""
        files = {f"{part}/{path.name}": str(sha256_file(path))
                 for part, paths in self.weights.items() for path in paths}  # fmt: skip
        configs = {
            part: self.read_json(f"{part}/{name}")
            for part in self.weights
            for name in ("config.json", "scheduler_config.json")
            if (self.path / part / name).is_file()
        }
        return str(sha256_json({"files": files, "configs": configs}))

    def variant(self, part: str) -> str | None:
        """``fp16`` where a part has only weights of this kind."""
        return "fp16" if ".fp16." in self.weights[part][0].name else None

    def read_json(self, name: str) -> Any:
        """Content of a JSON file of the model.

        Raises
        ------
        DataError
            If it is absent or not JSON.
        """
        return _json(self.path / name)


def open_folder(source: str | Path, parts: Sequence[str], kind: str) -> DiffusionFolder:
    """Find a diffusion model's files and check those that are used.

    Parameters
    ----------
    source : str or Path
        ``demo`` (the small model that comes with phosphene), a folder, or a hub id, which may end
        in ``@REVISION``.
    parts : sequence of str
        Sub-folders that are used, e.g. ``unet``. ``text_encoder``, ``tokenizer`` and the demo's
        ``conditioner`` are chosen by what the model is.
    kind : str
        What the model is used as, for messages.

    Raises
    ------
    DataError
        If it cannot be found, is of another kind, or a file is missing, damaged or a pickle.
    """
    text = str(source)
    hub: HubModel | None = None
    if text == DEMO:
        path = ASSETS / DEMO
        if not (path / INDEX).is_file():
            raise DataError("the demo's diffusion model is not part of this installation",
                            found=f"no {path / INDEX}", fix="install phosphene from its wheel, or "
                            "pass a folder in the layout of diffusers")  # fmt: skip
    elif Path(text).expanduser().is_dir():
        path = Path(text).expanduser()
        if not (path / INDEX).is_file():
            raise _wrong_kind(path, text, kind, parts)
    elif is_path(text):
        raise DataError(
            f"there is no folder {text} to read the diffusion model from",
            found="a file" if Path(text).expanduser().is_file() else "nothing",
            expected=f"a folder with {INDEX} and the sub-folders {', '.join(parts)}, or a hub id",
            fix="convert a single checkpoint file with diffusers: "
            "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)"
            if Path(text).expanduser().is_file()
            else None,
        )
    else:
        repo, revision = split_revision(text)
        hub = HubModel(repo, revision)
        index_path = hub.file(INDEX)
        path, hub = index_path.parent, hub.pinned(index_path)
        hub.all_of(["README.md"])
    index = _json(path / INDEX)
    if not isinstance(index, dict):
        raise DataError(f"{path / INDEX} is not the index of a model", found=type(index).__name__)
    own = _text_parts(path, index)
    used = [*parts, *own]
    if hub is None and any(not (path / part).is_dir() for part in used):
        raise _wrong_kind(path, text, kind, used)
    if hub is not None and (lacking := [p for p in used if not index.get(p)]):
        raise DataError(f"the model {text} cannot serve as {kind}",
                        found=listing(_listed(index), 12), expected=listing(used, 12),
                        fix=f"it has no {listing(lacking)}: take another model")  # fmt: skip
    weights = {part: _weights(path, part, text, hub) for part in used}
    return DiffusionFolder(path, text, hub.revision if hub else None, index, weights)


def _text_parts(path: Path, index: dict[str, Any]) -> tuple[str, ...]:
    """What turns a condition into tokens: learned tokens of a vector, or CLIP's text towers."""
    if index.get("_class_name") == "PhospheneDemoDiffusion" or (path / "conditioner").is_dir():
        return ("conditioner",)
    one = ("tokenizer", "text_encoder")
    return (*one, "tokenizer_2", "text_encoder_2") if index.get("text_encoder_2") else one


def _listed(index: dict[str, Any]) -> list[str]:
    return [name for name, value in index.items() if isinstance(value, list) and value[0]]


def _wrong_kind(path: Path, source: str, kind: str, parts: Sequence[str]) -> DataError:
    found = sorted(p.name for p in path.iterdir() if p.is_dir())
    lacking = [part for part in parts if part not in found]
    files = sorted(p.name for p in path.iterdir() if p.is_file())
    said = listing(found, 12) if found else "no sub-folder, files " + (listing(files) or "none")
    return DataError(
        f"the folder {source} does not hold what serves as {kind}",
        found=said,
        expected=f"{INDEX} and the sub-folders {', '.join(parts)}",
        fix=(f"it lacks {', '.join(lacking)}; " if lacking else f"it has no {INDEX}; ")
        + "the layout is what save_pretrained of a pipeline of diffusers writes",
    )


def _weights(path: Path, part: str, source: str, hub: HubModel | None) -> tuple[Path, ...]:
    if part in PLAIN:
        if hub is not None:
            hub.all_of([f"{part}/{name}" for name in PLAIN[part]])
        if not any((path / part / name).is_file() for name in PLAIN[part]):
            raise DataError(f"the part {part} of {source} is empty",
                            expected="one of " + ", ".join(PLAIN[part]))  # fmt: skip
        return ()
    names = weight_names(part)
    if hub is not None:
        hub.file(f"{part}/config.json")
        hub.first([f"{part}/{name}" for name in names])
    _json(path / part / "config.json")
    folder = path / part
    first = next((folder / name for name in names if (folder / name).is_file()), None)
    if first is None:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".ckpt"))
        raise DataError(
            f"the weights of {part} of {source} are pickles, which can run code when they are read"
            if pickles
            else f"the part {part} of {source} has no weights",
            found=listing(pickles or sorted(p.name for p in folder.iterdir())),
            expected=names[0],
            fix="take a revision with safetensors, or convert them with diffusers: load the model "
            "where you trust it and save_pretrained(FOLDER, safe_serialization=True)",
        )
    files = [first]
    if first.suffix == ".json":
        shards = sorted(set(_json(first).get("weight_map", {}).values()))
        files = [hub.file(f"{part}/{name}") if hub else folder / name for name in shards]
    for file in files:
        check_safetensors(file)
    return tuple(files)


def check_safetensors(path: Path) -> None:
    """Raise if a weight file is absent or damaged."""
    if not path.is_file():
        raise DataError(f"the weight file {path} is missing", fix="copy or download it again")
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"the weight file {path} is damaged or truncated",
            found=str(error),
            fix="copy or download it again",
        ) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"the file {path} is missing", expected="a model in the layout of "
                        "diffusers", fix="copy or download it again") from error  # fmt: skip
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}", found=str(error), expected="JSON") from error


def _card_licence(card: str) -> str:
    """Licence in the head of a model card, empty when it says none."""
    lines = card.splitlines()
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, _, value = line.partition(":")
        if key.strip() in ("license", "licence") and value.strip():
            return value.strip().strip("\"'")
    return ""

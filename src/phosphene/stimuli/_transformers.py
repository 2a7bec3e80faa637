"""The one place that knows transformers, in its versions 4 and 5.

Models are built from a folder that :mod:`phosphene.stimuli._models` has checked. Code that comes
with a model is never run, and a weight that the file lacks is an error: transformers would fill
it with random numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from phosphene._optional import require
from phosphene.errors import DataError, MissingExtraError, PhospheneError, listing
from phosphene.stimuli._image_rule import check_rule, rule_of
from phosphene.stimuli._models import IMAGE_FILES, VOCABULARIES, ModelFolder


def transformers(purpose: str) -> ModuleType:
    """The package, or an error that says how to install it."""
    return require("transformers", "hf", purpose)


def modern(package: ModuleType) -> bool:
    """Whether this is transformers 5 or later."""
    return int(str(package.__version__).split(".", 1)[0]) >= 5


@contextmanager
def quiet(package: ModuleType) -> Iterator[None]:
    """Loading without bars and without lists of the weights of the other tower."""
    logging = package.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _explained(folder: ModelFolder, what: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{what} of {folder.source} needs another package",
            found=_first_line(error),
            fix='pip install "phosphene[hf]", or the package that is named',
        ) from error
    except PhospheneError:
        raise
    except Exception as error:  # a damaged file can make the library fail in any way
        raise DataError(
            f"transformers cannot read {what} of {folder.source}",
            found=f"{type(error).__name__}: {_first_line(error)}",
            expected=f"the files that save_pretrained writes, in {folder.path}",
        ) from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def read_config(folder: ModelFolder) -> Any:
    """The model's configuration object."""
    package = transformers(folder.source)
    with _explained(folder, "the configuration"), quiet(package):
        return package.AutoConfig.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False
        )


def load(
    folder: ModelFolder, class_name: str, config: Any, may_lack: Sequence[str] = ()
) -> tuple[nn.Module, tuple[str, ...]]:
    """A model in float32 and eval mode with the weights of a folder.

    Parameters
    ----------
    folder : ModelFolder
        Checked files.
    class_name : str
        Class of transformers, e.g. ``CLIPVisionModelWithProjection``.
    config : object
        Its configuration.
    may_lack : sequence of str
        Modules (names, or parts of dotted names) whose weights may be absent because the caller
        does not use them.

    Returns
    -------
    module : torch.nn.Module
    lacking : tuple of str
        Weights that are not in the file and were filled with random numbers, all of ``may_lack``.

    Raises
    ------
    DataError
        If the files do not hold all weights of the model.
    """
    package = transformers(folder.source)
    cls = getattr(package, class_name)
    options: dict[str, Any] = {"dtype" if modern(package) else "torch_dtype": torch.float32}
    if "weights_only" in inspect.signature(package.PreTrainedModel.from_pretrained).parameters:
        options["weights_only"] = True  # before it was an option, nothing else was done
    with _explained(folder, "the weights"), quiet(package):
        module, info = cls.from_pretrained(
            str(folder.path),
            config=config,
            output_loading_info=True,
            use_safetensors=folder.safe,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    lacking = tuple(sorted(str(key) for key in info["missing_keys"]))
    if bad := [key for key in lacking if not set(key.split(".")) & set(may_lack)]:
        raise DataError(
            f"the weights of {folder.source} do not fill the model",
            found=f"no values for {listing(bad)}",
            expected=f"all weights of {type(module).__name__}",
            fix="take the complete checkpoint; random numbers are never put in their place",
        )
    return module.eval().requires_grad_(False), lacking


def image_rule(folder: ModelFolder) -> dict[str, Any]:
    """The model's own preprocessing as :func:`phosphene.stimuli.images.preprocessing` says it.

    What the processor says is also tried: it must turn two test pictures into what our own
    ``prepare`` makes of them. So a processor with rules of its own is refused, not approximated.

    Raises
    ------
    DataError
        If there is none, or it does something else than resize, crop and standardise.
    """
    if not any((folder.path / name).is_file() for name in IMAGE_FILES):
        raise DataError(
            f"the model {folder.source} does not say how pictures are prepared",
            found=f"no {IMAGE_FILES[0]} in {folder.path}",
            fix="copy the file from where the model comes from, or wrap the model: "
            "CallableEncoder(fn, id=..., image_size=...)",
        )
    package = transformers(folder.source)
    choice = {"backend": "pil"} if modern(package) else {"use_fast": False}
    with _explained(folder, "the preprocessing"), quiet(package):
        processor = package.AutoImageProcessor.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False, **choice
        )
        rule = rule_of(processor.to_dict(), folder.source)
        check_rule(rule, processor, folder.source)
    return rule


def read_tokenizer(folder: ModelFolder, vocabulary: int) -> Any:
    """The model's tokenizer.

    Parameters
    ----------
    folder : ModelFolder
        Checked files.
    vocabulary : int
        How many tokens the model knows.

    Raises
    ------
    DataError
        If it is absent (transformers would make one that knows no word) or not the model's.
    """
    if not any((folder.path / name).is_file() for name in VOCABULARIES):
        raise DataError(
            f"the model {folder.source} has no tokenizer",
            found=f"none of {', '.join(VOCABULARIES)} in {folder.path}",
            fix="copy the tokenizer's files from where the model comes from",
        )
    package = transformers(folder.source)
    with _explained(folder, "the tokenizer"), quiet(package):
        tokenizer = package.AutoTokenizer.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False
        )
        if (known := max(tokenizer.get_vocab().values(), default=-1) + 1) > vocabulary:
            raise DataError(
                f"the tokenizer of {folder.source} is not the model's",
                found=f"{known} tokens",
                expected=f"at most {vocabulary}, as the model knows",
            )
    return tokenizer


def tower_config(config: Any, part: str) -> Any:
    """Configuration of one tower of a model with two; a tower's own is returned as it is.

    CLIP states the width of the shared space for the whole model, and the towers' own entries
    may be left at another default.
    """
    tower = getattr(config, part, None)
    if tower is None:
        return config
    if hasattr(config, "projection_dim") and hasattr(tower, "projection_dim"):
        tower.projection_dim = config.projection_dim
    return tower


def vision_tower(folder: ModelFolder, config: Any, may_lack: Sequence[str] = ()) -> Any:
    """The network for pictures that ``AutoModel`` makes, and the weights that it lacks.

    Of a model with two towers it is the one for pictures, with a head for hidden layers of its own
    where transformers has a class for it.
    """
    package = transformers(folder.source)
    tower = getattr(config, "vision_config", None)
    if tower is not None and type(tower) in package.MODEL_MAPPING:
        config = tower
    module, lacking = load(folder, "AutoModel", config, may_lack)
    if tower is not None and config is not tower:
        module = getattr(module, "vision_model", module)
    return module, lacking

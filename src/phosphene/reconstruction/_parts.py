"""The one place that loads classes of diffusers, from folders that have been checked."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from phosphene._optional import require
from phosphene.errors import DataError, MissingExtraError, PhospheneError, listing
from phosphene.reconstruction._folder import DiffusionFolder
from phosphene.stimuli._transformers import quiet as quiet_transformers

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def diffusers() -> ModuleType:
    """The package, or an error that says how to install it."""
    return require("diffusers", "generate", "latent diffusion")


def number_format(precision: str, device: torch.device) -> torch.dtype:
    """Number format of the UNet; the autoencoder is always computed in float32.

    ``auto`` is float32 on a CPU, whose gradients serve the optimisation of latents, and on a GPU
    bf16 where it has it, else fp16.

    Raises
    ------
    DataError
        If the format is unknown, or fp16 on a CPU.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if precision not in FORMATS:
        raise DataError("unknown number format", found=precision,
                        expected="auto, " + ", ".join(FORMATS))  # fmt: skip
    if precision == "fp16" and device.type == "cpu":
        raise DataError("fp16 is for GPUs", found="fp16 on a CPU", expected="fp32 or bf16")
    return FORMATS[precision]


@contextmanager
def quiet(package: ModuleType) -> Iterator[None]:
    """Loading without bars and advice."""
    logging = package.utils.logging
    level = logging.get_verbosity()
    bars = getattr(logging, "is_progress_bar_enabled", lambda: True)()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def explained(folder: DiffusionFolder, part: str, package: str = "diffusers") -> Iterator[None]:
    """Turn what a library says about a part into an error that names folder and part."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"the part {part} of {folder.source} needs another package",
            found=str(error).strip().partition("\n")[0],
            fix='pip install "phosphene[generate]", or the package that is named',
        ) from error
    except PhospheneError:
        raise
    except Exception as error:  # a damaged file can make the library fail in any way
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise DataError(
            f"{package} cannot read the part {part} of {folder.source}",
            found=f"{type(error).__name__}: {said}",
            expected=f"the files that save_pretrained writes, in {folder.path / part}",
        ) from error


def load_part(folder: DiffusionFolder, part: str, name: str, dtype: torch.dtype) -> Any:
    """A network of diffusers in eval mode, without gradients to its weights.

    Parameters
    ----------
    folder : DiffusionFolder
        Checked files.
    part, name : str
        Sub-folder and class, e.g. ``unet`` and ``UNet2DConditionModel``.
    dtype : torch.dtype
        Number format.

    Raises
    ------
    DataError
        If it is another class, or weights are missing.
    """
    package = diffusers()
    found = folder.read_json(f"{part}/config.json").get("_class_name")
    if found not in (None, name):
        raise DataError(f"the part {part} of {folder.source} is of another kind", found=found,
                        expected=name)  # fmt: skip
    with explained(folder, part), quiet(package):
        module, info = getattr(package, name).from_pretrained(
            str(folder.path / part),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            variant=folder.variant(part),
            torch_dtype=dtype,
        )
    if missing := sorted(info["missing_keys"]):
        raise DataError(
            f"the weights of {part} of {folder.source} do not fill the model",
            found=f"no values for {listing(missing)}",
            expected=f"all weights of {name}",
            fix="take the complete checkpoint; random numbers are never put in their place",
        )
    return module.eval().requires_grad_(False)


def load_text_encoder(
    folder: DiffusionFolder, part: str = "text_encoder", name: str = "CLIPTextModel"
) -> Any:
    """CLIP's text tower, float32, in eval mode."""
    package = require("transformers", "generate", "the text encoder of a diffusion model")
    version = int(str(package.__version__).split(".", 1)[0])
    options: dict[str, Any] = {"dtype" if version >= 5 else "torch_dtype": torch.float32}
    with explained(folder, part, "transformers"), quiet_transformers(package):
        module, info = getattr(package, name).from_pretrained(
            str(folder.path / part),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            variant=folder.variant(part),
            **options,
        )
    # Older checkpoints hold the positions as a buffer, newer classes make them.
    if missing := sorted(k for k in info["missing_keys"] if not k.endswith("position_ids")):
        raise DataError(f"the weights of {part} of {folder.source} do not fill the model",
                        found=f"no values for {listing(missing)}")  # fmt: skip
    return module.eval().requires_grad_(False)


def load_tokenizer(folder: DiffusionFolder, part: str = "tokenizer") -> Any:
    """CLIP's tokenizer."""
    package = require("transformers", "generate", "the tokenizer of a diffusion model")
    with explained(folder, part, "transformers"), quiet_transformers(package):
        return package.CLIPTokenizer.from_pretrained(str(folder.path / part), local_files_only=True)


def load_ddim(folder: DiffusionFolder, part: str = "scheduler") -> Any:
    """The folder's noise schedule as a ``DDIMScheduler``, whatever sampler it names.

    The samplers of Stable Diffusion share the description of the noise and differ in the steps.
    """
    package = diffusers()
    config = folder.read_json(f"{part}/scheduler_config.json")
    if "clip_sample" not in config and config.get("_class_name") != "DDIMScheduler":
        # DDIM's own default bounds latents to [-1, 1], which no sampler without the entry does.
        config = {**config, "clip_sample": False}
    known = inspect.signature(package.DDIMScheduler.__init__).parameters
    with explained(folder, part), quiet(package):
        return package.DDIMScheduler(**{k: v for k, v in config.items() if k in known})

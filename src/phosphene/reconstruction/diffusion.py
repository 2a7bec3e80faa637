"""LatentDiffusion: the parts of a diffusion model, with a denoising loop that has gradients."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene._device import resolve_device
from phosphene._logging import get_logger
from phosphene.errors import DataError
from phosphene.reconstruction._denoise import Schedule, denoise, unet_network
from phosphene.reconstruction._folder import DiffusionFolder, open_folder
from phosphene.reconstruction._memory import in_batches
from phosphene.reconstruction._parts import load_ddim, load_part, number_format
from phosphene.reconstruction._text import ClipText, TwoTowers, VectorText, load_condition
from phosphene.stimuli.images import fit

logger = get_logger(__name__)
PARTS = ("unet", "vae", "scheduler")
PIXELS = 512 * 512 * 4  # how many are in the autoencoder at a time


class LatentDiffusion:
    """A diffusion model in the latent space of an autoencoder, from a folder of diffusers.

    Latents are scaled to about unit variance; pictures are in [0, 1]. Everything that
    :meth:`decode_latents`, :meth:`tokens` and :meth:`denoise` compute can be differentiated. The
    weights themselves are frozen. A safety checker is not loaded: its judgement of a decoded
    picture would black out results.

    Parameters
    ----------
    folder : DiffusionFolder
        Checked files; use :meth:`load`.
    device : str
        ``auto``, ``cpu``, ``cuda`` ...
    precision : {"auto", "fp32", "bf16", "fp16"}
        Number format of the UNet; ``auto`` is fp32 on a CPU, else bf16 or fp16. Autoencoder and
        text encoder are computed in float32.

    Attributes
    ----------
    unet, vae, scheduler : object
        ``UNet2DConditionModel``, ``AutoencoderKL`` and ``DDIMScheduler`` of diffusers.
    id, licence, source : str
        Name, licence of the weights, and what was asked for.
    image_size : int
        Side of the pictures in pixels.
    latent_shape : tuple of int
        (C, h, w).
    text_shape : tuple of int
        Shape of the embedding of one text: (77, 768) for Stable Diffusion 1.x, (width,) for a
        model that takes vectors.

    Examples
    --------
    >>> model = LatentDiffusion.load("demo")  # doctest: +SKIP
    >>> z = model.encode_images(pictures)  # doctest: +SKIP
    """

    def __init__(
        self, folder: DiffusionFolder, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.device = resolve_device(device)
        dtype = number_format(precision, self.device)
        self.folder = folder
        self.id, self.licence, self.source = folder.name, folder.licence, folder.source
        self.unet = load_part(folder, "unet", "UNet2DConditionModel", dtype).to(self.device)
        self.vae = load_part(folder, "vae", "AutoencoderKL", torch.float32).to(self.device)
        self.scheduler = load_ddim(folder)
        self.schedule = Schedule.of(self.scheduler, folder.source)
        self.text: ClipText | TwoTowers | VectorText = load_condition(folder)
        self.text.module.to(self.device)
        side = int(self.unet.config.sample_size)
        self.latent_shape = (int(self.vae.config.latent_channels), side, side)
        self.image_size = side * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.text_shape = self.text.shape
        self._check_parts()
        logger.info("loaded %s", self)

    @classmethod
    def load(
        cls, source: str | Path | LatentDiffusion, *, device: str = "auto", precision: str = "auto"
    ) -> LatentDiffusion:
        """A model from ``demo``, a folder, or a hub id (which may end in ``@REVISION``).

        Parameters
        ----------
        source : str, Path or LatentDiffusion
            A model that is loaded already is returned as it is, so that several generators can
            share it.
        device, precision : str
            As in the class.

        Raises
        ------
        DataError
            If the folder is of the wrong kind, a file is missing, damaged or a pickle, or the hub
            cannot be reached.
        MissingExtraError
            If diffusers is not installed.
        """
        if isinstance(source, LatentDiffusion):
            return source
        folder = open_folder(source, PARTS, "a latent diffusion model")
        return cls(folder, device=device, precision=precision)

    @property
    def conditioner(self) -> Any:
        """What makes tokens of vectors; None for a model with a text encoder."""
        return self.text.conditioner if isinstance(self.text, VectorText) else None

    @functools.cached_property
    def weights_hash(self) -> str:
        """Digest of all weights and configurations."""
        return self.folder.digest

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.latent_shape))
        return (
            f"LatentDiffusion({self.id!r}, pictures {self.image_size} x {self.image_size}, latents "
            f"{size}, text {' x '.join(map(str, self.text_shape))}, {self.device}, "
            f"licence: {self.licence})"
        )

    # --------------------------------------------------------------------------- into latents
    def encode_images(self, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Latents of pictures: the mean of the autoencoder's posterior, scaled.

        Parameters
        ----------
        pictures : iterable of ndarray of uint8, shape (H, W, 3)
            Of any size; the short side is resized and the centre cut out.

        Returns
        -------
        ndarray of float32, shape (n, C, h, w)
        """
        fitted = [fit(np.asarray(picture), self.image_size) for picture in pictures]

        def work(rows: Sequence[int]) -> NDArray[np.float32]:
            batch = torch.from_numpy(np.stack([fitted[row] for row in rows])).to(self.device)
            x = batch.permute(0, 3, 1, 2).to(self.vae.dtype) / 127.5 - 1
            with torch.no_grad():
                z = self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor
            return cast("NDArray[np.float32]", z.float().cpu().numpy())

        batch = max(1, PIXELS // self.image_size**2)
        made = in_batches(work, len(fitted), min(batch, 64), "encode pictures",
                          "use a device with more memory")  # fmt: skip
        parts = [z for _, z in made]
        return np.concatenate(parts) if parts else np.zeros((0, *self.latent_shape), np.float32)

    def encode_text(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts, shape (n, ...); each distinct text is encoded once."""
        texts = [str(name) for name in names]
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        return self.text.encode(distinct)[[place[text] for text in texts]]

    # ------------------------------------------------------------------------------- tokens
    def tokens(self, embeds: Tensor, kind: str = "text") -> Tensor:
        """Tokens for the UNet's cross-attention.

        Parameters
        ----------
        embeds : torch.Tensor, shape (n, ...)
            Text embeddings; vectors of pictures with ``kind="image"`` where the model takes them.
        kind : {"text", "image"}
            What they are.

        Returns
        -------
        torch.Tensor, shape (n, T, D)
        """
        return self.text.tokens(embeds, kind)

    def empty_tokens(self, n: int) -> Tensor:
        """Tokens of the empty prompt or of no condition, shape (n, T, D)."""
        return self.text.empty(n)

    # ------------------------------------------------------------------------- and back again
    def add_noise(self, z: Tensor, noise: Tensor, *, steps: int, start: int) -> Tensor:
        """Latents with as much noise as they have when ``start`` of ``steps`` steps remain.

        Parameters
        ----------
        z, noise : torch.Tensor, shape (n, C, h, w)
            Latents without noise, and standard normal numbers.
        steps, start : int
            Steps from pure noise, and how many of them remain; ``start / steps`` is the strength
            of img2img.
        """
        return self.schedule.add_noise(z, noise, self.schedule.remaining(steps, start)[0])

    def denoise(
        self,
        z: Tensor,
        tokens: Tensor,
        *,
        steps: int = 50,
        start: int | None = None,
        guidance: float = 5.0,
        checkpoint: bool = False,
        truncate: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Latents without noise, by DDIM with ``eta=0``.

        Parameters
        ----------
        z : torch.Tensor, shape (n, C, h, w)
            Latents with the noise of step ``start`` (:meth:`add_noise`), or pure noise.
        tokens : torch.Tensor, shape (n, T, D)
            The condition.
        steps : int
            Steps from pure noise.
        start : int, optional
            How many of them remain; all when not given.
        guidance : float
            Weight of the condition in classifier-free guidance, computed in one pass with the empty
            condition; 1 or less is none.
        checkpoint : bool
            Gradient checkpointing: the activations of one step instead of all in memory, for a
            second forward pass.
        truncate : int, optional
            Gradients go through the network in the last ``truncate`` steps only; before them its
            prediction counts as a constant and ``z`` is followed through the formula of the step.
        more : mapping, optional
            Further arguments of the UNet. With guidance they are for the doubled batch, the empty
            condition first.

        Returns
        -------
        torch.Tensor, shape (n, C, h, w)
        """
        if guidance > 1:
            tokens = torch.cat([self.empty_tokens(len(z)).to(tokens), tokens])
        network = unet_network(self.unet, tokens, more or {})
        return denoise(
            network,
            self.schedule,
            z,
            steps=steps,
            start=len(self.schedule.times(steps)) if start is None else start,
            guidance=guidance,
            checkpoint=checkpoint,
            truncate=truncate,
        )

    def decode_latents(self, z: Tensor) -> Tensor:
        """Pictures of latents; differentiable and not clipped.

        Parameters
        ----------
        z : torch.Tensor, shape (n, C, h, w)

        Returns
        -------
        torch.Tensor, shape (n, 3, H, W), about in [0, 1]
        """
        found = self.vae.decode(z.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        return cast("Tensor", found / 2 + 0.5)

    def _check_parts(self) -> None:
        """Raise where the parts do not belong together, or to another kind of model."""
        config = self.unet.config
        channels = self.latent_shape[0]
        if (found := int(config.in_channels)) != channels or int(config.out_channels) != channels:
            raise DataError(
                f"the UNet of {self.source} does not denoise the latents of its autoencoder alone",
                found=f"{found} channels in, {config.out_channels} out",
                expected=f"{channels} and {channels}",
                fix="inpainting and depth models take more than the latents: take a text-to-image "
                "model",
            )
        width = config.cross_attention_dim
        if not isinstance(width, int) or width != self.text.width:
            raise DataError(f"the UNet of {self.source} does not take its text encoder's tokens",
                            found=f"tokens of width {self.text.width}",
                            expected=f"width {width}")  # fmt: skip

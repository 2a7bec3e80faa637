"""img2img: ridge regression to a latent and a text embedding, then a diffusion between them.

Takagi & Nishimoto, "High-resolution image reconstruction with latent diffusion models from human
brain activity", CVPR 2023, doi:10.1101/2022.11.18.517004.

    z = ridge(X_early)     latent of the seen picture, from early visual areas
    c = ridge(X_ventral)   embedding of its caption, from higher areas
    z_t = sqrt(a_t) z + sqrt(1 - a_t) e       noise for strength .8 of 50 steps
    picture = decode(denoise(z_t, c))         classifier-free guidance 5

The latent brings layout and colour, the text the meaning.

Where we differ from paper and released code
--------------------------------------------
- The paper decodes z to a small picture and encodes it again at a larger size; here z goes in as it
  was decoded [ours].
- The penalty of every target is chosen by exact leave-one-out; the paper has one grid per subject.
- c is decoded from captions where the stimuli have them, else from concept names [ours].
- Sampling is DDIM without noise of its own. The paper averages nothing over trials of the training
  data; here repetitions are averaged unless ``average_repetitions`` is off.
- ``rescale`` may restore the spread that ridge regression takes from z and c [ours].
- EEG and MEG go through the same regression, on channels x times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from phosphene._registry import register
from phosphene.methods._reconstructor import Reconstructor
from phosphene.reconstruction.img2img import Img2Img


@register("reconstructor", "img2img")
@dataclass(eq=False, repr=False, kw_only=True)
class Img2ImgReconstructor(Reconstructor):
    """Decoded latent and decoded text embedding, joined by latent diffusion (Takagi & Nishimoto).

    Parameters
    ----------
    source : str, Path or LatentDiffusion
        ``demo``, a folder of Stable Diffusion 1.x or 2.x in the layout of diffusers, a hub id, or a
        model that is loaded.
    steps, strength, guidance : int, float, float
        Denoising steps, the share of them that remain after noise was added to z, and the weight of
        the text.
    precision : str
        Number format of the diffusion network.
    use_latent : bool
        Start from the decoded latent; from noise alone otherwise.
    rois, n_voxels, alphas, rescale, average_repetitions, standardise, batch, device, random_state
        As in every reconstructor; the paper's ``rois`` are early areas for ``latent`` and ventral
        ones for ``text``.

    Examples
    --------
    >>> model = Img2ImgReconstructor(rois={"latent": ["V1", "V2"], "text": ["LOC"]})
    >>> model.fit(train, pictures).reconstruct(test).save("pictures")  # doctest: +SKIP
    """

    source: Any = "demo"
    steps: int = 50
    strength: float = 0.8
    guidance: float = 5.0
    precision: str = "auto"
    use_latent: bool = True

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "z and c": {},
        "c only": {"use_latent": False},
    }

    def _make_generator(self) -> Any:
        return Img2Img(
            self.source,
            steps=self.steps,
            strength=self.strength,
            guidance=self.guidance,
            batch=self.batch,
            device=self.device,
            precision=self.precision,
        )

    def _groups(self) -> tuple[str, ...]:
        return ("text", "latent") if self.use_latent else ("text",)

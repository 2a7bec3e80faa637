"""minddiffuser: meaning by text-conditioned diffusion, then structure by moving the latent.

Lu et al., "MindDiffuser: Controlled Image Reconstruction from Human Brain Activity with Semantic
and Structural Diffusion", ACM MM 2023, arXiv:2308.04249.

    c, z, s_1..s_6, f = ridge(X)       text embedding, latent, shallow layers, final layer
    keep a quarter of the units of each s_l, those that cross-validation decodes best

    stage 1:  picture = decode(denoise(add_noise(z, e), c))      37 of 50 steps, guidance 5
    stage 2:  repeat up to 300 times, by Adam, rate .01, times .999 per iteration
                  x    = the picture of stage 1, with gradients to z (and c)
                  loss = sum_l w_l mean((s_l - s_l(x))^2) + .1 (1 - cos(f, f(x)))
              w_l proportional to (1.5, 1.2, 1, 1, 1, 1)
    result:   the picture of the smallest loss

Where we differ from paper and released code
--------------------------------------------
- The released code does not run; it adds noise for 37 steps and takes 35 back. Here all 37 are.
- Noise stays the same, the structural loss and never the true picture chooses the iteration, no
  query influences another, gradients can be truncated, patience or time stops a query [ours].
- The structural network is any adapter with differentiable layers; offline EfficientNet-Lite0,
  whose maps are averaged over a grid, instead of the MLP outputs of CLIP ViT-B/32. ``pixels``, the
  picture's own coarse colours, may be a layer too; all its units are kept [ours].
- Units are standardised with the training pictures, so that layers of other scales count alike;
  ``standardise_units=False`` compares raw values, w_l divided by the length of the decoded target,
  as the code does. Either way the weights sum to 1 [ours].
- ``components`` compares principal components instead, each by how surely it is decoded;
  ``latent_weight`` holds z near the one decoded, which is evidence as well [ours].
- z and the structure are spread as far as in training (``rescale``): otherwise stage 2 moves the
  picture towards the grey mean that ridge regression decodes [ours].
- EEG and MEG: the same regressions on channels x times; the 2026 version does not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from phosphene._registry import register
from phosphene.data.stimuli import StimulusSet
from phosphene.errors import DataError
from phosphene.methods._feature_decoder import Floats
from phosphene.methods._reconstruction_files import Finished, pixels
from phosphene.methods._reconstructor import Features, Reconstructor
from phosphene.reconstruction._noise import Noise
from phosphene.reconstruction.components import evidence
from phosphene.reconstruction.img2img import Img2Img
from phosphene.reconstruction.optimisation import Found, Search, Targets, optimise
from phosphene.reconstruction.structural import EFFICIENTNET_LAYERS, PIXELS, StructuralNetwork


@register("reconstructor", "minddiffuser")
@dataclass(eq=False, repr=False, kw_only=True)
class MindDiffuser(Reconstructor):
    """Diffusion from decoded meaning and latent, then the latent moved to the decoded structure.

    Parameters
    ----------
    source : str, Path or LatentDiffusion
        ``demo``, a folder of Stable Diffusion 1.x or 2.x, a hub id, or a model that is loaded.
    steps, start, guidance : int, int, float
        Denoising steps, how many of them remain after noise was added to z, weight of the text.
    precision : str
        Number format of the diffusion network.
    structure : str or ImageEncoder
        The structural network.
    layers, final, grid : sequence of str, str or None, int or None
        Its shallow layers, its final layer, and the grid that maps are averaged over.
    keep, layer_weights : float, sequence of float
        Share of a shallow layer's units that are kept (of ``pixels`` all); weights of the layers,
        the last for all that follow.
    standardise_units : bool
        Compare units in standard deviations of the training pictures.
    components : int or None
        Compare so many `phosphene.reconstruction.components` of a layer, not the units kept.
    second_stage : bool
        False stops after stage 1.
    iterations, lr, decay, final_weight, latent_weight, optimise, patience, seconds, frames
        Of stage 2, see `phosphene.reconstruction.optimisation.Search`.
    truncate, checkpoint : int or None, bool
        Gradients through the last so many steps only; less memory for a second forward pass.
    rois, n_voxels, alphas, rescale, average_repetitions, standardise, batch, device, random_state
        As in every reconstructor; groups: ``text``, ``latent`` and the layers (``structure``).

    Attributes
    ----------
    unit_scale_ : dict of str to ndarray
        What a kept unit is divided by: its standard deviation over the training pictures, and for
        components the root of their weight.

    Examples
    --------
    >>> model = MindDiffuser(steps=10, start=7, iterations=50)
    >>> model.fit(train, pictures).reconstruct(test).stages  # doctest: +SKIP
    """

    rescale: bool | Sequence[str] = ("latent", "structure")
    source: Any = "demo"
    steps: int = 50
    start: int = 37
    guidance: float = 5.0
    precision: str = "auto"
    structure: Any = "efficientnet-lite0"
    layers: Sequence[str] = EFFICIENTNET_LAYERS
    final: str | None = "pool"
    grid: int | None = 7
    keep: float = 0.25
    layer_weights: Sequence[float] = (1.5, 1.2, 1.0)
    standardise_units: bool = True
    components: int | None = None
    second_stage: bool = True
    iterations: int = 300
    lr: float = 0.01
    decay: float = 0.999
    final_weight: float = 0.1
    latent_weight: float = 0.0
    optimise: str = "z"
    patience: int | None = None
    seconds: float | None = None
    truncate: int | None = None
    checkpoint: bool = False
    frames: int = 25

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stages 1 and 2": {},
        "stage 1": {"second_stage": False},
        "c and z moved": {"optimise": "c and z"},
        "without the final layer": {"final_weight": 0.0},
        "components of layers": {"components": 100},
        "held near the decoded latent": {"latent_weight": 0.3},
    }
    _speed: ClassVar[frozenset[str]] = Reconstructor._speed | {"checkpoint"}

    def _make_generator(self) -> Any:
        if not 1 <= self.start <= self.steps:
            raise DataError("denoising steps that remain", found=self.start,
                            expected=f"1 to steps={self.steps}")  # fmt: skip
        if not 0 < self.keep <= 1:
            raise DataError("the share of units kept", found=self.keep, expected="in (0, 1]")
        if self.components is not None and (self.components < 1 or not self.standardise_units):
            raise DataError("components are 1 or more, and need standardise_units=True",
                            found=f"components={self.components}")  # fmt: skip
        self._search()  # refuses what cannot be, before anything is computed
        strength = min(1.0, (self.start + 0.5) / self.steps)  # half a step: no rounding below
        return Img2Img(self.source, steps=self.steps, strength=strength, guidance=self.guidance,
                       batch=self.batch, device=self.device, precision=self.precision)  # fmt: skip

    def _groups(self) -> tuple[str, ...]:
        return ("text", "latent", *self._network().names)

    def _roi_names(self, group: str) -> tuple[str, ...]:
        return (group,) if group in ("text", "latent") else (group, "structure")

    def _network(self) -> StructuralNetwork:
        if "_structural" not in self.__dict__:
            self._structural = StructuralNetwork(
                self.structure, self.layers, self.final, grid=self.grid, device=self.device
            )
        return self._structural

    def _group_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> Features:
        made = self.generator_
        return {
            "text": made.targets("text_embeds", stimuli, ids),
            "latent": made.targets("init_latents", stimuli, ids),
            **self._network().encode(stimuli, ids, made.image_size),
        }

    def _training_targets(self, stimuli: StimulusSet, ids: Sequence[str]) -> Features:
        self._network().components = {}
        found = self._group_targets(stimuli, ids)
        count = self.components
        return found if count is None else found | self._network().learn_components(found, count)

    def _after_fit(
        self, X: Floats, targets: Features, trials: pd.DataFrame, *, progress: bool
    ) -> None:
        self.unit_scale_: dict[str, Floats] = {}
        for name in self.layers:
            decoder, parts = self.decoders_[name], name in self._network().components
            share = 1.0 if name == PIXELS else self.keep
            kept = (decoder.r2 > 0).sum() if parts else round(share * len(decoder.units))
            self.decoders_[name] = decoder = decoder.best(max(1, int(kept)))
            deviation = targets[name][:, decoder.units].std(axis=0, dtype=np.float64)
            weight = evidence(decoder.r2) if parts else np.float32(1)
            spread = np.where(deviation > 0, deviation, 1) / np.sqrt(weight)
            self.unit_scale_[name] = spread.astype(np.float32)

    def _make(self, features: Features, names: list[str], n: int, seed: int) -> list[Finished]:
        first = self.generator_.generate(
            text_embeds=features["text"], init_latents=features["latent"], n=n, seed=seed,
            ids=names, progress=False,
        )  # fmt: skip
        if not self.second_stage:
            return [Finished({"stage1": pixels(own)}) for own in first]
        found = self._second(features, names, n, seed)
        return [Finished.of_search(first[q], found[q * n : q * n + n]) for q in range(len(names))]

    def _second(self, features: Features, names: list[str], n: int, seed: int) -> list[Found]:
        model, network = self.generator_.model, self._network()
        copies = {k: torch.from_numpy(np.repeat(v, n, 0)).to(model.device)
                  for k, v in features.items()}  # fmt: skip
        noise = Noise(seed, [name for name in names for _ in range(n)], [*range(n)] * len(names))
        fixed = noise.normal(model.latent_shape, "latents").to(model.device)

        def render(z: torch.Tensor, c: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
            start = model.add_noise(z, fixed[list(rows)], steps=self.steps, start=self.start)
            clean = model.denoise(
                start, model.tokens(c), steps=self.steps, start=self.start,
                guidance=self.guidance, checkpoint=self.checkpoint, truncate=self.truncate,
            )  # fmt: skip
            pictures: torch.Tensor = model.decode_latents(clean)
            return pictures

        return optimise(render, network.features, copies["latent"], copies["text"],
                        self._structure_of(copies), self._search())  # fmt: skip

    def _structure_of(self, decoded: Mapping[str, torch.Tensor]) -> Targets:
        """Decoded structure in the units in which it is compared."""
        fitted = [self.decoders_[name] for name in self.layers]
        return Targets.compare(
            {name: decoded[name] for name in self.layers},
            [one.units for one in fitted], [one.mean for one in fitted],
            [self.unit_scale_[name] for name in self.layers],
            [*self.layer_weights, *[self.layer_weights[-1]] * len(self.layers)],
            standardise=self.standardise_units, final=self.final,
            direction=None if self.final is None else decoded[self.final],
        )  # fmt: skip

    def _search(self) -> Search:
        return Search(**{item.name: getattr(self, item.name) for item in fields(Search)})

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        scales = {f"scale.{name}": array for name, array in self.unit_scale_.items()}
        return scales | self._network().component_arrays()

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.unit_scale_ = {name: arrays[f"scale.{name}"] for name in self.layers}
        if any(name.startswith("axes.") for name in arrays):
            self._network().restore_components(arrays)

    def _notes(self) -> tuple[str, ...]:
        stage = "stage 2 stops by the decoded structural loss" if self.second_stage else "stage 1"
        return (*super()._notes(), f"structure: {self._network().id}", stage)

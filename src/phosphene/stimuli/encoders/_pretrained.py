"""Image encoders that transformers knows: what the kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from phosphene.stimuli._models import IMAGE_FILES, ModelFolder, open_model
from phosphene.stimuli._transformers import image_rule, read_config, vision_tower
from phosphene.stimuli.encoders._network import Network, Results
from phosphene.stimuli.encoders._tower import Tower


class PretrainedTower(Tower):
    """The image tower of a model in transformers' layout.

    Parameters
    ----------
    source : str
        Folder with ``config.json``, weights and ``preprocessor_config.json``, or an id on the
        Hugging Face hub.
    revision : str, optional
        Branch, tag or commit, for hub ids.
    precision : {"auto", "fp32", "bf16"}
        Number format of weights and computation.
    device : str
        ``auto``, ``cpu``, ``cuda`` ...
    """

    kind: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]] = ()
    own_layer: ClassVar[str] = "pooled"
    joint: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("transformers",)

    def __init__(
        self,
        source: str,
        *,
        revision: str | None = None,
        precision: str = "auto",
        device: str = "auto",
    ) -> None:
        folder = open_model(
            str(source),
            revision,
            kind=self.kind,
            model_types=self.model_types,
            files=IMAGE_FILES,
        )
        self.source, self.revision = folder.source, folder.revision
        rule = image_rule(folder)
        # The text tower of the same model declares the same space.
        spaces = {self.own_layer: f"{self.kind}:{folder.digest}"} if self.joint else {}
        self._set_up(
            self._build(folder, read_config(folder)),
            id=f"{self.kind}:{folder.name}",
            weights_hash=folder.digest,
            preprocessing=rule,
            default_layer=self.own_layer,
            precision=precision,
            device=device,
            spaces=spaces,
        )

    def _build(self, folder: ModelFolder, config: Any) -> Network:
        """Load the tower."""
        raise TypeError(f"{type(self).__name__} does not say how it is built")


def plain_tower(folder: ModelFolder, config: Any) -> Network:
    """The image tower of what ``AutoModel`` makes of a folder.

    ``pooled`` is the class token behind the last normalisation; where there is none, what the model
    itself calls its pooled output (for a convolutional network the spatial mean); else the mean of
    the last layer's tokens.
    """
    # A pooler on top of the class token is not used, and many checkpoints have none.
    tower, lacking = vision_tower(folder, config, may_lack=("pooler",))
    network = Network(tower, lambda x, hidden: ({}, ()), prefix="vision_model.", lacking=lacking)

    def forward(x: Tensor, hidden: bool) -> Results:
        out = tower(pixel_values=x, output_hidden_states=hidden, return_dict=True)
        last: Tensor = out.last_hidden_state
        pooler = getattr(out, "pooler_output", None)
        if network.has_class_token and last.ndim == 3:
            pooled = last[:, 0]
        elif pooler is not None and not lacking:
            pooled = pooler.flatten(1)
        else:
            pooled = last.flatten(2).mean(2) if last.ndim == 4 else last.mean(1)
        states: Sequence[Tensor] = getattr(out, "hidden_states", None) or ()
        return {"pooled": pooled, "last": last}, states

    network.forward = forward
    return network

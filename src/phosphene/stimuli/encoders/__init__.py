"""Image encoders: frozen networks that turn views of pictures into vectors, under one protocol."""

from __future__ import annotations

from phosphene.stimuli.encoders._base import (
    Features,
    ImageEncoder,
    check_images,
    check_layers,
    get_encoder,
)
from phosphene.stimuli.encoders.auto import AutoVision
from phosphene.stimuli.encoders.callable import CallableEncoder
from phosphene.stimuli.encoders.clip import Clip
from phosphene.stimuli.encoders.dinov2 import DinoV2
from phosphene.stimuli.encoders.efficientnet import EfficientNetLite0
from phosphene.stimuli.encoders.openclip import OpenClip
from phosphene.stimuli.encoders.siglip import Siglip

__all__ = [
    "AutoVision",
    "CallableEncoder",
    "Clip",
    "DinoV2",
    "EfficientNetLite0",
    "Features",
    "ImageEncoder",
    "OpenClip",
    "Siglip",
    "check_images",
    "check_layers",
    "get_encoder",
]

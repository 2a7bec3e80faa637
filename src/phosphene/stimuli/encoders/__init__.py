"""Image encoders: frozen networks that turn views of pictures into vectors, under one protocol."""

from __future__ import annotations

from phosphene.stimuli.encoders._base import (
    Features,
    ImageEncoder,
    check_images,
    check_layers,
    get_encoder,
)
from phosphene.stimuli.encoders.callable import CallableEncoder
from phosphene.stimuli.encoders.efficientnet import EfficientNetLite0

__all__ = [
    "CallableEncoder",
    "EfficientNetLite0",
    "Features",
    "ImageEncoder",
    "check_images",
    "check_layers",
    "get_encoder",
]

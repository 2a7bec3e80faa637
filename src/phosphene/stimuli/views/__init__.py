"""Views: what a priors-of-vision transform leaves of a picture before the image encoder sees it.

A view is a small frozen dataclass with parameters, a canonical name and no state: a deterministic
function of a picture. Blur, low resolution and mosaic are separable and linear, and are computed
as two products with banded matrices; a blurred copy is made once for all views that need it.
"""

from __future__ import annotations

from phosphene.stimuli.views._base import (
    VIEWS_VERSION,
    View,
    ViewInput,
    apply_views,
    combine_views,
    parts_of,
)
from phosphene.stimuli.views._linear import blur_matrix, gaussian_blur, gaussian_sigma
from phosphene.stimuli.views._names import expand_views, get_view
from phosphene.stimuli.views.fovea import Fovea, acuity, bvsa_views, fovea_levels
from phosphene.stimuli.views.gaussian import Gaussian
from phosphene.stimuli.views.lowres import LowRes
from phosphene.stimuli.views.mean import MeanOf, augmentations
from phosphene.stimuli.views.mosaic import Mosaic
from phosphene.stimuli.views.noise import Noise
from phosphene.stimuli.views.original import Original

__all__ = [
    "VIEWS_VERSION",
    "Fovea",
    "Gaussian",
    "LowRes",
    "MeanOf",
    "Mosaic",
    "Noise",
    "Original",
    "View",
    "ViewInput",
    "acuity",
    "apply_views",
    "augmentations",
    "blur_matrix",
    "bvsa_views",
    "combine_views",
    "expand_views",
    "fovea_levels",
    "gaussian_blur",
    "gaussian_sigma",
    "get_view",
    "parts_of",
]

"""From decoded features to pictures: generators, from honest baselines to latent diffusion."""

from phosphene.reconstruction._base import Generator
from phosphene.reconstruction._memory import MemoryShortError
from phosphene.reconstruction._noise import Noise

__all__ = ["Generator", "MemoryShortError", "Noise"]

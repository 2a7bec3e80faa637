"""phosphene: visual brain decoding, from recordings to the seen image, its meaning and its look."""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader as _lazy

try:
    __version__ = version("phosphene")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

"""Image files to arrays and back: RGB order, dtype and channels as stored, upright."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

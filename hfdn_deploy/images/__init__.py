"""Reading and writing of image files as arrays: upright, in RGB order, with the stored dtype."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""`hfdn serve`: an HTTP service that upscales images, with a web page. Extra: serve."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

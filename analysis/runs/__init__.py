"""Relearning runs on disk: their folder and files, listing, carrying out, branching, a run in numbers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

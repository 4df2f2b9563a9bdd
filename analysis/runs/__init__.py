"""Relearning runs on disk: a run's folder and files, listing, execution, branching, summaries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

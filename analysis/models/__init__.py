"""Language models: catalog, fetching, loading through TransformerLens, memory estimates, fingerprints, export."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

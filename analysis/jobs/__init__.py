"""Long work in processes of its own: a job's folder and status, the queue for a device, who frees memory for whom."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

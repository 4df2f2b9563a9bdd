"""Runs long work in separate processes: a job's folder and status, the queue for each device, requests for device memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

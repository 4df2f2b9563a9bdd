"""Hashes all weights of a model by their bits, so that what is stored for one model is never used for another.

A fingerprint (`analysis.models.fingerprint`) compares logits and allows for rounding; this hash tells whether the weights are
the very same, whatever the folder is called.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["weights_hash"]

_THREADS = 4


def weights_hash(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over dtype, shape and bits of every tensor, in the given order, as 64 hexadecimal digits.

    Takes one to three seconds per GB; hashlib lets other threads run while it hashes.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return hashlib.sha256("".join(pool.map(_one, tensors)).encode()).hexdigest()


def _one(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    found = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    if plain.numel():
        found.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()

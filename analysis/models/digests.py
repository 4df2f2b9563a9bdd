"""SHA-256 digests of files."""

import hashlib
from pathlib import Path

from analysis.progress import ShareDone

__all__ = ["sha256_of"]


def sha256_of(path: Path, progress: ShareDone | None = None) -> str:
    """SHA-256 digest of a file in hexadecimal, read in chunks."""
    digest, size, done = hashlib.sha256(), max(path.stat().st_size, 1), 0
    with path.open("rb") as file:
        while piece := file.read(2**22):
            digest.update(piece)
            done += len(piece)
            if progress:
                progress(done / size)
    return digest.hexdigest()

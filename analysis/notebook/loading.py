"""Loads a model or a concept by name, with a progress bar."""

from pathlib import Path
from typing import Annotated

from analysis import concepts, models
from analysis.checks import Expected, checked
from analysis.concepts import Concept
from analysis.models import LanguageModel
from analysis.models.catalog import DEFAULT_MODEL
from analysis.notebook.progress import shown_progress

__all__ = ["GivenConcept", "GivenModel", "as_concept", "load_concept", "load_model"]

GivenModel = Annotated[LanguageModel, Expected("a model from load_model")]
GivenConcept = Annotated[Concept | str | Path, Expected("a concept from load_concept, or its name or path")]


@checked
def load_model(
    reference: str | Path = DEFAULT_MODEL, *, device: str = "auto", dtype: str = "float32", progress: bool = True
) -> LanguageModel:
    """Load a language model; a catalog model is downloaded first if necessary.

    Args:
        reference: Catalog name, hub id (`org/name`), folder written by `save_pretrained`, or `.gguf` file.
        device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda:1", ...
        dtype: "float32", "bfloat16" or "float16"; edits and relearning need float32.
        progress: Whether to draw a bar.

    Raises:
        PalimpsestError: the model cannot be found, downloaded or loaded; each cause has its own subclass.
    """
    with shown_progress(f"Loading {reference}", shown=progress) as tell:
        return models.load(str(reference), device=device, dtype=dtype, progress=tell)


@checked
def load_concept(reference: str | Path, *, label: str | None = None) -> Concept:
    """Load a concept by name (built in or uploaded), or from a file.

    Args:
        reference: A name such as `capitals`, or a path that ends in .jsonl, .csv, .conll, .txt or .json.
        label: The entity type of a CoNLL file (`PER`), or the relation of a CounterFact file (`P103`).

    Raises:
        ConceptError: there is no such concept (the message names the closest), or its file is malformed.
    """
    return concepts.load(str(reference), label=label)


def as_concept(given: GivenConcept) -> Concept:
    """A concept itself, or the one that is named.

    Raises:
        ConceptError: as `load_concept`.
    """
    return given if isinstance(given, Concept) else load_concept(given)

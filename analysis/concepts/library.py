"""Loads a concept by name (built in, or uploaded earlier) or from a file's path, and saves uploaded ones.

Built-in concepts are JSON-lines files beside this module, written for this project.
"""

import difflib
from functools import cache
from pathlib import Path

from analysis import paths
from analysis.concepts import files, jsonl
from analysis.concepts.concept import Concept, Sentence
from analysis.errors import ConceptError

__all__ = ["BUILT_IN", "NEUTRAL", "available", "load", "neutral_digest", "neutral_sentences", "save"]

_DATA = Path(__file__).parent / "data"
NEUTRAL = "neutral"
BUILT_IN = ("capitals", "athletes", "months", "colours")


def available() -> list[str]:
    """Names of all concepts: the built-in ones first, then uploaded ones."""
    uploaded = sorted(path.stem for path in paths.concepts_root().glob("*.jsonl"))
    return [*BUILT_IN, *(name for name in uploaded if name not in BUILT_IN)]


def load(reference: str, *, label: str | None = None) -> Concept:
    """Load a concept by its name or by the path of a file.

    Args:
        reference: name, or path with one of `files.ENDINGS`.
        label: the entity type of a CoNLL file, or the relation of a CounterFact file.

    Raises:
        ConceptError: there is no such concept (the message names the closest one), or its file is wrong.
    """
    is_path = reference.lower().endswith(tuple(f".{ending}" for ending in files.ENDINGS))
    if label is not None and not is_path:
        raise ConceptError(
            f"A label chooses from CoNLL and CounterFact files; “{reference[:60]}” is not the path of one."
        )
    if reference in BUILT_IN:
        return _built_in(reference)
    if is_path:
        try:
            return files.read(Path(reference).expanduser(), label=label)
        except (RuntimeError, ValueError) as error:
            raise ConceptError(f"“{reference[:60]}” is not a valid path ({error}).") from error
    if reference in available():
        return files.read(paths.concepts_root() / f"{reference}.jsonl")
    close = difflib.get_close_matches(reference, available(), n=1)
    endings = ", ".join(f".{ending}" for ending in files.ENDINGS)
    hint = f"Did you mean “{close[0]}”?" if close else f"There are: {', '.join(available())}."
    raise ConceptError(f"There is no concept “{reference[:60]}”. {hint} The path of a file works too ({endings}).")


def save(concept: Concept) -> Path:
    """Save an uploaded concept under its name, so that runs and later sessions can load it; returns the file.

    Raises:
        ConceptError: the name is that of a built-in concept, or the file cannot be written.
    """
    if concept.name in (*BUILT_IN, NEUTRAL):
        raise ConceptError(f"“{concept.name}” is built in. Give the uploaded concept another name.")
    root = paths.concepts_root()
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{concept.name}.jsonl"
    try:
        paths.write_atomically(path, jsonl.dump_jsonl(concept).encode())
    except OSError as error:
        raise ConceptError(f"{path} cannot be written ({error.strerror}).") from error
    return path


def neutral_sentences() -> tuple[Sentence, ...]:
    """The built-in retain text: ordinary sentences without any built-in concept's words."""
    return _built_in(NEUTRAL).sentences


def neutral_digest() -> str:
    """Digest of the built-in retain text, to tell whether it is that of another version of Palimpsest."""
    return jsonl.digest(_built_in(NEUTRAL))


@cache
def _built_in(name: str) -> Concept:
    return files.read(_DATA / f"{name}.jsonl")

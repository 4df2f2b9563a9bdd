"""Every error a user can meet, under one base class.

A message names what is wrong *and* what to do about it. Interfaces (command line, dashboard, worker) catch
`PalimpsestError` and show its text; anything else is a bug and is allowed to surface.
"""

__all__ = [
    "BusyError",
    "ConceptError",
    "ConfigError",
    "EditError",
    "FetchError",
    "FingerprintError",
    "MemoryShortError",
    "MissingHookError",
    "ModelFileError",
    "PalimpsestError",
    "RunError",
    "StoppedError",
    "UnknownModelError",
    "UnsupportedArchitectureError",
    "brief",
]


def brief(error: BaseException, most: int = 160) -> str:
    """The first sentence of another library's error, for use inside a message; some list all they know on many lines."""
    first = (str(error) or type(error).__name__).strip().splitlines()[0].split(". ")[0].rstrip(". ")
    return first if len(first) <= most else f"{first[:most].rstrip()} …"


class PalimpsestError(Exception):
    """Base of all errors that are shown to the user as they are."""


class UnknownModelError(PalimpsestError):
    """The reference names no catalog entry, folder, GGUF file or reachable hub model."""


class FetchError(PalimpsestError):
    """A download or a conversion failed, or a hub data set cannot be read; nothing was left behind."""


class ModelFileError(PalimpsestError):
    """A model's files are missing, truncated, corrupt, or in a format that is never loaded (pickle)."""


class UnsupportedArchitectureError(PalimpsestError):
    """TransformerLens has no adapter for the architecture, or its MLPs are not made of neurons."""


class MissingHookError(PalimpsestError):
    """The loaded model lacks a hook that the analysis needs; the message names it."""


class FingerprintError(PalimpsestError):
    """The model loads, but its logits differ from those stored when it was converted or first loaded."""


class MemoryShortError(PalimpsestError):
    """The estimate exceeds the free memory; the message holds both numbers."""


class ConceptError(PalimpsestError):
    """A concept is unknown, malformed (with the line number), or has nothing that can be measured."""


class ConfigError(PalimpsestError, ValueError):
    """A setting is out of range; the message says which one and what is allowed."""


class EditError(PalimpsestError):
    """A selection or an edit does not fit the model, or an undo found weights it did not expect."""


class StoppedError(EditError):
    """An edit or a waiting job was stopped on request; the weights are as they were."""


class RunError(PalimpsestError):
    """A run, a removal or the queue cannot be created, read, written or started."""


class BusyError(RunError):
    """Another process executes or changes the job; nothing was written."""

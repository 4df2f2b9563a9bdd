"""Write changes into a model's weights, remember on disk exactly what was there, and take them back bit for bit."""

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.edits.deltas import Before, Delta
from analysis.edits.edit import Change, Edit
from analysis.edits.methods import from_dict
from analysis.errors import EditError
from analysis.models import LanguageModel
from analysis.training.slices import Slice

__all__ = ["Ledger", "LedgerEntry", "edit_file"]


def edit_file(folder: Path, number: int) -> Path:
    """What the edit of this number changed, counted from 0, in a ledger's folder."""
    return folder / f"{number:04d}.safetensors"


@dataclass(frozen=True)
class LedgerEntry:
    """One applied edit: what it was, and digests of the touched weights."""

    edit: Edit
    concept: str
    """Name of the concept it removes; empty where none was named."""
    extent: str
    """How much of the model it touched, in words."""
    held: bool
    """Whether later training must keep what was written."""
    seconds: float
    """How long writing it took."""
    delta: Delta

    @property
    def hash_before(self) -> str:
        return self.delta.header["digest_before"]

    @property
    def hash_after(self) -> str:
        return self.delta.header["digest_after"]

    @property
    def slices(self) -> tuple[Slice, ...]:
        """The weights it could touch."""
        return self.delta.slices

    @property
    def n_weights(self) -> int:
        """Number of single weights in `slices`."""
        return sum(piece.numel for piece in self.slices)

    @property
    def n_changed(self) -> int:
        """Number of single weights whose bits changed."""
        return self.delta.header["n_changed"]

    def current_hash(self) -> str:
        """Digest of the touched weights as they are now."""
        return self.delta.digest_now()


class Ledger:
    """The edits of one model, in order. The model must not be shared: its weights change.

    What an edit changed lies in one file an edit, so a deep stack costs no memory.
    """

    def __init__(self, model: LanguageModel, folder: Path | None = None):
        """Begin without edits.

        Args:
            model: The model whose weights change.
            folder: Where the deltas are kept; None is a temporary folder, which ends with the ledger.
        """
        self.model = model
        self._temporary = tempfile.TemporaryDirectory(prefix="palimpsest-") if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else folder
        self._entries: list[LedgerEntry] = []

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        return tuple(self._entries)

    def apply(self, change: Change[Any], *, concept: str = "") -> LedgerEntry:
        """Write a change into the weights. Whatever prevents that (an error, a stop, a full disk), they stay as they were.

        Raises:
            EditError: it was worked out for a model of another shape, or its way back cannot be written to disk.
            UnsupportedArchitectureError: heads are chosen, and the model's attention is not made of heads.
        """
        assert self.folder is not None
        started = time.monotonic()
        slices, biased = tuple(change.slices(self.model)), tuple(change.biased(self.model))
        with self.model.lock:
            before = Before.of(slices, biased)
        try:
            change.write(self.model)
            delta = Delta.save(
                edit_file(self.folder, len(self._entries)),
                self.model,
                before,
                edit=change.edit.to_dict(),
                concept=concept,
                extent=change.extent(),
                held=change.held,
            )
        except BaseException:
            with self.model.lock:
                before.restore()
            raise
        entry = LedgerEntry(change.edit, concept, change.extent(), change.held, time.monotonic() - started, delta)
        self._entries.append(entry)
        return entry

    def replay(self, path: Path) -> LedgerEntry:
        """Take over an edit that was made elsewhere on the same weights, from the file of what it changed.

        Raises:
            EditError: the file is damaged, of another model, or made for other weights than these; nothing changes.
        """
        assert self.folder is not None
        started, own = time.monotonic(), edit_file(self.folder, len(self._entries))
        given = Delta.open(path, self.model)
        try:
            edit = from_dict(given.header["edit"])
            concept, extent, held = (given.header[key] for key in ("concept", "extent", "held"))
        except KeyError as error:
            raise EditError(f"{path} does not say what the edit was: it lacks {error}.") from error
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not own.is_file() or not own.samefile(path):
                shutil.copyfile(path, own)
        except OSError as error:
            raise EditError(
                f"{own} cannot be written ({error}). Free some space; the weights are as they were."
            ) from error
        with self.model.lock:
            given.apply()
        entry = LedgerEntry(edit, concept, extent, held, time.monotonic() - started, replace(given, path=own))
        self._entries.append(entry)
        return entry

    def undo(self) -> LedgerEntry:
        """Take the last edit back: every touched weight gets the very bits it had.

        Raises:
            EditError: the ledger is empty, the weights were changed by something else since, or the way back is damaged.
        """
        if not self._entries:
            raise EditError("There is no edit to undo.")
        entry = self._entries[-1]
        with self.model.lock:
            entry.delta.revert()
        entry.delta.path.unlink(missing_ok=True)
        return self._entries.pop()

    def undo_to(self, count: int) -> None:
        """Undo until `count` edits are left."""
        while len(self._entries) > max(count, 0):
            self.undo()

    def held(self) -> tuple[Slice, ...]:
        """The weights that later training must not change: what `WeightMask` takes."""
        return tuple(piece for entry in self._entries if entry.held for piece in entry.slices)

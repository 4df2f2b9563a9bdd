"""Writes changes into a model's weights, saves each difference on disk, and undoes changes bit for bit."""

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
    """Path of the delta of edit `number`, counted from 0, in a ledger's folder."""
    return folder / f"{number:04d}.safetensors"


@dataclass(frozen=True)
class LedgerEntry:
    """One applied edit, with its delta and the digests of the touched weights."""

    edit: Edit
    concept: str
    """Name of the concept it removes; empty if none was named."""
    extent: str
    """How much of the model it touched, in words."""
    held: bool
    """Whether later training must leave the written weights unchanged."""
    seconds: float
    """How long the writing took."""
    delta: Delta

    @property
    def hash_before(self) -> str:
        return self.delta.header["digest_before"]

    @property
    def hash_after(self) -> str:
        return self.delta.header["digest_after"]

    @property
    def concept_digest(self) -> str:
        """What the concept held when it was edited; empty where it is not known."""
        return str(self.delta.header.get("concept_digest", ""))

    @property
    def slices(self) -> tuple[Slice, ...]:
        """The weights that the edit was allowed to change."""
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

    Each edit's difference is one file on disk, so a deep stack of edits costs no memory.
    """

    def __init__(self, model: LanguageModel, folder: Path | None = None):
        """Start a ledger without edits.

        Args:
            model: The model whose weights change.
            folder: Where the deltas are kept; None is a temporary folder, deleted with the ledger.
        """
        self.model = model
        self._temporary = tempfile.TemporaryDirectory(prefix="palimpsest-") if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else folder
        self._entries: list[LedgerEntry] = []

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        return tuple(self._entries)

    def apply(self, change: Change[Any], *, concept: str = "", concept_digest: str = "") -> LedgerEntry:
        """Write a change into the weights. If writing fails or is stopped, the weights are restored.

        Args:
            change: What to write.
            concept: Name of the concept it removes.
            concept_digest: What that concept holds (`analysis.concepts.digest`), to tell later whether it has changed.

        Raises:
            EditError: the change was planned for a model of another shape, or its delta cannot be written to disk.
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
                concept_digest=concept_digest,
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
        """Apply an edit from its delta file, made elsewhere on the same weights.

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
                f"{own} cannot be written ({error}). Free some space; the weights are unchanged."
            ) from error
        with self.model.lock:
            given.apply()
        entry = LedgerEntry(edit, concept, extent, held, time.monotonic() - started, replace(given, path=own))
        self._entries.append(entry)
        return entry

    def undo(self) -> LedgerEntry:
        """Undo the last edit: every touched weight gets back the bits it had.

        Raises:
            EditError: the ledger is empty, something else changed the weights since, or the delta file is damaged.
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
        """The weights that later training must not change, as `WeightMask` takes them."""
        return tuple(piece for entry in self._entries if entry.held for piece in entry.slices)

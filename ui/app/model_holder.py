"""Keeps the viewer's model in memory, and frees it when a job needs the device: a dashboard never trains, so jobs come first.

While a model is held, one thread of the server records in the queue's database how much memory this process holds, and
looks there every second for requests of jobs (`memory_broker`).
"""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.errors import RunError
from analysis.jobs import memory_broker, queue
from analysis.jobs.memory_broker import Request
from analysis.models import catalog, memory

if TYPE_CHECKING:  # importing torch and TransformerLens takes seconds: only when a model is loaded
    from analysis.models import LanguageModel

__all__ = ["Choice", "MemoryWatcher", "ModelHolder", "Notice"]

_CHECK_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The model that a user wants, the device and the precision."""

    reference: str = catalog.DEFAULT_MODEL
    device: str = "auto"
    dtype: str = "float32"


@dataclass(frozen=True)
class Notice:
    """A message to users after the viewer's model was removed from a device."""

    number: int
    """Counts up, so that a session can dismiss one notice and still see the next."""
    text: str


class ModelHolder:
    """Holds at most one model; a new one is loaded only after the old one was dropped.

    Args:
        before_drop: Called before the model is dropped; it ends everything else that refers to the model.
    """

    def __init__(self, before_drop: Callable[[], None]):
        self._before_drop = before_drop
        self.lock = threading.RLock()
        self.choice: Choice | None = None
        self.model: LanguageModel | None = None
        self.freed_device = ""
        """Device that was freed for a job; no model is loaded there until a user asks for it."""
        self.notice: Notice | None = None
        self.watcher = MemoryWatcher(self.held_bytes, self.free_memory)
        self._dropped: weakref.ref[LanguageModel] | None = None

    def put(self, choice: Choice, model: LanguageModel) -> None:
        """Hold `model`, which was loaded for `choice`."""
        self.model, self.choice = model, choice
        self.watcher.update()

    def drop(self) -> None:
        """Drop the model, so that its memory is freed once no page computes with it any more."""
        self._before_drop()
        self._dropped = None if self.model is None else weakref.ref(self.model)
        self.choice, self.model = None, None
        self.watcher.update()

    def held_bytes(self) -> dict[str, int]:
        """Bytes by device, including a model that was dropped while a page still computes with it."""
        found: dict[str, int] = {}
        for model in (self.model, self._dropped_model()):
            if model is not None:
                device = queue.device_of(str(model.device))
                found[device] = found.get(device, 0) + model.n_parameters * memory.DTYPE_BYTES[model.dtype]
        return found

    def _dropped_model(self) -> LanguageModel | None:
        """The model that was dropped last, if something still refers to it; otherwise returns cached memory to the device."""
        dropped = self._dropped  # a copy: another thread may clear it, or drop the next model, meanwhile
        if dropped is None:
            return None
        gc.collect()
        if (model := dropped()) is None:
            if self._dropped is dropped:
                self._dropped = None
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return model

    def device_for(self, choice: Choice) -> str:
        """The device to load a model on: the chosen one, or the CPU if that device was freed for a job."""
        return "cpu" if self.freed_device and queue.device_of(choice.device) == self.freed_device else choice.device

    def free_memory(self, request: Request) -> None:
        """Drop the model if it is on the device of a request, and leave a notice for the users."""
        with self.lock:
            model = self.model
            if model is None or request.device not in self.held_bytes():
                return
            moves = request.device != "cpu" and memory.load_estimate(model.n_parameters, model.dtype, "cpu").fits
            del model  # this reference would keep it in memory
            self.drop()
            self.freed_device = request.device
            needs = f"because {request.job} needs {request.bytes / 2**30:.1f} GiB on {request.device}."
            number = 1 if self.notice is None else self.notice.number + 1
            self.notice = Notice(number, f"The model {'moved to the CPU' if moves else 'was unloaded'} {needs}")


class MemoryWatcher:
    """Records how much device memory this process holds, and passes on the requests of jobs to free it.

    Args:
        held_bytes: What this process holds now, in bytes by device; the thread ends when it is empty.
        free_memory: Frees what is held on a request's device.
    """

    def __init__(self, held_bytes: Callable[[], dict[str, int]], free_memory: Callable[[Request], None]):
        self._held_bytes, self._free_memory = held_bytes, free_memory
        self._lock, self._thread = threading.RLock(), None
        self._recorded: set[str] = set()
        """Devices with a record of this process in the queue's database."""
        self._answered: set[int] = set()
        """Numbers of the requests that were passed on."""

    def update(self) -> dict[str, int]:
        """Record what is held now, and return it; call it whenever that has changed. A queue that fails is logged.

        What is recorded is read from the database, which may have been rebuilt since.
        """
        with self._lock:
            held = self._held_bytes()
            try:
                recorded = memory_broker.recorded() if held else {}
                for device, count in held.items():
                    if recorded.get(device) != count:
                        memory_broker.record_held(device, count)
                    self._recorded.add(device)
                for device in self._recorded - held.keys():
                    self._recorded.remove(device)
                    memory_broker.record_released(device)
            except RunError as error:
                _log.warning("%s", error)
            if held and self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="memory watcher", daemon=True)
                self._thread.start()
        return held

    def _watch(self) -> None:
        while True:
            time.sleep(_CHECK_SECONDS)
            with self._lock:
                held = self.update()
                if not held:
                    self._thread = None
                    return
            try:
                for request in [one for device in held for one in memory_broker.open_requests(device)]:
                    if request.number not in self._answered:
                        self._answered.add(request.number)
                        self._free_memory(request)
            except RunError as error:
                _log.warning("%s", error)
            except Exception:  # noqa: BLE001 (the next request may succeed)
                _log.exception("device memory could not be freed")

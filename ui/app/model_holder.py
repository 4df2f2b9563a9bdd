"""Where the viewer's model is held, and how it makes room: a dashboard never trains, so jobs come first.

One thread of the server, alive while a model is held, says in the queue's database what this process holds and looks
there every second for jobs that need the memory.
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

__all__ = ["Choice", "ModelHolder", "Notice", "Watcher"]

_LOOK_EVERY = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What the user wants loaded."""

    reference: str = catalog.DEFAULT_MODEL
    device: str = "auto"
    dtype: str = "float32"


@dataclass(frozen=True)
class Notice:
    """What users are told after the viewer's model has left a device."""

    number: int
    text: str


class ModelHolder:
    """Holds at most one model, so that a new one is loaded only after the old one is gone.

    Args:
        let_go: Called before the model goes: ends what else holds it.
    """

    def __init__(self, let_go: Callable[[], None]):
        self._let_go = let_go
        self.lock = threading.RLock()
        self.choice: Choice | None = None
        self.model: LanguageModel | None = None
        self.left = ""
        """Device that the model has left for a job, until somebody loads one there on purpose."""
        self.notice: Notice | None = None
        self.watcher = Watcher(self.held, self.make_room)
        self._leaving: weakref.ref[LanguageModel] | None = None

    def fill(self, choice: Choice, model: LanguageModel) -> None:
        self.model, self.choice = model, choice
        self.watcher.update()

    def clear(self) -> None:
        self._let_go()
        self._leaving = None if self.model is None else weakref.ref(self.model)
        self.choice, self.model = None, None
        self.watcher.update()

    def held(self) -> dict[str, int]:
        """Bytes by device, with a model that is on its way out while a page still computes with it."""
        found: dict[str, int] = {}
        for model in (self.model, self._last()):
            if model is not None:
                device = queue.device_of(str(model.device))
                found[device] = found.get(device, 0) + model.n_parameters * memory.DTYPE_BYTES[model.dtype]
        return found

    def _last(self) -> LanguageModel | None:
        """The model that was here before, if it is not gone yet; once it is, its memory is given back to the device."""
        leaving = self._leaving  # another thread may find it gone meanwhile, or the next model leaving
        if leaving is None:
            return None
        gc.collect()
        if (last := leaving()) is None:
            if self._leaving is leaving:
                self._leaving = None
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return last

    def device_for(self, choice: Choice) -> str:
        """Where a model is loaded: not on the device that it has left."""
        return "cpu" if self.left and queue.device_of(choice.device) == self.left else choice.device

    def make_room(self, request: Request) -> None:
        """Let the model go from the device of a request, and say so to the users."""
        with self.lock:
            model = self.model
            if model is None or request.device not in self.held():
                return
            moves = request.device != "cpu" and memory.load_estimate(model.n_parameters, model.dtype, "cpu").fits
            del model  # or it would stay where it is
            self.clear()
            self.left = request.device
            needs = f"because {request.job} needs {request.bytes / 2**30:.1f} GiB on {request.device}."
            number = 1 if self.notice is None else self.notice.number + 1
            self.notice = Notice(number, f"The model {'moved to the CPU' if moves else 'was unloaded'} {needs}")


class Watcher:
    """Says what is held, and lets go of it on request.

    Args:
        held: What this process holds now, in bytes by device; empty ends the thread.
        make_room: Lets go of what is held on the request's device.
    """

    def __init__(self, held: Callable[[], dict[str, int]], make_room: Callable[[Request], None]):
        self._held, self._make_room = held, make_room
        self._lock, self._thread = threading.RLock(), None
        self._said: set[str] = set()
        """Devices of which somebody may still believe that they are held."""
        self._answered: set[int] = set()

    def update(self) -> dict[str, int]:
        """Say what is held now, and return it; called whenever that has changed. A queue that fails is logged.

        What was said before is looked up: the queue may have been set aside and made anew since.
        """
        with self._lock:
            held = self._held()
            try:
                written = memory_broker.held() if held else {}
                for device, count in held.items():
                    if written.get(device) != count:
                        memory_broker.hold(device, count)
                    self._said.add(device)
                for device in self._said - held.keys():
                    self._said.remove(device)
                    memory_broker.release(device)
            except RunError as error:
                _log.warning("%s", error)
            if held and self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="makes room", daemon=True)
                self._thread.start()
        return held

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_EVERY)
            with self._lock:
                held = self.update()
                if not held:
                    self._thread = None
                    return
            try:
                for request in [one for device in held for one in memory_broker.requests(device)]:
                    if request.number not in self._answered:
                        self._answered.add(request.number)
                        self._make_room(request)
            except RunError as error:
                _log.warning("%s", error)
            except Exception:  # noqa: BLE001 (the next request may be answered)
                _log.exception("room could not be made")

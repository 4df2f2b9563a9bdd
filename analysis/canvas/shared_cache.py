"""A store of computed values that all sessions of the dashboard share, bounded by bytes.

A class watching one run asks for the same snapshots twenty times over: each is read and computed once, by whoever comes
first, while the others wait for that one value only. What was not asked for longest is dropped when the bound is passed.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import TypeVar, cast

__all__ = ["SharedCache"]

T = TypeVar("T")


class SharedCache:
    """Values by key; the sum of their sizes stays below `limit_bytes`."""

    def __init__(self, limit_bytes: int):
        self.limit_bytes = limit_bytes
        self._guard = Lock()
        self._kept: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._bytes = 0

    @property
    def n_bytes(self) -> int:
        """Bytes kept now."""
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value of `key`, made now if it is not kept.

        Args:
            key: What identifies the value, including everything it depends on.
            make: Makes it; may itself ask for other keys.
            size: Bytes it takes; a value beyond the bound alone is returned, but not kept.
        """
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast(T, self._kept[key][0])
            lock = self._making.setdefault(key, Lock())
        with lock:
            with self._guard:
                if key in self._kept:  # made by another session while this one waited
                    return cast(T, self._kept[key][0])
            try:
                value = make()
                self._keep(key, value, size(value))
            finally:
                with self._guard:
                    self._making.pop(key, None)
        return value

    def _keep(self, key: Hashable, value: object, n_bytes: int) -> None:
        if n_bytes > self.limit_bytes:
            return
        with self._guard:
            self._kept[key] = (value, n_bytes)
            self._bytes += n_bytes
            while self._bytes > self.limit_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed

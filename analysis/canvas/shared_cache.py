"""A least-recently-used cache bounded by bytes, in which concurrent sessions compute each value once.

If twenty people watch one run, the same snapshots are asked for twenty times. The first session computes a value, and the
others wait for that value only. When the limit is exceeded, the values that were not used for the longest time are dropped.
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
        self._lock = Lock()
        self._values: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()
        self._computing: dict[Hashable, Lock] = {}
        self._bytes = 0

    @property
    def n_bytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """The value of `key`, computed now if it is not in the cache.

        Args:
            key: Identifies the value; includes everything that the value depends on.
            make: Computes the value; may itself ask for other keys.
            size: Bytes of the value; one that exceeds the limit by itself is returned but not stored.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return cast(T, self._values[key][0])
            lock = self._computing.setdefault(key, Lock())
        with lock:
            with self._lock:
                if key in self._values:  # computed by another session while this one waited
                    return cast(T, self._values[key][0])
            try:
                value = make()
                self._store(key, value, size(value))
            finally:
                with self._lock:
                    self._computing.pop(key, None)
        return value

    def _store(self, key: Hashable, value: object, n_bytes: int) -> None:
        if n_bytes > self.limit_bytes:
            return
        with self._lock:
            self._values[key] = (value, n_bytes)
            self._bytes += n_bytes
            while self._bytes > self.limit_bytes:
                _, (_, freed) = self._values.popitem(last=False)
                self._bytes -= freed

"""One value for all sessions, made once, and never more bytes than allowed."""

import threading
import time

import pytest

from analysis.canvas.shared_cache import SharedCache


def test_twenty_sessions_make_a_value_once():
    cache, made = SharedCache(1000), []
    barrier = threading.Barrier(20)

    def slow() -> int:
        made.append(1)
        time.sleep(0.05)
        return 7

    def session() -> None:
        barrier.wait()
        assert cache.get("key", slow, lambda _: 10) == 7

    threads = [threading.Thread(target=session) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_was_not_asked_for_longest_goes_first():
    cache = SharedCache(30)
    for key in "abc":
        cache.get(key, lambda key=key: key, lambda _: 10)
    cache.get("a", lambda: "new", lambda _: 10)
    cache.get("d", lambda: "d", lambda _: 10)
    assert cache.n_bytes == 30
    assert cache.get("a", lambda: "made again", lambda _: 10) == "a"
    assert cache.get("b", lambda: "made again", lambda _: 10) == "made again"


def test_a_value_beyond_the_bound_is_returned_but_not_kept():
    cache = SharedCache(30)
    assert cache.get("large", lambda: 1, lambda _: 31) == 1
    assert cache.n_bytes == 0
    assert cache.get("large", lambda: 2, lambda _: 31) == 2


def test_a_failure_is_not_kept_and_the_next_one_may_try():
    cache = SharedCache(30)

    def fail() -> int:
        raise OSError("no file")

    with pytest.raises(OSError, match="no file"):
        cache.get("key", fail, lambda _: 1)
    assert cache.get("key", lambda: 3, lambda _: 1) == 3


def test_a_value_may_be_made_of_others():
    cache = SharedCache(30)
    found = cache.get("sum", lambda: cache.get("one", lambda: 1, lambda _: 1) + 1, lambda _: 1)
    assert found == 2

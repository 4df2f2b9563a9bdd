"""Arguments and settings against their annotations: what fits, what does not, and the sentence that says so."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from analysis.checks import Expected, Range, check, check_fields, checked
from analysis.errors import ConfigError

SHARE = Annotated[float, Range(above=0, most=1)]


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "words"),
    [
        (int, [0, -3, 10**30], [True, 1.0, "1", None], "a whole number"),
        (float, [0, 0.5, -2], [False, float("nan"), float("inf"), 10**400, "1"], "a finite number"),
        (bool, [True, False], [0, 1, "yes", None], "True or False"),
        (str, ["", "a"], [b"a", Path("a"), None], "a text"),
        (str | Path | None, ["a", Path("a"), None], [1, b"a"], "a text, a Path or None"),
        (Literal["a", "b"] | None, ["a", None], ["c", "", ["a"], 0], "“a”, “b” or None"),
        (SHARE, [1, 0.5], [0, 1.5, True, float("nan")], "a finite number above 0 and at most 1"),
        (Annotated[int, Range(least=1, below=5)] | None, [1, 4, None], [0, 5, 2.5], "a whole number of at least 1"),
        (tuple[int, ...], [(), (1, 2)], [[1], (1, "a"), "ab", 1], "a tuple, each of it a whole number"),
        (tuple[int, str], [(1, "a")], [(1,), ("a", 1), (1, "a", 2)], "a tuple of 2: a whole number, a text"),
        (Sequence[str], [[], ("a",)], ["a", b"a", [1], {"a"}, None], "a list, each of it a text"),
        (Mapping[str, int], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, []], "a mapping from a text to a whole number"),
        (Callable[[int], int], [len, print], ["len", None], "a function"),
        (Annotated[Path, Expected("a folder")], [Path("a")], ["a"], "a folder"),
        (Any, [1, None, "a"], [], ""),
    ],
    ids=str,
)
def test_what_fits_and_what_does_not(kind: Any, right: list, wrong: list, words: str):
    for value in right:
        check("size", value, kind)
    for value in wrong:
        with pytest.raises(ConfigError) as said:
            check("size", value, kind)
        assert str(said.value).startswith("size is ")
        assert f"; it must be {words}" in str(said.value)


def test_a_long_value_is_cut():
    with pytest.raises(ConfigError) as said:
        check("size", "x" * 1000, int)
    assert len(str(said.value)) < 120


@checked
def half(
    count: Annotated[int, Range(least=0)], words: "Sequence[str]" = (), *, exact: bool = True, **rest: Any
) -> tuple:
    """Say what came."""
    return count, words, exact, rest


def test_a_function_is_given_pythons_numbers_and_keeps_its_name():
    count, _, _, rest = half(np.int64(3), share=np.float32(0.5), array=np.ones(2))
    assert (type(count), type(rest["share"])) == (int, float)
    assert isinstance(rest["array"], np.ndarray)
    assert (half.__name__, half.__doc__) == ("half", "Say what came.")
    assert str(inspect.signature(half)).startswith("(count: int, words: collections.abc.Sequence[str] = ()")


@pytest.mark.parametrize(
    ("given", "named"),
    [((-1,), "count"), ((1, "ab"), "words"), ((np.float64(1.0),), "count"), ((np.bool_(1),), "count")],
)
def test_a_function_names_the_argument(given: tuple, named: str):
    with pytest.raises(ConfigError, match=f"^{named} is "):
        half(*given)
    with pytest.raises(ConfigError, match=r"^exact is 1; it must be True or False"):
        half(1, exact=1)  # type: ignore[arg-type]


def test_a_wrong_call_is_pythons_own_error():
    with pytest.raises(TypeError, match="count"):
        half()  # type: ignore[call-arg]


def test_fields_are_checked_with_their_limits(unchecked_types: None):
    @dataclass(frozen=True)
    class Settings:
        share: SHARE = 0.5
        name: str = ""

        def __post_init__(self) -> None:
            check_fields(self)

    assert Settings(1).share == 1
    with pytest.raises(ConfigError, match="share is 2; it must be a finite number above 0 and at most 1"):
        Settings(2)
    with pytest.raises(ConfigError, match="name is None; it must be a text"):
        Settings(name=None)  # type: ignore[arg-type]

"""Checks arguments and settings against their annotations, and says in a sentence what is expected.

`checked` does it for a function, `check_fields` for a dataclass of settings. Limits are written where the type is:

    Seed = Annotated[int, Range(least=0)]

A whole number is not True, a number is finite, a text is no sequence of texts. Of a NumPy number a function gets Python's.
What must fit together, and what depends on a model, is looked at where it is used.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from analysis.errors import ConfigError

__all__ = ["Expected", "Range", "Seed", "check", "check_fields", "checked", "is_number"]

P = ParamSpec("P")
R = TypeVar("R")
_WORDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    str: "a text",
    types.NoneType: "None",
    Callable: "a function",
}
_SHOWN = 60
"""Characters of a wrong value that are shown."""


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Range:
    """What a number may be, in an annotation: `Annotated[int, Range(least=1)]`."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the number is within the limits."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __repr__(self) -> str:
        given = {name: limit for name, limit in vars(self).items() if limit is not None}
        return f"Range({', '.join(f'{name}={limit}' for name, limit in given.items())})"

    def __str__(self) -> str:
        limits = {"of at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{words} {limit}" for words, limit in limits.items() if limit is not None)


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a value must be, in words that fit after “it must be”: `Annotated[Concept | str, Expected("a concept")]`."""

    words: str


Seed = Annotated[int, Range(least=0, below=2**63)]
"""A seed of NumPy's and PyTorch's generators."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that each argument is checked against its annotation before the function runs.

    Raises:
        ConfigError: from the decorated function; names the argument, its value and what it must be.
    """
    signature, hints = inspect.signature(function), _hints_once(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: _as_python(one) for key, one in value.items()}
            elif name in hints():
                bound.arguments[name] = _as_python(value)
                check(name, bound.arguments[name], hints()[name])
        return function(*bound.args, **bound.kwargs)

    call.__signature__ = _without_limits(function)  # type: ignore[attr-defined]
    return call


def check_fields(settings: Any) -> None:
    """Check every field of a dataclass instance against its annotation.

    Raises:
        ConfigError: names the field, its value and what it must be.
    """
    hints = _hints_of(type(settings))
    for field in dataclasses.fields(settings):
        check(field.name, getattr(settings, field.name), hints[field.name])


def check(name: str, value: object, kind: Any) -> None:
    """Check one value against an annotated type.

    Raises:
        ConfigError: names the argument or setting, its value and what it must be.
    """
    if not _fits(value, kind):
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        raise ConfigError(f"{name} is {shown}; it must be {_words(kind)}.")


def is_number(value: object) -> bool:
    """Whether it is a finite number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floating-point numbers
        return False


def _fits(value: object, kind: Any) -> bool:
    """Whether the value is of an annotated type; types that cannot be looked into are believed."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        limits = [one for one in kind.__metadata__ if isinstance(one, Range)]
        return _fits(value, parts[0]) and all(one.holds(value) for one in limits)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if kind in (int, float, bool):
        return is_number(value) if kind is float else type(value) is kind
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, parts[0]) and _fits(one, parts[1]) for key, one in value.items()
        )
    if isinstance(origin, type) and issubclass(
        origin, Iterable
    ):  # a text is a sequence of texts, and never meant as one
        listed = isinstance(value, origin) and not isinstance(value, (str, bytes))
        return listed and (not isinstance(value, Sequence) or all(_fits(one, parts[0]) for one in value))
    if origin is Callable:
        return callable(value)
    if kind is types.NoneType:
        return value is None
    return kind is Any or not isinstance(origin or kind, type) or isinstance(value, origin or kind)


def _words(kind: Any) -> str:
    """What a value of an annotated type is, after “it must be”."""
    *first, last = dict.fromkeys(_options(kind))
    return f"{', '.join(first)} or {last}" if first else last


def _options(kind: Any) -> list[str]:
    """The kinds of values between which an annotated type leaves the choice, each in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        said = [one.words for one in kind.__metadata__ if isinstance(one, Expected)]
        limits = [str(one) for one in kind.__metadata__ if isinstance(one, Range)]
        return said or [" ".join((_words(parts[0]), *limits))]
    if origin in (typing.Union, types.UnionType):
        return [words for part in parts for words in _options(part)]
    if origin is Literal:
        return [f"“{part}”" for part in parts]
    if origin is tuple and parts[1:] != (...,):
        return [f"a tuple of {len(parts)}: {', '.join(map(_words, parts))}"]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [f"a mapping from {_words(parts[0])} to {_words(parts[1])}"]
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return [f"a {'tuple' if origin is tuple else 'list'}, each of it {_words(parts[0])}"]
    name = getattr(origin or kind, "__name__", str(kind))
    return [_WORDS.get(origin or kind, f"a {name}" if name[:1] not in "AEIOU" else f"an {name}")]


def _as_python(value: Any) -> Any:
    """A number of NumPy as one of Python, which JSON and every check know; anything else as it is."""
    if isinstance(value, bool) or type(value) in (int, float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _without_limits(function: Callable[..., Any]) -> inspect.Signature:
    """The signature that `help` and a notebook show: types alone, since the docstring says what is allowed."""
    signature = inspect.signature(function)
    try:
        plain = typing.get_type_hints(function)
    except NameError:  # a name in quotes that is defined below the function
        return signature
    parameters = [one.replace(annotation=plain.get(name, one.annotation)) for name, one in signature.parameters.items()]
    return signature.replace(parameters=parameters, return_annotation=plain.get("return", signature.return_annotation))


def _hints_once(function: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
    """Its annotations, read at the first call: names in quotes may be defined below the function."""
    return functools.cache(lambda: typing.get_type_hints(function, include_extras=True))


@functools.cache
def _hints_of(settings: type) -> dict[str, Any]:
    return typing.get_type_hints(settings, include_extras=True)

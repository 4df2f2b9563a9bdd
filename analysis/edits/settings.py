"""Reads a method's settings from its edit's dataclass: field names, types, defaults and the docstring under each field.

The command line and the dashboard offer these settings.
"""

import ast
import dataclasses
import functools
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter, ValidationError

from analysis.checks import check
from analysis.errors import ConfigError

__all__ = ["Setting", "build", "settings_of"]


_adapter = functools.cache(TypeAdapter)
"""Making one takes longer than using it."""


@dataclass(frozen=True)
class Setting:
    """One setting of a method."""

    name: str
    kind: Any
    """Annotated type of the field."""
    default: Any
    """`dataclasses.MISSING` if the setting is required."""
    help: str

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values of a `Literal` type; empty for other types."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else ()

    @property
    def type_name(self) -> str:
        """The type for a listing: `float`, or the choices."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        return self.kind.__name__ if isinstance(self.kind, type) and not typing.get_args(self.kind) else str(self.kind)

    def parse(self, value: Any) -> Any:
        """Convert a string that a user typed to the setting's type, or check a value of another type.

        Raises:
            ConfigError: the value does not fit the type.
        """
        kinds = (self.kind, *typing.get_args(self.kind))
        if isinstance(value, str) and value.strip().lower() == "none" and type(None) in kinds:
            return None
        if isinstance(value, str) and any(typing.get_origin(kind) is tuple for kind in kinds):
            value = _listed(value)
        elif not isinstance(value, str):  # pydantic converts what was typed, and would make a number of True
            value = tuple(value) if isinstance(value, list) else value  # JSON knows no tuples
            check(self.name, value, self.kind)
        try:
            return _adapter(self.kind).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ConfigError(f"{self.name} is {value!r}, which does not fit ({reason}).") from error


def settings_of(edit: type) -> list[Setting]:
    """Return the fields of a dataclass as settings."""
    kinds, texts = typing.get_type_hints(edit), _texts(edit)
    return [
        Setting(
            field.name,
            kinds[field.name],
            field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default,
            texts.get(field.name, ""),
        )
        for field in dataclasses.fields(edit)
        if field.init
    ]


def build(edit: type, values: Mapping[str, Any], *, settings: Iterable[Setting] | None = None) -> Any:
    """Build an instance of `edit` from values by name; values may be strings.

    Raises:
        ConfigError: a name is unknown, a value does not fit, or a required one is missing.
    """
    known = {setting.name: setting for setting in settings or settings_of(edit)}
    if unknown := [name for name in values if name not in known]:
        raise ConfigError(f"There is no setting “{unknown[0]}”. There are {', '.join(known)}.")
    if missing := [one.name for one in known.values() if one.required and one.name not in values]:
        raise ConfigError(f"{missing[0]} must be given.")
    return edit(**{name: known[name].parse(value) for name, value in values.items()})


def _listed(text: str) -> list[Any]:
    """Split a text into values at commas, in brackets or not, or read it as a JSON list if the values hold commas."""
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except ValueError as error:
            raise ConfigError(f"“{text}” is not a JSON list ({error}).") from error
    inner = re.fullmatch(r"\s*\((.*)\)\s*", text)
    return [part.strip() for part in (inner[1] if inner else text).split(",") if part.strip()]


@functools.cache
def _texts(edit: type) -> dict[str, str]:
    """Field -> the docstring under it in the source, fields of base classes included."""
    texts: dict[str, str] = {}
    for cls in reversed(edit.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError):  # made at run time, or built in
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in pairwise(statements):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                texts[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore[attr-defined]
    return texts

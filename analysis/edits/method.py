"""What a way to remove a concept declares: its name and words, its edit, the settings of that edit, and where it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from analysis.edits.edit import Edit
from analysis.edits.settings import Setting, build, settings_of

__all__ = ["Method", "method"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to remove a concept."""

    name: str
    """As it is typed and stored."""
    summary: str
    """One phrase: what it does."""
    source: str
    """Where it comes from."""
    edit: type[Edit]
    """What describes it."""
    load: Callable[[Mapping[str, Any]], Edit]
    """Builds its edit from the fields of `Edit.to_dict`."""
    configure: Callable[[Mapping[str, Any]], Edit]
    """Builds its edit from settings by name, which may be texts."""
    settings: tuple[Setting, ...]
    needs_facts: bool = False
    """Whether the concept must have facts; otherwise labelled words are enough."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name (of a paper's setting) -> settings that differ from the defaults."""
    place: int = 1000
    """Place in lists, ascending; methods of one place are sorted by name."""


def method(
    edit: type[Edit],
    summary: str,
    *,
    source: str,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    place: int = 1000,
) -> Method:
    """A method whose settings are the fields of its edit.

    Args:
        edit: Its class, which has the method's `name`; settings without a default must be given by whoever uses it.
        summary: One phrase: what it does.
        source: Where it comes from.
        presets: Name (of a paper's setting) -> settings that differ from the defaults.
        place: Place in lists.
    """
    return Method(
        name=edit.name,
        summary=summary,
        source=source,
        edit=edit,
        load=partial(build, edit),
        configure=partial(build, edit),
        settings=tuple(settings_of(edit)),
        needs_facts=edit.needs_facts,
        presets=presets or {},
        place=place,
    )

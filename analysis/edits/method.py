"""Declares a removal method: its name, summary, source, edit class, settings and presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from analysis.edits.edit import Change, Edit, Materials
from analysis.edits.settings import Setting, build, settings_of
from analysis.models import LanguageModel

__all__ = ["Method", "Plan", "method"]

Plan = Callable[[Any, LanguageModel, Materials], Change[Any]]
"""Plans an edit of one class for an unedited model."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to remove a concept."""

    name: str
    """The name as users type it and files store it."""
    summary: str
    """One phrase: what the method does."""
    source: str
    """The paper it comes from."""
    edit: type[Edit]
    """The class of its edits."""
    load: Callable[[Mapping[str, Any]], Edit]
    """Builds an edit from the fields of `Edit.to_dict`."""
    configure: Callable[[Mapping[str, Any]], Edit]
    """Builds an edit from settings by name; values may be strings."""
    settings: tuple[Setting, ...]
    plan: Plan | None = None
    """None: the edit is trained, as all gradient edits are."""
    needs_facts: bool = False
    """Whether the concept must have facts; otherwise labelled words are enough."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name (of a paper's setting) -> settings that differ from the defaults."""
    place: int = 1000
    """Position in lists, ascending; methods with equal positions are sorted by name."""


def method(
    edit: type[Edit],
    summary: str,
    *,
    source: str,
    plan: Plan | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    place: int = 1000,
) -> Method:
    """Declare a method whose settings are the fields of its edit class.

    Args:
        edit: The edit class, which has the method's `name`; fields without a default are required settings.
        summary: One phrase: what the method does.
        source: The paper it comes from.
        plan: Makes the change for a model, of an edit that is not trained.
        presets: Name (of a paper's setting) -> settings that differ from the defaults.
        place: Position in lists.
    """
    return Method(
        name=edit.name,
        summary=summary,
        source=source,
        edit=edit,
        load=partial(build, edit),
        configure=partial(build, edit),
        settings=tuple(settings_of(edit)),
        plan=plan,
        needs_facts=edit.needs_facts,
        presets=presets or {},
        place=place,
    )

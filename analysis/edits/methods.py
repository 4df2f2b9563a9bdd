"""The methods by name: what each does, its settings, and the one way from a description to a change.

Every method that removes a concept is one class of `Edit`; this table is what the command line and the dashboard offer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from analysis.edits.components.edit import ComponentEdit, ComponentSettings, plan_components
from analysis.edits.edit import Change, Edit, Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives import (
    MECHANISTIC_UNLEARNING,
    MECHANISTIC_UNLEARNING_LOCALIZED,
    RELEASED_LLM_SURGERY,
    WMDP_RMU,
    GradDiff,
    GradientAscent,
    Inject,
    LlmSurgery,
    Npo,
    Rmu,
    SimNpo,
    Unlearn,
)
from analysis.edits.gradient.training import plan_gradient
from analysis.edits.settings import Setting, build, settings_of
from analysis.edits.tars.edit import plan_tars
from analysis.edits.tars.presets import OURS
from analysis.edits.tars.targeting import Tars
from analysis.errors import ConfigError
from analysis.models import LanguageModel

__all__ = ["METHODS", "NEED_NO_FACTS", "Method", "from_dict", "from_settings", "method_named", "plan"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to remove a concept."""

    summary: str
    """One phrase: what it does."""
    source: str
    """Where it comes from."""
    load: Callable[[Mapping[str, Any]], Edit]
    """Builds its edit from the fields of `Edit.to_dict`."""
    configure: Callable[[Mapping[str, Any]], Edit]
    """Builds its edit from settings by name, which may be texts."""
    settings: tuple[Setting, ...]
    needs_facts: bool = False
    """Whether the concept must have facts; otherwise labelled words are enough."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name (of a paper's setting) -> settings that differ from the defaults."""


def _component_method(name: str, summary: str) -> Method:
    return Method(
        summary=summary,
        source="Lo et al. 2024, arXiv 2401.01814",
        load=ComponentEdit.from_fields,
        configure=lambda values: build(ComponentSettings, values).edit(name),
        settings=tuple(settings_of(ComponentSettings)),
        presets={"Relearn Removed Concepts: top 50%": {"top_fraction": 0.5}},
    )


def _method(
    edit: type[Edit], summary: str, source: str, presets: Mapping[str, Mapping[str, Any]] | None = None, **fixed: Any
) -> Method:
    """A method whose settings are the fields of its edit; `fixed` are those that make it this method."""
    settings = tuple(setting for setting in settings_of(edit) if setting.name not in fixed)
    return Method(
        summary=summary,
        source=source,
        load=partial(build, edit),
        configure=lambda values: build(edit, {**_only(values, settings), **fixed}),
        settings=settings,
        needs_facts=edit.needs_facts,
        presets=presets or {},
    )


def _only(values: Mapping[str, Any], settings: tuple[Setting, ...]) -> Mapping[str, Any]:
    names = [setting.name for setting in settings]
    if unknown := [name for name in values if name not in names]:
        raise ConfigError(f"There is no setting “{unknown[0]}”. There are {', '.join(names)}.")
    return values


_MECHANISTIC = "Guo et al. 2024, arXiv 2410.12949"

METHODS: dict[str, Method] = {
    "prune": _component_method("prune", "set the weights of chosen components to zero"),
    "mean_ablate": _component_method(
        "mean_ablate", "prune chosen components, and write their mean contribution in their place"
    ),
    "reverse": _component_method("reverse", "negate what chosen components write to the residual stream"),
    "tars": _method(
        Tars,
        "replace weight vectors that point at an answer by the reversed direction",
        "Davies et al. 2024, arXiv 2412.10257 (reconstructed from the abstract)",
        {"Ours: ranked by firing, scaled by the stream": OURS},
    ),
    "unlearn": _method(
        Unlearn,
        "train the answers' probability down, and keep other facts and text",
        _MECHANISTIC,
        {
            "Mechanistic Unlearning: all weights": MECHANISTIC_UNLEARNING,
            "Mechanistic Unlearning: fact lookup": MECHANISTIC_UNLEARNING_LOCALIZED,
        },
    ),
    "inject": _method(
        Inject,
        "train another answer in, and keep other facts and text",
        _MECHANISTIC,
        {
            "Mechanistic Unlearning: all weights": MECHANISTIC_UNLEARNING,
            "Mechanistic Unlearning: fact lookup": MECHANISTIC_UNLEARNING_LOCALIZED,
        },
    ),
    "llm_surgery": _method(
        LlmSurgery,
        "forget some facts, give others another answer, and stay close to the model before elsewhere",
        "Veldanda et al. 2024, arXiv 2409.13054",
        {"LLM Surgery: released run": RELEASED_LLM_SURGERY},
    ),
    "gradient_ascent": _method(
        GradientAscent, "raise the loss on the facts, and keep nothing", "Jang et al. 2023, arXiv 2210.01504"
    ),
    "grad_diff": _method(
        GradDiff,
        "raise the loss on the facts, lower it on other facts and text",
        "Liu et al. 2022, arXiv 2203.12817; Maini et al. 2024 (TOFU), arXiv 2401.06121",
        {"TOFU: no cap": {"cap": None}},
    ),
    "npo": _method(
        Npo,
        "push the facts below what the model gave them before, ever more gently, and keep other facts and text",
        "Zhang et al. 2024, arXiv 2404.05868",
    ),
    "simnpo": _method(
        SimNpo,
        "NPO by the mean token, without comparing with the model before",
        "Fan et al. 2024, arXiv 2410.07163",
    ),
    "rmu": _method(
        Rmu,
        "send a layer's activations on the facts in a random direction, and keep those on other text",
        "Li et al. 2024, arXiv 2403.03218",
        {"WMDP: released run for Zephyr-7B": WMDP_RMU},
    ),
}

NEED_NO_FACTS = tuple(name for name, method in METHODS.items() if not method.needs_facts)
"""Methods for concepts that are only labelled words."""


def plan(edit: Edit, model: LanguageModel, materials: Materials) -> Change[Any]:
    """Work an edit out for one unedited model.

    Raises:
        ConceptError: the materials lack what the method needs.
        EditError: the edit does not fit the model.
    """
    if isinstance(edit, ComponentEdit):
        return plan_components(edit, model, materials)
    if isinstance(edit, Tars):
        return plan_tars(edit, model, materials)
    if isinstance(edit, GradientEdit):
        return plan_gradient(edit, model, materials)
    raise ConfigError(f"“{edit.method}” cannot be planned.")


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"“{name}” is no method. Use {', '.join(METHODS)}.")
    return METHODS[name]


def from_settings(method: str, values: Mapping[str, Any]) -> Edit:
    """An edit from a method's name and its settings, which may be texts.

    Raises:
        ConfigError: the method or a setting is unknown, or a value does not fit.
    """
    return method_named(method).configure(values)


def from_dict(data: Mapping[str, Any]) -> Edit:
    """Rebuild an edit from `Edit.to_dict`.

    Raises:
        ConfigError: the method is unknown, or a field is missing, unknown or out of range.
    """
    if not isinstance(data, Mapping):
        raise ConfigError("This is no edit (no JSON object).")
    # written before there were other methods: an edit of components without the method's name
    name = str(data.get("method", data.get("kind")))
    edit = method_named(name).load({key: value for key, value in data.items() if key != "method"})
    if edit.method != name and "method" in data:
        raise ConfigError(f"The edit says “{name}”, but its settings are those of “{edit.method}”.")
    return edit

"""Starts removals: the edit on the page, a recipe file, or several methods at their default settings."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis import concepts, removals
from analysis.concepts import Concept
from analysis.edits import METHODS, NEED_NO_FACTS, Edit, from_settings
from analysis.edits.recipe import Recipe
from analysis.errors import ConfigError, PalimpsestError
from analysis.evaluation import ALL, QUICK
from analysis.models import catalog, fetch, memory
from analysis.removals.removal import Removal
from analysis.scoring.factual_recall import KNOWN_THRESHOLD
from ui.app import links, shell, viewer_model
from ui.app.actions import action_button
from ui.app.tokens import escaped

__all__ = ["CHOSEN", "queue_form", "recipe_form", "start_form"]

CHOSEN = "op"
"""Key (and URL parameter) of the widget that chooses the removal that is shown."""


def start_form(concept: Concept, edit: Edit) -> None:
    """Draw the choice of what to keep and to measure, and the button that starts the removal."""
    what, keep, known, seed = st.columns([3, 4, 2, 1], vertical_alignment="bottom")
    with what:
        parts = _parts()
    maintain: Sequence[str] = ()
    if edit.needs_facts:
        others = [name for name in concepts.available() if name != concept.name]
        maintain = keep.multiselect(
            "Also keep the facts of", others, key="maintain", bind="query-params", placeholder="other concepts"
        )
    threshold = KNOWN_THRESHOLD
    if concept.facts:
        threshold = known.number_input(
            "Known from P(answer)", 0.0, 1.0, KNOWN_THRESHOLD, 0.05, key="known_from", bind="query-params",
            help="Facts to which the unedited model gives less are neither removed nor measured.",
        )  # fmt: skip
    drawn = int(
        seed.number_input("Seed", 0, 2**31 - 1, 0, key="op_seed", bind="query-params", help="Seed of the evaluation.")
    )
    possible = bool(concept.facts) or not edit.needs_facts
    if not possible:
        st.info(
            f"This concept has no facts, and `{edit.method}` removes facts. Methods that need none: "
            f"{', '.join(NEED_NO_FACTS)}."
        )
    elif not concept.facts:
        st.caption(
            "This concept has no facts, so the probability of its labelled words in its own sentences is measured."
        )

    def start() -> None:
        _show(_start(_recipe(concept, edit, maintain, threshold), parts, drawn))

    action_button(
        "Carry out and evaluate", start, key="carry out", type="primary", width="stretch", icon=":material/science:",
        disabled=not possible,
    )  # fmt: skip
    st.caption(
        "A separate process loads the model in float32, measures it, edits it, and measures it again. The page stays "
        "responsive and may be closed."
    )


def recipe_form() -> None:
    """Draw the upload of a recipe, a description of what it does, and the button that starts it."""
    uploaded = st.file_uploader("Recipe", type="json", help="A JSON file that was downloaded from a removal here.")
    if uploaded is None:
        return
    try:
        recipe = Recipe.from_json(uploaded.getvalue().decode("utf-8"))
        source = catalog.resolve(recipe.model)
    except UnicodeDecodeError:
        st.error("This is not a recipe: the file is not text in UTF-8.", icon=":material/error:")
        return
    except PalimpsestError as error:
        st.error(escaped(str(error)), icon=":material/error:")
        return
    st.markdown(f"On the unedited **{escaped(recipe.model)}**, facts known from P(answer) {recipe.threshold:g}:")
    st.markdown("\n".join(f"1. **{escaped(step.concept)}**: {escaped(step.edit.describe())}" for step in recipe.steps))
    if recipe.maintain:
        st.caption(f"Keeps the facts of {', '.join(map(escaped, recipe.maintain))}.")
    if recipe.unchecked:
        st.warning(escaped(recipe.unchecked), icon=":material/warning:")
    ready = fetch.is_fetched(source)
    if not ready:
        st.warning("That model is not on this machine. Load it on the Model page first.", icon=":material/download:")
    action_button(
        "Carry out this recipe", lambda: _show(_start(recipe, _chosen_parts(), 0)), key="carry out recipe",
        icon=":material/science:", disabled=not ready,
    )  # fmt: skip


def queue_form(concept: Concept) -> None:
    """Draw the choice of several methods and the button that starts them."""
    possible = [name for name in (METHODS if concept.facts else NEED_NO_FACTS) if _complete(name)]
    links.check("queue", possible)
    names = st.multiselect("Methods, at their default settings", possible, key="queue", bind="query-params")
    parts = _parts()

    def start() -> None:
        edits = [from_settings(name, {}) for name in names]  # before any is started: one may need settings
        for recipe in [_recipe(concept, edit, (), KNOWN_THRESHOLD) for edit in edits]:
            _start(recipe, parts, 0)

    action_button(
        "Carry them out", start, key="carry out several", type="primary", icon=":material/science:", disabled=not names
    )
    st.caption(
        "They run one after another, in separate processes. A method that needs more settings, such as a new answer, is "
        "started on the Surgery page."
    )


def _start(recipe: Recipe, parts: tuple[str, ...], seed: int) -> Removal:
    device, owner = viewer_model.chosen().device, viewer_model.owner()
    return removals.start(recipe, device=device, what=parts, seed=seed, owner=owner)


def _show(removal: Removal) -> None:
    """Choose the removal on the Surgery page when it is drawn next."""
    shell.set_widgets_later(**{CHOSEN: removal.name})


def _complete(name: str) -> bool:
    """Whether the method needs no settings beyond its defaults (TARS needs a new answer)."""
    try:
        from_settings(name, {})
    except ConfigError:
        return False
    return True


def _parts() -> tuple[str, ...]:
    st.segmented_control(
        "Evaluate", ["quick", "all"], default="quick", required=True, key="parts", bind="query-params",
        help=f"quick: {', '.join(QUICK)}. all, which takes many times as long: also "
        f"{', '.join(part for part in ALL if part not in QUICK)}.".replace("_", " "),
    )  # fmt: skip
    return _chosen_parts()


def _chosen_parts() -> tuple[str, ...]:
    return ALL if st.session_state.get("parts") == "all" else QUICK


def _recipe(concept: Concept, edit: Edit, maintain: Sequence[str], threshold: float) -> Recipe:
    model = viewer_model.model()
    if model.dtype != "float32":
        raise ConfigError(
            f"The model is loaded in {model.dtype}, but removals need float32. Load it in float32 on the Model page."
        )
    memory.load_estimate(model.n_parameters, "float32", model.device.type).check()
    return Recipe.of(model, [(concept, edit)], maintain=maintain, threshold=threshold)

"""Surgery: choose a method and what it is done to, carry it out, see what it really did, and undo it exactly."""

import streamlit as st

from analysis import operations
from analysis.edits import ComponentEdit
from ui import before_after, edit_form, host, ledger_view, links, operation_form, operation_view, quick_edit, shell

shell.begin(
    "Surgery", "Remove the concept by one of several methods, measure what that really did, and undo it exactly."
)
with shell.shown_errors():
    concept = shell.chosen_concept()
    model = host.model()
    facts = host.fact_scores(concept) if concept.facts else None
known = [] if facts is None else [fact for fact, is_known in zip(concept.facts, facts["known"]) if is_known]

edit_form.edit_form(concept)
edit = None
with shell.shown_errors(stop=False):  # ledger and operations below must stay in sight
    edit = edit_form.chosen_edit()
if isinstance(edit, ComponentEdit):
    quick_edit.quick_edit(concept, edit, known)
elif edit is not None:
    st.markdown(f"**{edit.describe()}**")
if edit is not None:
    operation_form.start_form(concept, edit)
recipe, relearn = st.columns(2)
with recipe.popover("Load a recipe", icon=":material/upload_file:", width="stretch"):
    operation_form.recipe_form()
if relearn.button("Relearn with this edit", width="stretch", icon=":material/replay:"):
    links.go_to("relearn.py")
before_after.show_last(concept)

found = operations.list_operations()
if found:
    st.subheader("Operations")
    operation_view.operation_view(operation_view.choose(found), concept, known)

st.subheader("Ledger")
ledger_view.ledger_view(concept)

"""Surgery: choose an edit, preview or execute it, measure its effect, and undo it exactly."""

import streamlit as st

from analysis import removals
from analysis.edits import ComponentEdit
from ui.app import links, shell, viewer_model
from ui.surgery import before_after, edit_form, ledger_view, quick_edit, removal_form, removal_view

shell.page_header("Surgery", "Remove the concept by one of several methods, measure the effect, and undo it exactly.")
with shell.shown_errors():
    concept = shell.chosen_concept()
    model = viewer_model.model()
    known = viewer_model.known_facts(concept)

edit_form.edit_form(concept)
edit = None
with shell.shown_errors(stop=False):  # the ledger and the removals below stay visible after an error
    edit = edit_form.chosen_edit()
if isinstance(edit, ComponentEdit):
    quick_edit.quick_edit(concept, edit, known)
elif edit is not None:
    st.markdown(f"**{edit.describe()}**")
before_after.show_last(concept)
recipe, relearn = st.columns(2)
with recipe.popover("Load a recipe", icon=":material/upload_file:", width="stretch"):
    removal_form.recipe_form()
if relearn.button("Relearn with this edit", width="stretch", icon=":material/replay:"):
    links.go_to("relearn.py")
if edit is not None:
    removal_form.start_form(concept, edit)

found = removals.list_removals()
if found:
    st.subheader("Removals")
    removal_view.removal_view(removal_view.choose(found), concept, known)

st.subheader("Ledger")
ledger_view.ledger_view(concept)

"""Draws the upload of a concept: files or a hub data set, a preview of what was understood of them, and the button that keeps it."""

from collections.abc import Mapping

import streamlit as st

from analysis import concepts
from analysis.concepts import Preview
from analysis.concepts.hub import preview_hub
from ui.app import shell, tokens
from ui.app.actions import action_button

__all__ = ["upload_form"]

_KEPT = "kept"
_ROWS = 5


def upload_form() -> None:
    """Draw the fields; once there is something to read, what was understood of it; and after keeping it, a button to use it."""
    st.caption(
        "Sentences and facts: JSON lines. Facts: a table with the columns subject and answer. Sentences: CoNLL (a token a line, "
        "its tag in the last column), or X_tokens.txt and X_labels.txt together. Benchmarks, recognised by their fields, as "
        "JSON, JSON lines or Parquet: CounterFact, TOFU, WMDP, MUSE, RWKU, zsRE, MQuAKE, LAMA, UDS."
    )
    one, two, three = st.columns(3)
    name = one.text_input("Name", placeholder="from the file's name").strip()
    label = two.text_input("Label, relation or set", placeholder="if there are several: LOC, P103, forget").strip()
    template = three.text_input("Template for facts without one", placeholder="The capital of {subject} is").strip()
    uploads = st.file_uploader("File, or two that belong together", type=concepts.ENDINGS, accept_multiple_files=True)
    hub = st.text_input("Or a hub data set", placeholder="owner/name:configuration:split").strip()
    if not uploads and not hub:
        st.session_state.pop(_KEPT, None)
        return
    with shell.shown_errors(stop=False):
        contents = {upload.name: upload.getvalue() for upload in uploads}
        with st.spinner("Reading …"):
            found = _read(contents, hub, template, label, name)
        _preview(found)

        def keep() -> None:
            st.session_state.pop(_KEPT, None)
            concepts.save(found.concept)
            st.session_state[_KEPT] = found.concept  # the page is drawn again, and the sidebar offers it

        action_button("Keep this concept", keep, key="keep concept")
        if st.session_state.get(_KEPT) == found.concept:
            st.success(f"Kept “{tokens.escaped(found.concept.name)}”: {found.counts()}.")
            st.button("Use it now", on_click=shell.choose_concept, args=(found.concept.name,))


@st.cache_data(show_spinner=False, max_entries=4)
def _read(contents: Mapping[str, bytes], hub: str, template: str, label: str, name: str) -> Preview:
    templates = (template,) if template else ()
    if contents:
        return concepts.preview_files(contents, templates=templates, label=label or None, name=name or None)
    return preview_hub(hub, templates=templates, label=label or None, name=name or None)


def _preview(found: Preview) -> None:
    st.markdown(f"**{tokens.escaped(found.concept.name)}**. {found.kind}: {found.counts()}.")
    if found.concept.description:
        st.caption(tokens.escaped(found.concept.description))
    st.dataframe(found.rows(_ROWS), hide_index=True)

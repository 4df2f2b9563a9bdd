"""Saliency: which neurons carry the concept, layer by layer; select some for surgery."""

import streamlit as st

from ui.app import shell, viewer_model
from ui.saliency import card_drawer, compare, view

shell.page_header(
    "Saliency", "Which neurons carry the concept, layer by layer. Select some for surgery, or look at one closely."
)
with shell.shown_errors():
    concept = shell.chosen_concept()
    viewer_model.model()
card_drawer.sidebar()
settings = view.settings_form()
with shell.shown_errors():
    result = view.scores(concept, settings)
st.caption(view.summary(result))

on_map, strongest, layers, methods, pair = st.tabs(
    ["Map", "Strongest", "Layers", "Agreement", "Two concepts"], key="view", bind="query-params", on_change="rerun"
)
# only the open tab is drawn, so that nothing is computed for the others
with shell.shown_errors():
    if on_map.open:
        with on_map:
            view.map_tab(result, settings)
    elif strongest.open:
        with strongest:
            view.strongest_tab(concept, result, settings)
    elif layers.open:
        with layers:
            compare.layers_tab(concept, result, settings)
    elif methods.open:
        with methods:
            compare.agreement_tab(concept, settings)
    elif pair.open:
        with pair:
            compare.concepts_tab(concept, result, settings)
card_drawer.show()

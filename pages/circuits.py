"""Circuits: find the attention heads and MLP layers that a concept's facts depend on, and use them for an edit."""

import streamlit as st

from analysis.figures.circuits import circuit_map, circuit_overlap, probe_accuracy, short_unit
from ui.app import links, shell, viewer_model
from ui.circuits import search, view
from ui.surgery import edit_form

shell.page_header("Circuits", "Which attention heads and MLP layers the model needs to state the concept's facts.")
with shell.shown_errors():
    concept = shell.chosen_concept()
    if not concept.facts:
        st.info(
            f"“{concept.title}” has sentences but no facts, and a circuit is found by prompting for facts that the model "
            "knows. Choose another concept in the sidebar, or upload facts on the Model page (for example a CSV file with "
            "subjects and answers, and a template).",
            icon=":material/info:",
        )
        shell.end_page()
    model = viewer_model.model()

form, shown = st.columns([3, 8], gap="large")
with form:
    settings = search.settings_form(concept)
    with shell.shown_errors():
        ready = search.find(concept, settings)

with shown:
    before = st.container()
    if ready is None:
        with before:
            search.session_pills(concept, settings)
        st.info(
            "The map of all attention heads and MLPs, coloured by their effect on the answer, appears here after the search.",
            icon=":material/account_tree:",
        )
        shell.end_page()
    result = ready.result
    with shell.shown_errors():
        circuit = view.cut_form(result)
    search.keep_in_session(concept, settings, circuit)
    with before:
        search.session_pills(concept, settings)
    lookup = view.lookup_layers(concept)
    st.plotly_chart(circuit_map(circuit, result.effects, lookup=lookup), key="circuit_map")
    st.caption(view.map_caption(result, lookup))

stem = f"{model.name.replace('/', '-')}-{concept.name}-{settings.method}"
with form:
    st.markdown(f"**The circuit**: {view.size(circuit)}")
    effect = f"effect ({short_unit(circuit.unit)})" if circuit.unit else "effect"
    st.dataframe(
        circuit.table()[["component", "effect"]],
        hide_index=True,
        key="circuit_components",
        column_config={"effect": st.column_config.NumberColumn(effect, format="%.3g")},
    )
    if st.button("Use this circuit in Surgery", type="primary", width="stretch", icon=":material/content_cut:"):
        edit_form.use_components(circuit.format())
        links.go_to("surgery.py", rule="explicit", neurons=circuit.format())
    if st.button("Train only this circuit", width="stretch", help="On Relearn: only its weights may change."):
        st.session_state["train_only"] = circuit.format()
        links.go_to("relearn.py", train_only=circuit.format())
    as_json, as_csv = st.columns(2)
    as_json.download_button("JSON", circuit.to_json, f"{stem}-circuit.json", "application/json", width="stretch")
    as_csv.download_button(
        "CSV",
        lambda: view.table(result, circuit).to_csv(index=False),
        f"{stem}.csv",
        "text/csv",
        width="stretch",
        help="Every measured component with its effect, and whether it is in the circuit.",
    )

with shown:
    st.markdown("**Where the answer can be read** from the subject's last token")
    probed = view.probe(concept)
    if probed is None:
        st.caption(
            "Not measured yet. The method `fact_lookup_probe` measures it; the layers that look the facts up are then "
            "bracketed on every map of this concept."
        )
    else:
        st.plotly_chart(probe_accuracy(probed[0], lookup), key="probe_accuracy")
        st.caption(view.probe_caption(probed[0]))

st.subheader("Do methods agree?")
what, matrix = st.columns([3, 8], gap="large")
with what:
    column = st.segmented_control(
        "Shared", ["components", "mlp_layers"], default="components", required=True, key="shared", bind="query-params"
    )
    st.caption(
        "Jaccard index (shared / in either) of every two circuits found in this session: 1 = the same, 0 = nothing in "
        "common. `components` counts heads and MLPs, `mlp_layers` whole MLPs only. The random circuits have as many "
        "parameters as the one shown above: overlap no larger than theirs is chance."
    )
    pairs = view.overlaps(concept, settings, circuit)
    st.download_button("Overlaps as CSV", pairs.to_csv(index=False), file_name=f"{stem}-overlaps.csv", mime="text/csv")
with matrix:
    if len(pairs):
        st.plotly_chart(circuit_overlap(pairs, column=column), key="circuit_overlap")

"""Model: choose and load a model, choose or upload a concept, and see what the model knows about it."""

import streamlit as st

from analysis.models import catalog, memory
from ui.app import concept_upload, shell, tokens, viewer_model

shell.page_header(
    "Model", "Choose a model and a concept. A real model is chosen already; everything else works from here."
)
OTHER = "another model …"

left, right = st.columns([3, 2], gap="large")
with left:
    choice = viewer_model.chosen()
    names = [entry.name for entry in catalog.CATALOG]
    known = choice.reference in names
    picked = st.selectbox("Model", [*names, OTHER], index=names.index(choice.reference) if known else len(names))
    if picked == OTHER:
        reference = st.text_input(
            "Hub id, folder, or GGUF file",
            value="" if known else choice.reference,
            placeholder="org/name   ·   /path/to/folder   ·   /path/to/model.gguf",
            help="Folders and hub models must hold safetensors; pickles and custom code are never loaded.",
        )
    else:
        reference = str(picked)
    devices, precisions = viewer_model.devices(), list(memory.DTYPE_BYTES)
    one, two = st.columns(2)
    device = str(one.selectbox("Device", devices, index=devices.index(choice.device)))
    dtype = str(two.selectbox("Precision", precisions, index=precisions.index(choice.dtype)))
    entry = next((entry for entry in catalog.CATALOG if entry.name == reference), None)
    if entry is not None:
        st.caption(f"{entry.good_for} {entry.parameters / 1e6:,.0f} M parameters, licence {entry.licence}.")
        estimate = memory.load_estimate(entry.parameters, dtype, "cuda" if "cuda" in (device, devices[-1]) else "cpu")
        (st.caption if estimate.fits else st.warning)(f"{estimate}.")
    load, unload = st.columns(2)
    shown = viewer_model.Choice(reference=reference, device=device, dtype=dtype)
    other = shown != choice or viewer_model.is_unloaded()
    wanted = load.button("Load", type="primary" if other else "secondary", width="stretch", disabled=not reference)
    unload.button(
        "Unload",
        width="stretch",
        on_click=viewer_model.unload,
        disabled=viewer_model.is_unloaded(),
        help="Frees its memory.",
    )
    if wanted and reference:
        with shell.shown_errors():
            viewer_model.replace(shown)
if viewer_model.is_unloaded():
    right.info("No model is loaded; its memory is free. Press “Load”.", icon=":material/eject:")
    shell.end_page()
with right, shell.shown_errors():
    model = viewer_model.model()
    st.metric("Layers × neurons", f"{model.n_layers} × {model.n_neurons:,}")
    st.metric("Parameters", f"{model.n_parameters / 1e6:,.1f} M")
    st.caption(
        f"{model.architecture} on {model.device}, {model.dtype}. Hooks `blocks.0.mlp.hook_post` to "
        f"`blocks.{model.n_layers - 1}.mlp.hook_post` are present; the logits match the stored fingerprint."
    )

st.divider()
with shell.shown_errors():
    concept = shell.chosen_concept()
st.subheader(tokens.escaped(concept.title))
st.caption(tokens.escaped(concept.description))
words, facts = st.columns(2, gap="large")
with words:
    st.markdown("**Labelled sentences**")
    tokens.sentences(concept.labelled_sentences())
with facts, shell.shown_errors():
    st.markdown("**Facts**")
    if concept.facts:
        table = viewer_model.fact_scores(concept)
        unknown = int((~table["known"]).sum())
        st.caption(
            f"The model knows {len(table) - unknown} of {len(table)} facts (mean P(answer) of at least 0.3 over "
            f"their templates); {unknown} are set aside before anything is measured."
        )
        st.dataframe(
            table.sort_values("p", ascending=False),
            hide_index=True,
            height=330,
            column_order=["subject", "answer", "p", "known", "split"],
            column_config={"p": st.column_config.ProgressColumn("P(answer)", min_value=0, max_value=1, format="%.2f")},
        )
    else:
        st.caption("This concept has sentences only; it can be ranked and removed, but recovery needs facts.")

with st.expander("Upload a concept"):
    concept_upload.upload_form()

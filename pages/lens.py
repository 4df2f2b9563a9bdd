"""Logit lens: what each layer would predict if the model stopped there, and where the answer appears."""

import streamlit as st

from ui.app import links, shell, viewer_model
from ui.lens import lens_table

shell.page_header(
    "Logit lens", "What each layer would predict if the model stopped there, and where the answer appears."
)
with shell.shown_errors():
    concept = shell.chosen_concept()
    model = viewer_model.model()
    facts = viewer_model.fact_scores(concept) if concept.facts else None
    prompt, answer = lens_table.prompt_form(concept, facts)
    if not prompt.strip():
        st.info("Type the beginning of a sentence above, or choose a fact.", icon=":material/edit:")
        shell.end_page()
    result = lens_table.lens(prompt, answer)

said, colouring = st.columns([3, 2], vertical_alignment="bottom")
said.markdown(lens_table.finding(result))
colours = [name for name in lens_table.COLOURS if result.answer or name in ("probability", "KL")]
links.check("colour", colours)
colour = colouring.segmented_control(
    "Colour",
    colours,
    default="probability",
    required=True,
    key="colour",
    bind="query-params",
)
lens_table.lens_table(result, colour, vocabulary_size=model.vocabulary_size, key="lens_table")
cut = f" The first {result.n_cut} tokens of the prompt are read, but not shown." if result.n_cut else ""
st.caption(
    "Each cell: the top next token if the residual stream after that layer went straight to the final norm and the "
    f"unembedding. `·` is a space, `⏎` a line break. Hover, or use the arrow keys, for the top five.{cut}"
)
st.download_button(
    "Table as CSV",
    lambda: result.table().to_csv(index=False),
    file_name=f"{model.name.replace('/', '-')}-logit-lens.csv",
    mime="text/csv",
    icon=":material/download:",
)

curve, everyone = st.columns(2, gap="large")
with curve:
    if result.answer:
        st.markdown("**P(answer) at the last position**")
        st.plotly_chart(lens_table.answer_figure(result), key="answer_curve")
table = None
with everyone, shell.shown_errors():
    if facts is not None and facts["known"].any():
        known = int(facts["known"].sum())
        st.markdown(f"**Depth of the {known} known facts**")
        if st.toggle("Look for all of them", key="all_facts", bind="query-params"):
            table = lens_table.depths(concept)
            st.plotly_chart(lens_table.depth_figure(table, model.n_layers), key="depths")
            st.caption(lens_table.depth_summary(table))
if table is not None:
    st.dataframe(table, hide_index=True, height=240, column_config=lens_table.DEPTH_COLUMNS)

st.subheader("What a neuron writes")
name = st.text_input("Neuron", key="writes", bind="query-params", placeholder="L5.N123")
if name.strip():
    with shell.shown_errors():
        effect = lens_table.neuron_vocabulary(name)
    st.caption(
        f"Tokens whose logits {effect.neuron} moves directly, in {effect.unit}; centred over the vocabulary. "
        "A negative activation does the reverse."
    )
    for column, (label, effects) in zip(
        st.columns(2), {"promotes": effect.promoted, "suppresses": effect.suppressed}.items()
    ):
        column.dataframe({label: [token for token, _ in effects], "logits": [value for _, value in effects]})

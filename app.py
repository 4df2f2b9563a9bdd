"""Palimpsest's dashboard: `streamlit run app.py`, or `make app`."""

from pathlib import Path

import streamlit as st

from ui import delivery, shell

ICON = Path(__file__).parent / "ui" / "assets" / "icon.svg"

st.set_page_config(page_title="Palimpsest", page_icon=str(ICON), layout="wide")
delivery.keep_in_order()
shell.mark_started()
shell.keep_choices()
page = st.navigation(shell.navigation())
place = shell.sidebar()
try:
    page.run()
finally:  # also when the page stopped early
    shell.sidebar_state(place)

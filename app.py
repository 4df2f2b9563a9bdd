"""Palimpsest's dashboard: `streamlit run app.py`, or `make app`."""

import streamlit as st

from ui.app import updates

app = st.App("pages/main.py", routes=[updates.route()])

"""Palimpsest's dashboard: `palimpsest app`, `make app`, or `streamlit run app.py`."""

import streamlit as st

from ui.app import updates

app = st.App("pages/main.py", routes=[updates.route()])

"""Palimpsest's dashboard: `streamlit run app.py`, or `make app`."""

import streamlit as st

from ui import news

app = st.App("pages/main.py", routes=[news.route()])

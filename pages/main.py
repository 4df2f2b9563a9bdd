"""The script that Streamlit runs for every page: navigation, sidebar, and the chosen page.

app.py only configures the server. This file is in the folder of the pages, because Streamlit would otherwise find that
folder by itself and open a page at a first visit without this frame.
"""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from ui.app import actions, shell, streamlit_patches, viewer_model

ICON = Path(__file__).parent.parent / "ui" / "assets" / "icon.svg"

st.set_page_config(page_title="Palimpsest", page_icon=str(ICON), layout="wide")
streamlit_patches.apply()
shell.restore_choices()
page = st.navigation(shell.navigation())
viewer_model.write_url()
place = shell.sidebar()
try:
    with suppress(shell.PageEnd):
        page.run()
finally:  # also if the page failed
    shell.sidebar_status(place)
    with st.sidebar:
        actions.ignore_double_clicks()

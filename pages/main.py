"""What Streamlit runs for every page: the navigation, and the frame around the page.

Not app.py, which says how all this is served, and not beside the folder of the pages: Streamlit would take them for pages
of its own accord, and open one without this at a first visit.
"""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from ui.app import shell, streamlit_patches

ICON = Path(__file__).parent.parent / "ui" / "assets" / "icon.svg"

st.set_page_config(page_title="Palimpsest", page_icon=str(ICON), layout="wide")
streamlit_patches.keep_in_order()
shell.keep_choices()
page = st.navigation(shell.navigation())
place = shell.sidebar()
try:
    with suppress(shell.PageEnd):
        page.run()
finally:  # also when the page failed
    shell.sidebar_state(place)

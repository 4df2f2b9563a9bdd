"""The dashboard: one package for each page, `app` for what all pages share, `canvas` for the migration canvas.

Only `ui/`, `pages/` and `app.py` import Streamlit; the library in `analysis/` does not. A few modules here do without it too
(`ui.app.model_holder`, `ui.app.token_strip`, `ui.canvas.browser_copy`, `ui.compare.tables`).
"""

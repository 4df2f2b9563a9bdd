"""Renders tables as HTML for notebooks, with all text escaped."""

from html import escape

import pandas as pd

__all__ = ["table_html"]


def table_html(table: pd.DataFrame, caption: str, *, note: str = "", index: bool = False) -> str:
    """HTML of a table under a caption, with numbers to three significant digits; `note` goes below."""
    shown = table.to_html(index=index, border=0, na_rep="", float_format=lambda value: f"{value:.3g}", escape=True)
    below = f"<p><small>{escape(note)}</small></p>" if note else ""
    return f"<div><p><b>{escape(caption)}</b></p>{shown}{below}</div>"

"""Small pieces of HTML for notebooks: a table with a caption, everything escaped."""

from html import escape

import pandas as pd

__all__ = ["table_html"]


def table_html(table: pd.DataFrame, caption: str, *, note: str = "", index: bool = False) -> str:
    """A table under a caption, with numbers to three significant digits."""
    shown = table.to_html(index=index, border=0, na_rep="", float_format=lambda value: f"{value:.3g}", escape=True)
    below = f"<p><small>{escape(note)}</small></p>" if note else ""
    return f"<div><p><b>{escape(caption)}</b></p>{shown}{below}</div>"

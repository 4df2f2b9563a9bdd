"""HTML of a text whose tokens are coloured by a signed number: blue above zero, orange below, stronger for larger numbers.

All text is escaped. Line breaks and tabs are made visible.
"""

from collections.abc import Sequence
from html import escape

__all__ = ["continuation", "legend", "token_strip"]

_BLUE, _ORANGE = "0,114,178", "213,94,0"
_STRONGEST = 0.75


def token_strip(
    text: str,
    ranges: Sequence[tuple[int, int]],
    values: Sequence[float],
    limit: float,
    *,
    mark: tuple[int, int] | None = None,
    reach: int | None = None,
) -> str:
    """HTML of a text in which each token has a colour and, on hover, its number.

    Args:
        text: The whole text.
        ranges: Characters [start, end) of every token that has a value, in the order of the text.
        values: One number for each of these tokens.
        limit: The size that gets the full colour; larger ones look the same.
        mark: The token that gets an outline.
        reach: Number of characters shown on either side of the marked token; None shows the whole text.
    """
    start, stop = 0, len(text)
    if mark is not None and reach is not None:
        start, stop = max(mark[0] - reach, 0), min(mark[1] + reach, len(text))
    pieces, done = ["…"] if start else [], start
    for (a, b), value in zip(ranges, values):
        a, b = max(a, done), min(b, stop)
        if a >= b:
            continue
        pieces.append(_plain(text[done:a]))
        pieces.append(_token(text[a:b], value, limit, outlined=mark is not None and a <= mark[0] < b))
        done = b
    pieces.append(_plain(text[done:stop]))
    if stop < len(text):
        pieces.append("…")
    return f'<div style="line-height:1.75;overflow-wrap:anywhere">{"".join(pieces)}</div>'


def continuation(prompt: str, tokens: Sequence[tuple[str, float]], about: str = "") -> str:
    """HTML of a prompt and its continuation by a model; each new token is coloured by its probability.

    Args:
        prompt: The text that the model continued.
        tokens: Each new token with its probability, 0 to 1.
        about: One or two words shown before the prompt.
    """
    label = f'<span style="font-size:0.8em;opacity:0.6">{escape(about)} · </span>' if about else ""
    written = "".join(
        f'<span title="P = {p:.3f}" style="background:rgba({_BLUE},{0.05 + 0.45 * p:.2f});border-radius:3px">'
        f"{escape(text).replace(chr(10), '⏎').replace(' ', '&nbsp;')}</span><wbr>"
        for text, p in tokens
    )
    ended = "" if tokens else '<span style="opacity:0.6">(ends the text)</span>'
    return f'<div style="line-height:1.7;overflow-wrap:anywhere">{label}{_visible(prompt)}{written}{ended}</div>'


def legend(limit: float) -> str:
    """HTML that explains the colours."""
    ends = "".join(
        f'<span style="background:rgba({hue},{_STRONGEST});padding:1px 8px;border-radius:3px">{label}</span> '
        for hue, label in ((_ORANGE, f"−{limit:.3g} or less"), (_BLUE, f"+{limit:.3g} or more"))
    )
    return f'<div style="font-size:0.85em;opacity:0.9">activation: {ends} hover for the number</div>'


def _token(text: str, value: float, limit: float, *, outlined: bool) -> str:
    strength = min(abs(value) / limit, 1.0) * _STRONGEST if limit > 0 else 0.0
    style = f"background:rgba({_BLUE if value >= 0 else _ORANGE},{strength:.2f});border-radius:2px"
    if outlined:
        style += ";outline:1.5px solid currentColor;font-weight:600"
    return f'<span style="{style}" title="{value:+.4g}">{_visible(text)}</span>'


def _plain(text: str) -> str:
    return f'<span style="opacity:0.55" title="not counted">{_visible(text)}</span>' if text.strip() else _visible(text)


def _visible(text: str) -> str:
    return escape(text).replace("\n", "⏎<br>").replace("\t", "⇥")

"""Coloured tokens: nothing but the text, escaped, and colours that follow sign and size."""

import re
from html import unescape

import pytest

from ui.app.token_strip import legend, token_strip


def shown(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def grounds(html: str) -> list[str]:
    return re.findall(r"background:rgba\(([^)]*)\)", html)


def test_the_text_is_all_there():
    text = 'a <b>bold</b> & "quoted" word'
    html = token_strip(text, [(2, 9), (9, 13)], [1.0, -1.0], 2.0)
    assert shown(html) == text
    assert "<b>" not in html


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'onmouseover='x"])
def test_no_text_becomes_markup(evil: str):
    html = token_strip(evil, [(0, len(evil))], [1.0], 1.0)
    assert re.findall(r"<(?!/?(?:span|div|br)\b)", html) == []
    assert shown(html) == evil


def test_sign_gives_the_hue_and_size_the_strength():
    html = token_strip("abcd", [(0, 1), (1, 2), (2, 3), (3, 4)], [2.0, -1.0, 0.0, 99.0], 2.0)
    assert grounds(html) == ["0,114,178,0.75", "213,94,0,0.38", "0,114,178,0.00", "0,114,178,0.75"]
    assert 'title="-1"' in html


def test_a_silent_neuron_colours_nothing():
    assert grounds(token_strip("ab", [(0, 2)], [0.0], 0.0)) == ["0,114,178,0.00"]


def test_overlapping_ranges_show_a_character_once():
    assert shown(token_strip("née", [(0, 1), (1, 2), (1, 2), (2, 3)], [1, 2, 3, 4], 4)) == "née"


def test_only_the_surroundings_of_the_marked_token():
    text = "0123456789"
    html = token_strip(text, [(i, i + 1) for i in range(10)], [1.0] * 10, 1.0, mark=(5, 6), reach=2)
    assert shown(html) == "…34567…"
    assert html.count("outline") == 1


def test_line_breaks_are_seen():
    assert "⏎<br>" in token_strip("a\nb", [(0, 2), (2, 3)], [1.0, 1.0], 1.0)


def test_the_legend_has_both_ends():
    assert "−2.5 or less" in legend(2.5)
    assert "+2.5 or more" in legend(2.5)

"""Outlines on the map as short texts, and back."""

import numpy as np
import pytest

from analysis import figures
from analysis.errors import ConfigError
from ui.saliency.selection import decode, encode

SHAPE = (30, 200)


def test_a_box_survives_the_address():
    box = {"x": [12.34, 56.78], "y": [3.2, 1.1]}
    assert encode([box], []) == "b12.3,3.2,56.8,1.1"
    assert decode(encode([box], []), SHAPE) == figures.box_neurons([box], SHAPE)


def test_a_lasso_survives_the_address():
    corners = {"x": [10.0, 60.0, 40.0], "y": [2.0, 5.0, 20.0]}
    assert decode(encode([], [corners]), SHAPE) == figures.lasso_neurons([corners], SHAPE)


def test_a_long_lasso_is_thinned_but_encloses_nearly_the_same():
    angle = np.linspace(0, 2 * np.pi, 700)
    circle = {"x": (100 + 60 * np.cos(angle)).tolist(), "y": (15 + 9 * np.sin(angle)).tolist()}
    text = encode([], [circle])
    assert len(text) < 500
    found, exact = decode(text, SHAPE), figures.lasso_neurons([circle], SHAPE)
    assert len(np.setxor1d(found.flat, exact.flat)) < 0.03 * len(exact)


def test_several_outlines_are_joined():
    boxes = [{"x": [0, 1], "y": [0, 0]}, {"x": [1, 2], "y": [0, 0]}]
    assert decode(encode(boxes, []), SHAPE).format() == "L0.N0, L0.N1, L0.N2"
    assert len(decode("", SHAPE)) == 0
    assert encode([], []) == ""


@pytest.mark.parametrize("text", ["x1,2,3,4", "b1,2,3", "b1,2,3,x", "l", "b1,2,3,inf", "_", "b"])
def test_what_is_no_outline(text: str):
    with pytest.raises(ConfigError, match="Draw it again"):
        decode(text, SHAPE)

"""Names of units, in both forms."""

import pytest

from analysis.components.sites import HEADS, MLP, RESIDUAL
from analysis.components.units import Unit, site_shape
from analysis.errors import ConfigError
from analysis.models import LanguageModel


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("L1.N7", Unit(1, 7, MLP)),
        (" l1.n7 ", Unit(1, 7, MLP)),
        ("blocks.1.mlp.hook_post[7]", Unit(1, 7, MLP)),
        ("blocks.1.mlp.hook_post.7", Unit(1, 7, MLP)),
        ("L2.D31", Unit(2, 31, RESIDUAL)),
        ("blocks.2.hook_resid_post[31]", Unit(2, 31, RESIDUAL)),
        ("L0.H3", Unit(0, 3, HEADS)),
        ("blocks.0.attn.hook_z[3]", Unit(0, 3, HEADS)),
    ],
)
def test_parse(tiny_model: LanguageModel, name: str, expected: Unit):
    found = Unit.parse(name, tiny_model)
    assert found == expected
    assert Unit.parse(str(found), tiny_model) == Unit.parse(found.hook, tiny_model) == found


@pytest.mark.parametrize("name", ["", "L1", "L1.X3", "neuron 5", "blocks.1.mlp.hook_pre[7]", "blocks.1.mlp.hook_post"])
def test_what_is_no_name(tiny_model: LanguageModel, name: str):
    with pytest.raises(ConfigError, match="names no unit"):
        Unit.parse(name, tiny_model)


@pytest.mark.parametrize("name", ["L3.N0", "L0.N48", "L0.D32", "L0.H4"])
def test_what_the_model_does_not_have(tiny_model: LanguageModel, name: str):
    with pytest.raises(ConfigError, match="lies outside"):
        Unit.parse(name, tiny_model)


def test_shapes(either_model: LanguageModel):
    assert site_shape(either_model, MLP) == either_model.shape
    assert site_shape(either_model, RESIDUAL) == (either_model.n_layers, 32)
    assert site_shape(either_model, HEADS) == (either_model.n_layers, 4)

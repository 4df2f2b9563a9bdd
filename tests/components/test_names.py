"""The grammar of names; who reads them decides which are allowed."""

import pytest

from analysis.components.circuit import Component
from analysis.components.names import Name, is_short, parse_name, split_names
from analysis.components.sites import HEADS, MLP, RESIDUAL, SITES, Site
from analysis.errors import EditError


@pytest.mark.parametrize(
    ("text", "site", "index"),
    [
        ("L5.N123", MLP, 123),
        ("l5.h3", HEADS, 3),
        ("L5.D12", RESIDUAL, 12),
        ("L5.MLP", None, 0),
        ("l5.mlp", None, 0),
        ("blocks.5.mlp", None, 0),
        ("blocks.5.mlp.hook_post[123]", MLP, 123),
        ("blocks.5.mlp.hook_post.123", MLP, 123),
        ("blocks.5.attn.hook_z[3]", HEADS, 3),
        ("blocks.5.hook_resid_post.12", RESIDUAL, 12),
    ],
)
def test_names(text: str, site: Site | None, index: int):
    assert parse_name(text) == Name(5, site, index)


@pytest.mark.parametrize("site", SITES.values(), ids=str)
def test_what_a_site_writes_is_read(site: Site):
    assert parse_name(site.label(7, 9)) == parse_name(f"{site.hook(7)}[9]") == Name(7, site, 9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "L5",
        "L5.X3",
        "L5.N",
        "L5.MLP3",
        "blocks.5.mlp[3]",
        "blocks.5.mlp.hook_post",
        "blocks.5.attn",
        "L5.N1\n",
        "blocks.5.mlp.hook_pre[1]",
        "L5.N-1",
        " L5.N1",
        f"L{10**99}.N1",
    ],
)
def test_what_is_no_name(text: str):
    assert parse_name(text) is None


def test_short_names_of_units():
    assert [is_short(text) for text in ("L5.N1", "l5.d1", "L5.MLP", "blocks.5.mlp.hook_post[1]")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_list_of_names():
    assert split_names(" L1.N2,L3.MLP;\nL4.H5 ") == ["L1.N2", "L3.MLP", "L4.H5"]
    assert split_names(" ,") == []


def test_components_are_no_residual_dimensions():
    assert [str(Component.parse(name)) for name in ("l1.mlp", "blocks.2.attn.hook_z[3]", "L4.N5")] == [
        "L1.MLP",
        "L2.H3",
        "L4.N5",
    ]
    with pytest.raises(EditError, match="is no component"):
        Component.parse("L1.D2")

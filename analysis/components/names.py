"""Parses names of components and units: the one grammar of `L5.N123`, `L5.H3`, `L5.D12`, `L5.MLP` and of hook names.

| short | hook name with an index | what it names |
|---|---|---|
| `L5.N123` | `blocks.5.mlp.hook_post[123]` | MLP neuron |
| `L5.H3` | `blocks.5.attn.hook_z[3]` | attention head |
| `L5.D12` | `blocks.5.hook_resid_post[12]` | dimension of the residual stream |
| `L5.MLP` | `blocks.5.mlp` | whole MLP layer |

Layers and indices count from 0. The index of a hook may also follow a dot. `NeuronSet`, `Unit` and
`Component` decide which of these names they accept, and whether the model has them.
"""

import re
from dataclasses import dataclass

from analysis.components.sites import SITES, Site

__all__ = ["Name", "is_short", "parse_name", "split_names"]

_SHORT = re.compile(r"L(\d{1,99})\.(?:([NDH])(\d{1,99})|MLP)", re.IGNORECASE)
_HOOK = re.compile(r"blocks\.(\d{1,99})\.([a-z_.]+?)(?:\.(\d{1,99})|\[(\d{1,99})\])?")


@dataclass(frozen=True)
class Name:
    """A parsed name; whether the model has the unit is not checked."""

    layer: int
    site: Site | None
    """Site of the unit; None for a whole MLP layer."""
    index: int
    """Index of the unit in its layer; 0 for a whole MLP layer."""


def parse_name(text: str) -> Name | None:
    """Parse a short name (in either case) or a hook name; returns None if it is neither."""
    if match := _SHORT.fullmatch(text):
        layer, letter, index = match.groups()
        if letter is None:
            return Name(int(layer), None, 0)
        site = next(site for site in SITES.values() if site.letter == letter.upper())
        return Name(int(layer), site, int(index))
    if match := _HOOK.fullmatch(text):
        layer, hook, *indices = match.groups()
        index = next((index for index in indices if index is not None), None)
        if index is None:
            return Name(int(layer), None, 0) if hook == "mlp" else None
        return Name(int(layer), SITES[hook], int(index)) if hook in SITES else None
    return None


def is_short(text: str) -> bool:
    """Whether a text is the short name of a single unit, such as `L5.N123`."""
    match = _SHORT.fullmatch(text)
    return match is not None and match[2] is not None


def split_names(text: str) -> list[str]:
    """Split a list of names at white space, commas and semicolons."""
    return [name for name in re.split(r"[\s,;]+", text) if name]

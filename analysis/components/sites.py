"""Where in a model saliency can be measured: a site is one hook in every layer, and what its units are called.

A *unit* is one score: an MLP neuron, one dimension of the residual stream, or one attention head. `U` below is the
number of units in a layer.
"""

from dataclasses import dataclass

from analysis.errors import ConfigError

__all__ = ["HEADS", "MLP", "RESIDUAL", "SITES", "Site", "site_named"]


@dataclass(frozen=True)
class Site:
    """A hook that every layer has, and its units."""

    name: str
    """The hook without its layer, as TransformerLens names it; also what the user types."""
    unit: str
    """What one score belongs to."""
    plural: str
    letter: str
    """`L5.N123`: the letter before the index."""

    def hook(self, layer: int) -> str:
        """TransformerLens' name of the hook in `layer`."""
        return f"blocks.{layer}.{self.name}"

    def label(self, layer: int, index: int) -> str:
        """`L5.N123`, `L5.D12`, `L5.H3`."""
        return f"L{layer}.{self.letter}{index}"


MLP = Site("mlp.hook_post", "neuron", "neurons", "N")
RESIDUAL = Site("hook_resid_post", "residual dimension", "residual dimensions", "D")
HEADS = Site("attn.hook_z", "attention head", "attention heads", "H")

SITES: dict[str, Site] = {site.name: site for site in (MLP, RESIDUAL, HEADS)}


def site_named(name: str) -> Site:
    """The site of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SITES:
        raise ConfigError(f"“{name}” is no site. Use {', '.join(SITES)}.")
    return SITES[name]

"""The sites at which saliency can be measured: one hook in every layer, and the names of its units.

A *unit* gets one score: an MLP neuron, one dimension of the residual stream, or one attention head.
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
    """Name of a unit: “neuron”, “residual dimension” or “attention head”."""
    plural: str
    letter: str
    """The letter before a unit's index: N in `L5.N123`."""

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
    """Look up a site by its name.

    Raises:
        ConfigError: no site has this name.
    """
    if name not in SITES:
        raise ConfigError(f"“{name}” is not a site. Use {', '.join(SITES)}.")
    return SITES[name]

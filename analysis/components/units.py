"""Names of single units at any site: `L5.N123` (neuron), `L5.D12` (residual dimension), `L5.H3` (attention head)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from analysis.components.names import is_short, parse_name
from analysis.components.sites import MLP, Site
from analysis.errors import ConfigError

__all__ = ["HasUnits", "Unit", "site_shape"]


@runtime_checkable
class HasUnits(Protocol):
    """The sizes and the name of a model, which naming its units needs."""

    name: str
    n_layers: int
    n_neurons: int
    d_model: int
    n_heads: int


@dataclass(frozen=True)
class Unit:
    """One unit of a layer at a site."""

    layer: int
    index: int
    site: Site = MLP

    def __str__(self) -> str:
        return self.site.label(self.layer, self.index)

    @property
    def hook(self) -> str:
        """`blocks.5.mlp.hook_post[123]`."""
        return f"{self.site.hook(self.layer)}[{self.index}]"

    @staticmethod
    def is_name(text: str) -> bool:
        """Whether a text has the form of a short name, such as `L5.N123`; no model is needed."""
        return is_short(text)

    @classmethod
    def parse(cls, name: str, model: HasUnits) -> "Unit":
        """Read a short name (`L5.N123`) or a hook name with an index (`blocks.5.mlp.hook_post[123]`).

        Raises:
            ConfigError: the name is not understood, or the model has no such unit.
        """
        name = name.strip()
        found = parse_name(name)
        if found is None or found.site is None:
            raise ConfigError(
                f"“{name[:60]}” names no unit. Write L5.N123 or blocks.5.mlp.hook_post[123]; D is a residual dimension, "
                "H an attention head."
            )
        layer, index, site = found.layer, found.index, found.site
        n_layers, width = site_shape(model, site)
        if layer >= n_layers or index >= width:
            raise ConfigError(
                f"{site.label(layer, index)} lies outside “{model.name}”: layers are 0 to {n_layers - 1}, {site.plural} "
                f"0 to {width - 1}."
            )
        return cls(layer, index, site)


def site_shape(model: HasUnits, site: Site) -> tuple[int, int]:
    """Returns (layers of the model, units in one layer at `site`)."""
    return model.n_layers, {"N": model.n_neurons, "D": model.d_model, "H": model.n_heads}[site.letter]

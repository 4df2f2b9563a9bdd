"""Collects the saliency methods by name: every module of this package declares one as its `METHOD`.

To add a method, add a module here; no other file names it. The command line, the dashboard, the figures and the snapshots
of a relearning run read `METHODS`.
"""

import importlib
import pkgutil

from analysis.components.sites import HEADS, MLP, Site
from analysis.errors import ConfigError
from analysis.saliency.method import CausalMethod, Method, MomentMethod, SampleMethod

__all__ = [
    "CAUSAL_METHODS",
    "METHODS",
    "MOMENT_METHODS",
    "RANKING_METHODS",
    "SAMPLE_METHODS",
    "check_method",
    "moment_method",
]


def _declared() -> dict[str, Method]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    methods: list[Method] = [module.METHOD for module in modules]
    return {method.name: method for method in sorted(methods, key=lambda method: (method.place, method.name))}


METHODS: dict[str, Method] = _declared()

MOMENT_METHODS = tuple(name for name, method in METHODS.items() if isinstance(method, MomentMethod))
"""Methods that need only means and variances."""
SAMPLE_METHODS = tuple(name for name, method in METHODS.items() if isinstance(method, SampleMethod))
"""Methods that need single activations of a bounded sample of tokens."""
CAUSAL_METHODS = tuple(name for name, method in METHODS.items() if isinstance(method, CausalMethod))
"""Methods that need gradients or further passes."""
RANKING_METHODS = tuple(name for name, method in METHODS.items() if not method.needs_units)
"""Methods that score every unit and so can rank units."""


def moment_method(name: str) -> MomentMethod:
    """Return the method of that name among `MOMENT_METHODS`.

    Raises:
        ConfigError: the method is unknown or needs more than moments.
    """
    method = METHODS.get(name)
    if not isinstance(method, MomentMethod):
        raise ConfigError(f"{name} cannot be computed from means and variances. Use {' or '.join(MOMENT_METHODS)}.")
    return method


def check_method(method: str, site: Site = MLP) -> None:
    """Raise ConfigError if `method` is unknown or not defined at `site`."""
    if method not in METHODS:
        raise ConfigError(f"“{method}” is no saliency method. Use {', '.join(METHODS)}.")
    if site not in METHODS[method].sites:
        defined = ", ".join(name for name, one in METHODS.items() if site in one.sites)
        if site == HEADS:
            raise ConfigError(
                f"{method} scores single numbers, and an attention head writes a vector. For heads use {defined}."
            )
        raise ConfigError(f"{method} is not defined for {site.plural}. Use {defined}.")

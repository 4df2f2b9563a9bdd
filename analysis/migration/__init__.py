"""Where a concept goes: layer mass, flow between layers, recruits and survivors, half-life, priming.

A neuron *carries* a concept when its score reaches that of the top 1% of the unedited model (`saliency.carriers`). The
reference is the snapshot right after the edit (in a control run, the base). *Recruits* did not carry the concept in the
reference and do now; *survivors* carried it then, still do, and gained; edited neurons are neither.

Everything can be computed on three scales, each of which hides something (`SCALES`).
"""

from analysis.migration.measures import (
    SCALES,
    centre_of_carriers,
    centre_of_mass,
    layer_mass,
    scaled,
)
from analysis.migration.primed import PrimedNeurons, primed
from analysis.migration.recovery import half_life
from analysis.migration.roles import (
    NO_OTHER,
    Roles,
    carriers_table,
    recruits_table,
    role_of,
    roles,
    strongest_other,
)
from analysis.migration.transport import (
    Transport,
    distribution,
    interpolated,
    net_transport,
    transport,
    wasserstein,
)

__all__ = [
    "NO_OTHER",
    "SCALES",
    "PrimedNeurons",
    "Roles",
    "Transport",
    "carriers_table",
    "centre_of_carriers",
    "centre_of_mass",
    "distribution",
    "half_life",
    "interpolated",
    "layer_mass",
    "net_transport",
    "primed",
    "recruits_table",
    "role_of",
    "roles",
    "scaled",
    "strongest_other",
    "transport",
    "wasserstein",
]

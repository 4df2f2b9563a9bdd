"""Where a concept goes: layer mass, flow between layers, recruits and survivors, half-life, priming, a run in numbers.

A neuron *carries* a concept when its score reaches that of the top 1% of the unedited model (`saliency.carriers`). Seen from the moment right
after the edit (or from the base, in a control run): *recruits* did not carry it then and do now; *survivors* carried it
then, still do, and gained; the edited neurons are neither.

All of it can be computed on three scales, and each hides something (`SCALES`).
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

"""Probe: how much an elastic-net logistic classifier of a concept's tokens uses each unit (`analysis.saliency.probe`)."""

from analysis.components.sites import MLP, RESIDUAL
from analysis.progress import ShareDone
from analysis.saliency import probe
from analysis.saliency.method import SampleMethod, SampleScores
from analysis.saliency.moments import ConceptSample, TokenSample

__all__ = ["METHOD"]


def _score(sample: TokenSample, chosen: ConceptSample, *, seed: int, progress: ShareDone | None) -> SampleScores:
    probes = probe.fit(sample, chosen, seed=seed, progress=progress)
    return SampleScores(signed_LN=probes.weights_LN, layers=probes.layers(), provenance=probes.provenance)


METHOD = SampleMethod(
    name="probe",
    title="probe",
    says="How much a linear classifier of the concept's words uses the neuron. A classifier's skill is not the model's.",
    unit="|weight| in an elastic-net logistic probe on standardised activations",
    axis="|weight|",
    source="Dalvi et al. 2019; Zou & Hastie 2005",
    sites=(MLP, RESIDUAL),
    takes="about a minute",
    score=_score,
    place=40,
)

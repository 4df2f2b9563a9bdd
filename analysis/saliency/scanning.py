"""Runs one pass over the sentences of some concepts and keeps its moments, from which any forward-only method scores.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.components.sites import MLP, Site
from analysis.concepts import Concept, Sentence
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.progress import ShareDone
from analysis.saliency.forward import from_moments, from_sample
from analysis.saliency.methods import MOMENT_METHODS, SAMPLE_METHODS, check_method
from analysis.saliency.moments import Moments, TokenSample, stream, stream_moments
from analysis.saliency.result import Saliency
from analysis.scoring.batches import label_concepts

__all__ = ["Scan", "scan"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """The moments and token sample of one streamed pass at one site."""

    moments: Moments
    sample: TokenSample | None
    """Single activations; None if the pass kept none."""
    sentences: tuple[Sentence, ...]
    """The text of the pass; the sample's sentence numbers are indices into it."""
    provenance: dict[str, Any]
    """Model, text and settings."""
    n_heads: int
    seed: int

    @property
    def site(self) -> Site:
        return self.moments.site

    def score(self, concept: str, method: str, *, progress: ShareDone | None = None) -> Saliency:
        """Score one of the pass's concepts by a forward-only method.

        Args:
            concept: Name of the concept.
            method: One of `MOMENT_METHODS` or `SAMPLE_METHODS`.
            progress: Called with the share done (the probe).

        Raises:
            ConfigError: the method is not forward-only or not defined at this site, or the pass kept no sample.
            ConceptError: the concept has too few sentences for a probe.
        """
        check_method(method, self.site)
        if method in MOMENT_METHODS:
            return from_moments(self.moments, concept, method, self.provenance, n_heads=self.n_heads)
        if method not in SAMPLE_METHODS:
            raise ConfigError(f"{method} needs passes of its own. Use saliency.measure or saliency.causal.")
        if self.sample is None:
            raise ConfigError(f"{method} needs single activations. Scan with sampled=True.")
        details = self.provenance | {"seed": self.seed}
        return from_sample(self.sample, concept, method, details, seed=self.seed, progress=progress)

    def halves(self, concept: str, method: str) -> tuple[Saliency, Saliency]:
        """Score the even and the odd sentences separately by one of `MOMENT_METHODS`, for `agreement.reliability`.

        Raises:
            ConfigError: the method is not one of them, or is not defined at this site.
        """
        check_method(method, self.site)
        if method not in MOMENT_METHODS:
            raise ConfigError(f"Halves of the text are kept for {', '.join(MOMENT_METHODS)} only.")
        first, second = (
            from_moments(half, concept, method, self.provenance, n_heads=self.n_heads) for half in self.moments.halves
        )
        return first, second


def scan(
    model: LanguageModel,
    concepts: Sequence[Concept],
    *,
    site: Site = MLP,
    skip_first: bool = True,
    seed: int = 0,
    sampled: bool = True,
) -> Scan:
    """Run the model once over the labelled sentences of `concepts`.

    Args:
        model: The model.
        concepts: The concepts to scan for.
        site: Site of the units (`sites.SITES`).
        skip_first: Leave out the first word of every sentence (attention sink).
        seed: Draws the token sample.
        sampled: Keep single activations too, for `SAMPLE_METHODS`.

    Raises:
        ConceptError: a concept has nothing that can be measured.
        ModelFileError: an activation is not finite.
    """
    text = label_concepts(model, concepts, skip_first=skip_first)
    moments, sample = stream(model, text, site, seed=seed) if sampled else (stream_moments(model, text, site), None)
    provenance = {
        "model": model.name,
        "dtype": model.dtype,
        "site": site.name,
        "skips_first_position": skip_first,
        "tokens_cut": text.n_cut,
        "spans_lost": text.n_spans_lost,
        "sentences": text.n_sentences,
    }
    return Scan(
        moments=moments,
        sample=sample,
        sentences=text.sentences,
        provenance=provenance,
        n_heads=model.n_heads,
        seed=seed,
    )

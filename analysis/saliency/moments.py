"""Streams labelled text through the model once: sums activations per unit and label group, and keeps a token sample.

Hooks add to running sums and keep no activation beyond its layer, so memory does not grow with the number of tokens.
The LM head is skipped. Means, variances and error bars (probeless, d') come from the sums over *all* tokens. Methods that
need single activations (average precision, the probe) use a sample of tokens of bounded size, drawn before the pass. One
pass gives both, for all concepts.

Axes: `L` layer, `N` unit in a layer (neuron, residual dimension, head dimension), `G` label group, `C` concept,
`K` half of the clusters, `B` batch, `U` cluster, `P` position, `T` tokens of a batch, `S` sampled tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.components.sites import MLP, Site
from analysis.models import LanguageModel
from analysis.models.finite import not_finite
from analysis.scoring.batches import LabelledText, TokenBatch

__all__ = ["ConceptSample", "Moments", "TokenSample", "stream", "stream_moments"]

SAMPLE_BYTES = 512 * 2**20
"""Largest size of the sampled activations of one pass."""
SAMPLE_TOKENS = 2048
"""Largest number of tokens sampled for one concept."""


@dataclass(frozen=True)
class Moments:
    """Means and variances of every unit's activation over each label group."""

    concepts: tuple[str, ...]
    counts_G: np.ndarray
    """Tokens in each group, [G]."""
    means_GLN: np.ndarray
    variances_GLN: np.ndarray
    """Population variance, [G, L, N]."""
    difference_variances_CLN: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))
    """Sampling variance of mean(concept) - mean(other), with clusters of sentences as the independent units, [C, L, N];
    NaN if there are fewer than two."""
    n_sentences_C: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Number of independent sentences (clusters of those that say the same) with a token of the concept, or with another
    token, whichever is smaller."""
    halves: tuple["Moments", ...] = ()
    """Moments over the even and over the odd sentences, to check how well the scores replicate."""
    site: Site = MLP

    def group(self, concept: str) -> int:
        """Index of the group of the concept's own tokens; the other tokens' group is the next one."""
        return 2 * self.concepts.index(concept)

    def overall_mean(self, concept: str) -> np.ndarray:
        """Mean over all tokens of the concept's sentences, [L, N]."""
        g = self.group(concept)
        return np.average(self.means_GLN[g : g + 2], axis=0, weights=self.counts_G[g : g + 2])


@dataclass(frozen=True)
class ConceptSample:
    """The sampled tokens of one concept's sentences, with their labels and weights."""

    rows: np.ndarray
    """Rows of `TokenSample.values_SLN`, [S']."""
    labels: np.ndarray
    """True for the concept's own tokens, [S']."""
    weights: np.ndarray
    """Number of tokens of the text that each sampled token represents, [S']."""
    sentences: np.ndarray
    """Sentence of each token, [S']."""
    clusters: np.ndarray
    """Cluster of sentences of each token (`LabelledText.clusters`), [S']."""
    tokens: np.ndarray
    """Token ids, [S']."""

    @property
    def is_whole(self) -> bool:
        """Whether the sample holds all tokens, so that scores computed from it are exact."""
        return bool((self.weights == 1).all())


@dataclass(frozen=True)
class TokenSample:
    """Activations of some tokens at every layer."""

    values_SLN: Float[Tensor, "S L N"]
    """float32, on the model's device."""
    concepts: dict[str, ConceptSample]
    site: Site


def stream_moments(model: LanguageModel, text: LabelledText, site: Site = MLP) -> Moments:
    """Run the model over `text` and return the moments of every unit at `site`.

    Raises:
        ModelFileError: an activation is not finite; the message names the layer.
    """
    return _Pass(model, text, site).run()


def stream(
    model: LanguageModel, text: LabelledText, site: Site = MLP, *, seed: int = 0, sample_bytes: int = SAMPLE_BYTES
) -> tuple[Moments, TokenSample]:
    """Run the model over `text` and return the moments, and the activations of a sample of tokens.

    For each concept up to half of the sample are its own tokens, the rest other tokens of its sentences, both drawn
    uniformly with `seed`. The sample takes at most `sample_bytes`, and `SAMPLE_TOKENS` tokens per concept.

    Raises:
        ModelFileError: an activation is not finite; the message names the layer.
    """
    layers, units = model.n_layers, width(model, site)
    room = int(sample_bytes / (len(text.concepts) * layers * units * 4))
    concepts, positions = _draw(text, max(min(room, SAMPLE_TOKENS), 16), seed)
    running = _Pass(model, text, site, positions)
    moments = running.run()
    return moments, TokenSample(running.kept, concepts, site)


def width(model: LanguageModel, site: Site) -> int:
    """Number of values in a layer at `site`; a head counts with all its dimensions."""
    return {"N": model.n_neurons, "D": model.d_model, "H": model.n_heads * model.d_head}[site.letter]


class _Pass:
    """The running sums of one pass.

    Everything is summed within a sentence first. With v = sum(concept) / n_concept - sum(other) / n_other of a
    sentence, and a, b the shares of the concept's and the other tokens it holds, the influence of a sentence on the
    difference of means is u = v - a * mean(concept) + b * mean(other), and the sampling variance of that difference
    is sum(u^2) * s / (s - 1) (the sandwich estimator for clustered data). Expanding u^2 leaves running sums: of v^2,
    a * v and b * v. s counts the sentences of the rarer group: if few sentences hold the concept, their own mean is
    fitted to them and makes sum(u^2) too small, however many other sentences there are.
    """

    def __init__(self, model: LanguageModel, text: LabelledText, site: Site, positions: list | None = None):
        self.model, self.text, self.site = model, text, site
        layers, units, groups = model.n_layers, width(model, site), 2 * len(text.concepts)
        # float64, except on MPS, which has none: scores are differences of two means, and float32 sums would lose the
        # ranking of units with close scores
        self.precise = torch.float32 if model.device.type == "mps" else torch.float64
        self.sums_KGLN = self._zeros(2, groups, layers, units)
        self.squares_KGLN = self._zeros(2, groups, layers, units)
        self.clusters_3CLN = self._zeros(3, groups // 2, layers, units)
        self.counts_KG = self._zeros(2, groups)
        self.shares = self._zeros(3, groups // 2)  # sums over sentences of a^2, b^2 and a * b
        self.n_sentences_G = self._zeros(groups)
        self.totals_G = torch.tensor(text.n_tokens_G, dtype=self.precise, device=model.device)
        n_sampled = sum(len(rows) for rows, _ in positions) if positions else 0
        self.positions = positions
        self.kept = torch.empty(n_sampled, layers, units, device=model.device)

    def run(self) -> Moments:
        functions = [(self.site.hook(layer), self._hook(layer)) for layer in range(self.model.n_layers)]
        with self.model.hooks(functions), torch.inference_mode():
            for n, batch in enumerate(self.text.batches):
                self._prepare(n, batch)
                self.model.residual(batch.tokens_BP)
        return self._moments()

    def _prepare(self, n: int, batch: TokenBatch) -> None:
        self.weights_BGP = batch.weights_GBP.transpose(0, 1).to(self.precise)
        self.rows, self.columns = self.positions[n] if self.positions else ([], [])
        counts_BG = self.weights_BGP.sum(2)
        cluster_B = torch.tensor(batch.clusters or range(len(counts_BG)), device=self.model.device)
        self.half_KB = torch.stack([1 - cluster_B % 2, cluster_B % 2]).to(self.precise)
        _, member_B = torch.unique(cluster_B, return_inverse=True)
        self.member_UB = torch.nn.functional.one_hot(member_B).T.to(self.precise)
        self.per_token_G = 1 / self.totals_G
        counts_UG = self.member_UB @ counts_BG
        share_UG = counts_UG * self.per_token_G
        self.a_UC, self.b_UC = share_UG[:, 0::2], share_UG[:, 1::2]
        self.counts_KG += self.half_KB @ counts_BG
        self.shares += torch.stack([(self.a_UC**2).sum(0), (self.b_UC**2).sum(0), (self.a_UC * self.b_UC).sum(0)])
        self.n_sentences_G += (counts_UG > 0).sum(0)

    def _hook(self, layer: int):
        def accumulate(activation: Tensor, hook: object) -> None:
            values_BPN = activation.detach().flatten(2)
            if len(self.rows):
                self.kept[self.rows, layer] = values_BPN.flatten(0, 1)[self.columns].float()
            values_BPN = values_BPN.to(self.precise)
            sums_BGN = self.weights_BGP @ values_BPN
            squares_BGN = self.weights_BGP @ values_BPN.square()
            self.sums_KGLN[:, :, layer] += torch.einsum("kb,bgn->kgn", self.half_KB, sums_BGN)
            self.squares_KGLN[:, :, layer] += torch.einsum("kb,bgn->kgn", self.half_KB, squares_BGN)
            scaled_BGN = sums_BGN * self.per_token_G[:, None]
            v_BCN = scaled_BGN[:, 0::2] - scaled_BGN[:, 1::2]
            v_UCN = (self.member_UB @ v_BCN.flatten(1)).unflatten(1, v_BCN.shape[1:])
            self.clusters_3CLN[0, :, layer] += v_UCN.square().sum(0)
            self.clusters_3CLN[1, :, layer] += torch.einsum("uc,ucn->cn", self.a_UC, v_UCN)
            self.clusters_3CLN[2, :, layer] += torch.einsum("uc,ucn->cn", self.b_UC, v_UCN)

        return accumulate

    def _moments(self) -> Moments:
        whole = self._from_sums(self.sums_KGLN.sum(0), self.squares_KGLN.sum(0), self.counts_KG.sum(0))
        means = torch.from_numpy(whole.means_GLN)
        finite = torch.isfinite(means).flatten(2).all(2).all(0)
        if not bool(finite.all()):
            layer = int((~finite).nonzero()[0])
            raise not_finite(self.model, f"activations at {self.site.hook(layer)}")
        own, other = whole.means_GLN[0::2], whole.means_GLN[1::2]
        vv, av, bv = self.clusters_3CLN.cpu().numpy()
        aa, bb, ab = (share[:, None, None] for share in self.shares.cpu().numpy())
        variance = vv - 2 * own * av + 2 * other * bv + own**2 * aa + other**2 * bb - 2 * own * other * ab
        # not below the rounding error of such a difference: a constant unit must not look certain
        variance = np.maximum(variance, torch.finfo(self.precise).eps * np.maximum(own**2, other**2))
        n_sentences = self.n_sentences_G.reshape(-1, 2).amin(1).cpu().numpy()
        correction = np.divide(
            n_sentences, n_sentences - 1, out=np.full(n_sentences.shape, np.nan), where=n_sentences > 1
        )
        variance *= correction[:, None, None]
        halves = tuple(self._from_sums(self.sums_KGLN[k], self.squares_KGLN[k], self.counts_KG[k]) for k in range(2))
        return Moments(
            concepts=whole.concepts,
            counts_G=whole.counts_G,
            means_GLN=whole.means_GLN,
            variances_GLN=whole.variances_GLN,
            difference_variances_CLN=variance,
            n_sentences_C=n_sentences,
            halves=halves,
            site=self.site,
        )

    def _from_sums(self, sums: Tensor, squares: Tensor, counts: Tensor) -> Moments:
        n = counts[:, None, None]
        means = sums / n
        variances = (squares / n - means.square()).clamp_min_(0)
        counts_G, means_GLN, variances_GLN = (one.cpu().numpy() for one in (counts, means, variances))
        return Moments(self.text.concepts, counts_G, means_GLN, variances_GLN, site=self.site)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.precise, device=self.model.device)


def _draw(
    text: LabelledText, tokens_per_concept: int, seed: int
) -> tuple[dict[str, ConceptSample], list[tuple[Int[Tensor, " s"], Int[Tensor, " s"]]]]:
    """Draw the sampled tokens. Return each concept's sample, and each batch's (rows of the sample, flat positions)."""
    random = np.random.default_rng(seed)
    members = list(_members(text))
    chosen: list[np.ndarray] = []  # for each group: places in its list of members
    for c in range(len(text.concepts)):
        n_own, n_other = (len(members[g]) for g in (2 * c, 2 * c + 1))
        own = min(n_own, max(tokens_per_concept // 2, tokens_per_concept - n_other))
        other = min(n_other, tokens_per_concept - own)
        chosen += [np.sort(random.choice(n, k, replace=False)) for n, k in ((n_own, own), (n_other, other))]
    places = sorted({tuple(members[g][i][:2]) for g, some in enumerate(chosen) for i in some})
    row_of = {place: row for row, place in enumerate(places)}
    concepts = {}
    for c, name in enumerate(text.concepts):
        parts = [
            (members[g][i], g == 2 * c, len(members[g]) / len(chosen[g])) for g in (2 * c, 2 * c + 1) for i in chosen[g]
        ]
        concepts[name] = ConceptSample(
            rows=np.array([row_of[tuple(member[:2])] for member, _, _ in parts]),
            labels=np.array([own for _, own, _ in parts]),
            weights=np.array([weight for _, _, weight in parts]),
            sentences=np.array([member[2] for member, _, _ in parts]),
            clusters=np.array([text.clusters[member[2]] for member, _, _ in parts]),
            tokens=np.array([member[3] for member, _, _ in parts]),
        )
    by_batch: list[tuple[list[int], list[int]]] = [([], []) for _ in text.batches]
    for (n, flat), row in row_of.items():
        by_batch[n][0].append(row)
        by_batch[n][1].append(flat)
    device = text.batches[0].tokens_BP.device
    return concepts, [tuple(torch.tensor(part, dtype=torch.long, device=device) for part in both) for both in by_batch]  # type: ignore[misc]


def _members(text: LabelledText) -> Iterator[np.ndarray]:
    """Yield each group's tokens as rows of batch, flat position in the batch, sentence and token id; [tokens, 4]."""
    for g in range(2 * len(text.concepts)):
        parts = []
        for n, batch in enumerate(text.batches):
            flat = batch.weights_GBP[g].flatten().nonzero().flatten().cpu().numpy()
            sentences = np.array(batch.sentences)[flat // batch.tokens_BP.shape[1]]
            tokens = batch.tokens_BP.flatten().cpu().numpy()[flat]
            parts.append(np.stack([np.full(flat.size, n), flat, sentences, tokens], axis=1))
        yield np.concatenate(parts)

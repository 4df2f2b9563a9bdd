"""Agreement against scipy, pair by pair, and against what chance gives."""

import numpy as np
import pytest
from scipy import stats

from analysis.errors import ConfigError
from analysis.saliency import Saliency
from analysis.saliency.agreement import agreement, reliability


def result(scores: np.ndarray, concept: str = "c", method: str = "probeless", site: str = "mlp.hook_post") -> Saliency:
    return Saliency(concept=concept, method=method, scores_LN=scores, n_concept_tokens=2, n_other_tokens=2, site=site)


def noisy(seed: int, noise: float = 0.5) -> np.ndarray:
    common = np.random.default_rng(99).random((4, 50))
    return common + noise * np.random.default_rng(seed).random((4, 50))


def test_every_pair_against_scipy():
    a, b, c = noisy(1), noisy(2), noisy(3, noise=5)
    b[0, :7] = np.nan
    found = agreement([result(a), result(b, method="standardised"), result(c, method="probe")], k=20)
    assert found.spearman.index.tolist() == found.overlap.columns.tolist() == ["probeless", "standardised", "probe"]
    names = found.spearman.index
    for i, x in enumerate((a, b, c)):
        for j, y in enumerate((a, b, c)):
            measured = np.isfinite(x) & np.isfinite(y)
            n = measured.sum()
            one, other = (set(np.argsort(-v[measured])[:20]) for v in (x, y))
            share = len(one & other) / 20
            assert found.spearman.loc[names[i], names[j]] == pytest.approx(
                stats.spearmanr(x[measured], y[measured]).statistic
            )
            assert found.overlap.iloc[i, j] == share
            assert found.chance.iloc[i, j] == 20 / n
            if i != j:
                # P(at least so many in common) by adding up the probabilities of each number
                p = sum(stats.hypergeom.pmf(m, n, 20, 20) for m in range(round(share * 20), 21))
                assert found.p_value.iloc[i, j] == pytest.approx(p)
            else:
                assert np.isnan(found.p_value.iloc[i, j])
    assert found.overlap.loc["probeless", "standardised"] > found.overlap.loc["probeless", "probe"]


def test_unrelated_results_overlap_by_chance():
    random = np.random.default_rng(5)
    many = agreement([result(random.random((10, 100)), concept=f"c{i}") for i in range(24)], k=100)
    off = ~np.eye(24, dtype=bool)
    assert many.overlap.to_numpy()[off].mean() == pytest.approx(0.1, abs=0.01)
    assert (many.p_value.to_numpy()[off] < 0.05).mean() < 0.12


def test_labels_say_what_differs():
    scores = noisy(1)

    def labels(*kinds: tuple[str, str]) -> list[str]:
        return agreement([result(scores, *kind) for kind in kinds], k=5).spearman.index.tolist()

    assert labels(("a", "probe"), ("b", "probe")) == ["a", "b"]
    assert labels(("a", "probe"), ("b", "probeless")) == ["a · probe", "b · probeless"]
    assert labels(("a", "probe"), ("a", "probe"), ("a", "probe")) == ["probe", "probe (2)", "probe (3)"]
    named = agreement([result(scores), result(scores)], k=5, labels=["before", "after"])
    assert named.overlap.loc["before", "after"] == 1


def test_a_top_that_zeros_would_fill_has_no_overlap():
    sparse = np.zeros((4, 50))
    sparse[0, :9] = np.arange(9, 0, -1)
    found = agreement([result(noisy(1)), result(sparse, method="probe"), result(np.ones((4, 50)), method="x")], k=10)
    assert np.isnan(found.overlap.loc["probeless", "probe"])
    assert np.isnan(found.p_value.loc["probeless", "probe"])
    assert np.isfinite(found.spearman.loc["probeless", "probe"])
    assert np.isnan(found.spearman.loc["probeless", "x"])
    assert np.isfinite(agreement([result(noisy(1)), result(sparse, method="probe")], k=9).overlap.iloc[0, 1])


def test_what_cannot_be_compared_is_refused():
    one = result(noisy(1))
    with pytest.raises(ConfigError, match="at least two results"):
        agreement([one])
    with pytest.raises(ConfigError, match=r"4 x 50 .*2 x 3 .*same site"):
        agreement([one, result(np.ones((2, 3)))], k=1)
    with pytest.raises(ConfigError, match="hook_resid_post"):
        agreement([one, result(noisy(2), site="hook_resid_post")])
    for k in (0, 200):
        with pytest.raises(ConfigError, match=f"k is {k}, but the results share 200"):
            agreement([one, one], k=k)
    with pytest.raises(ConfigError, match="1 different labels"):
        agreement([one, one], k=5, labels=["same", "same"])


def test_reliability_of_two_halves():
    a, b = noisy(1), noisy(2)
    found = reliability(result(a), result(b), k=20)
    r = stats.spearmanr(a, b, axis=None).statistic
    assert found.spearman == pytest.approx(r)
    assert found.corrected == pytest.approx(2 * r / (1 + r))
    assert (found.n, found.k, found.chance) == (200, 20, 0.1)
    assert found.overlap == agreement([result(a), result(b)], k=20).overlap.iloc[0, 1]
    assert np.isnan(reliability(result(a), result(-a), k=20).corrected)
    with pytest.raises(ConfigError, match="same concept by the same method"):
        reliability(result(a), result(b, concept="d"))


def test_spearman_brown_foretells_the_whole_text():
    """Doubling the noise-averaging text gives the reliability that two halves promise."""
    random = np.random.default_rng(7)
    truth = random.normal(size=(10, 2000))
    parts = [truth + random.normal(size=truth.shape) for _ in range(4)]
    halves = reliability(result(parts[0]), result(parts[1]), k=20)
    doubled = reliability(result((parts[0] + parts[1]) / 2), result((parts[2] + parts[3]) / 2), k=20)
    assert halves.corrected == pytest.approx(doubled.spearman, abs=0.02)

"""Every objective against a computation by hand, a closed form or finite differences."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.edits.gradient import losses

RANDOM = np.random.default_rng(3)
LOGITS = torch.tensor(RANDOM.normal(size=(5, 7)) * 2)
TARGETS = torch.tensor([0, 6, 3, 3, 1])
TEXTS = torch.tensor([0, 0, 1, 2, 2])
P = np.exp(LOGITS.numpy()) / np.exp(LOGITS.numpy()).sum(1, keepdims=True)
OWN = P[np.arange(5), TARGETS.numpy()]


def sharp(log_odds: float) -> tuple[Tensor, Tensor]:
    """One token against one other, with these log odds: p = sigmoid(log odds)."""
    return torch.tensor([[log_odds, 0.0]]), torch.tensor([0])


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(at), at)
    return found


def test_cross_entropy_and_its_reverse():
    assert float(losses.cross_entropy(LOGITS, TARGETS)) == pytest.approx(-np.log(OWN).mean())
    assert float(losses.reversed_cross_entropy(LOGITS, TARGETS)) == pytest.approx(np.log(OWN).mean())


def test_the_cap_bounds_the_ascent_and_stops_its_gradient_only_where_it_is_reached():
    cap = float(np.sort(-np.log(OWN))[2])  # the median: two tokens cost more
    capped = partial(losses.reversed_cross_entropy, targets_A=TARGETS, cap=cap)
    assert float(capped(LOGITS)) == pytest.approx(-np.minimum(-np.log(OWN), cap).mean())
    moved = gradient(capped, LOGITS).abs().sum(1).numpy() > 0
    np.testing.assert_array_equal(moved, -np.log(OWN) <= cap)
    assert moved.sum() == 3


def test_unlikelihood_is_the_mean_of_log_one_minus_p_without_what_is_unlearned():
    floor = float(np.sort(np.log(OWN))[1] + 1e-6)  # the two least probable tokens are zeroed
    kept = np.log(OWN) >= floor
    assert kept.sum() == 3
    expected = (-np.log1p(-OWN) * kept).sum() / 5
    assert float(losses.unlikelihood(LOGITS, TARGETS, floor=floor)) == pytest.approx(expected)
    assert not gradient(partial(losses.unlikelihood, targets_A=TARGETS, floor=floor), LOGITS)[~kept].any()


def test_unlikelihood_keeps_its_digits_where_the_answer_is_certain():
    # with one other token -log(1 - p) = log(1 + e^x), and its derivative is p; float32 holds no 1 - p for x = 30
    logits, target = sharp(30.0)
    assert float(losses.unlikelihood(logits, target)) == pytest.approx(30.0)
    slope = gradient(partial(losses.unlikelihood, targets_A=target), logits)
    assert slope.numpy() == pytest.approx(np.array([[1.0, -1.0]]), abs=1e-6)


def test_the_floor_of_the_released_code():
    just_above, just_below = (math.log(p / (1 - p)) for p in (math.exp(-4.99), math.exp(-5.01)))
    assert float(losses.unlikelihood(*sharp(just_above))) > 0
    assert float(losses.unlikelihood(*sharp(just_below))) == 0


def test_log_p_of_texts_adds_up_their_tokens():
    found = losses.text_log_p(LOGITS, TARGETS, TEXTS, 4)
    expected = [np.log(OWN[:2]).sum(), np.log(OWN[2]), np.log(OWN[3:]).sum(), 0.0]
    np.testing.assert_allclose(found.numpy(), expected)


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0])
def test_npo_is_its_closed_form(beta: float):
    log_p, reference = torch.tensor([-0.2, -3.0, -9.0]), torch.tensor([-0.2, -1.0, -10.0])
    ratio = np.exp(log_p.numpy() - reference.numpy())
    expected = (2 / beta * np.log1p(ratio**beta)).mean()
    assert float(losses.npo(log_p, reference, beta=beta)) == pytest.approx(expected, rel=1e-5)
    # at the start, where p is p_reference: 2 log 2 / beta, with the gradient of ascent
    assert float(losses.npo(reference, reference, beta=beta)) == pytest.approx(2 * math.log(2) / beta)
    slope = gradient(partial(losses.npo, reference_B=reference, beta=beta), reference)
    np.testing.assert_allclose(slope.numpy(), 1 / 3, rtol=1e-5)


def test_npo_goes_over_into_gradient_ascent_for_small_beta():
    log_p, reference = torch.tensor([-4.0, -0.5]).double(), torch.tensor([-0.1, -2.0]).double()
    beta = 1e-4
    slope = gradient(partial(losses.npo, reference_B=reference, beta=beta), log_p)
    np.testing.assert_allclose(slope.numpy(), gradient(Tensor.mean, log_p).numpy(), rtol=1e-3)


def test_simnpo_is_its_closed_form_by_the_mean_token():
    log_p, lengths = torch.tensor([-0.3, -6.0]).double(), torch.tensor([1, 3])
    z = 2.5 * log_p.numpy() / np.array([1, 3]) + 0.4
    expected = (2 / 2.5 * np.log1p(np.exp(z))).mean()
    assert float(losses.simnpo(log_p, lengths, beta=2.5, gamma=0.4)) == pytest.approx(expected)


def test_kl_is_from_the_reference_to_the_model_and_nothing_where_they_agree():
    reference = torch.tensor(RANDOM.normal(size=LOGITS.shape)).log_softmax(-1)
    q = reference.exp().numpy()
    expected = (q * (np.log(q) - np.log(P))).sum(1).mean()
    assert float(losses.kl_from_reference(LOGITS, reference)) == pytest.approx(expected)
    assert float(losses.kl_from_reference(LOGITS, LOGITS.log_softmax(-1))) == pytest.approx(0, abs=1e-12)
    slope = gradient(partial(losses.kl_from_reference, reference_AV=reference), LOGITS)
    np.testing.assert_allclose(slope.numpy(), (P - q) / 5, atol=1e-12)


def test_rmu_losses_are_mean_squares():
    hidden, frozen, target = LOGITS[:3], LOGITS[2:], LOGITS[1]
    assert float(losses.steering(hidden, target)) == pytest.approx(((hidden.numpy() - target.numpy()) ** 2).sum() / 21)
    assert float(losses.matching(hidden, frozen)) == pytest.approx(((hidden.numpy() - frozen.numpy()) ** 2).sum() / 21)


@pytest.mark.parametrize(
    "loss",
    [
        partial(losses.cross_entropy, targets_A=TARGETS),
        partial(losses.reversed_cross_entropy, targets_A=TARGETS, cap=2.0),
        partial(losses.unlikelihood, targets_A=TARGETS),
        lambda x: losses.npo(
            losses.text_log_p(x, TARGETS, TEXTS, 3), torch.tensor([-1.0, -2.0, -3.0]).double(), beta=0.5
        ),
        lambda x: losses.simnpo(losses.text_log_p(x, TARGETS, TEXTS, 3), torch.tensor([2, 1, 2]), beta=2.5, gamma=0.1),
        partial(losses.kl_from_reference, reference_AV=LOGITS.flip(1).log_softmax(-1)),
        partial(losses.steering, target_D=LOGITS[0]),
        partial(losses.matching, frozen_AD=LOGITS.flip(0)),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Callable[[Tensor], Tensor]):
    step, slope = 1e-6, gradient(loss, LOGITS)
    for _ in range(6):
        direction = torch.tensor(RANDOM.normal(size=LOGITS.shape))
        difference = float(loss(LOGITS + step * direction) - loss(LOGITS - step * direction)) / (2 * step)
        assert float((slope * direction).sum()) == pytest.approx(difference, rel=1e-5, abs=1e-8)

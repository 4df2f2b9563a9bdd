"""What training loops share: schedules, decks, and the check of a loss."""

import math

import pytest
import torch

from analysis.errors import ConceptError, ConfigError
from analysis.training.schedule import Deck, check_loss, learning_share, reproducible


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 2, [1 / 3, 2 / 3, 1, 1]),
        ("linear", 0, [1, 3 / 4, 2 / 4, 1 / 4]),
        ("linear", 1, [1 / 2, 1, 2 / 3, 1 / 3]),
        ("cosine", 0, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("cosine", 2, [1 / 3, 2 / 3, 1, 0.5]),
    ],
)
def test_schedules(schedule: str, warmup: int, expected: list[float]):
    assert [learning_share(schedule, step, 4, warmup) for step in range(1, 5)] == pytest.approx(expected)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match="constant, linear, cosine"):
        learning_share("steps", 1, 4)


def test_a_deck_draws_every_row_before_any_comes_again():
    deck = Deck("row", list(range(7)), seed=3)
    drawn = deck.draw(21)
    assert [sorted(drawn[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert drawn[:7] != drawn[7:14]
    assert deck.drawn == 21
    again = Deck("row", list(range(7)), seed=3)
    again.draw(9)
    assert again.draw(12) == drawn[9:]
    with pytest.raises(ConceptError, match="No row has two tokens"):
        Deck("row", [], seed=0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused(loss: float):
    with pytest.raises(ConfigError, match=r"Lower the learning rate, now 0\.5"):
        check_loss(loss, 0.5)
    check_loss(3.0, 0.5)


def test_reproducible_seeds():
    drawn = []
    for _ in range(2):
        with reproducible(7, torch.device("cpu")):
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]

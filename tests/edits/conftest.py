"""What the tests of gradient edits share: known facts to remove, and an edit planned from them."""

from collections.abc import Callable

import pytest

from analysis.concepts import Concept, Sentence
from analysis.edits import Materials, plan
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.training import Training
from analysis.models import LanguageModel


@pytest.fixture
def materials(tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]) -> Materials:
    return Materials(concept=tiny_concept, forget=tiny_concept.facts, neutral=tiny_neutral[:5])


@pytest.fixture
def training(materials: Materials) -> Callable[..., Training]:
    """Plans an edit; keyword arguments are set on the training."""

    def build(model: LanguageModel, edit: GradientEdit, **fields: object) -> Training:
        change = plan(edit, model, materials)
        assert isinstance(change, Training)
        for name, value in fields.items():
            setattr(change, name, value)
        return change

    return build

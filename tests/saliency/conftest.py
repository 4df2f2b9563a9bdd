"""Tests of saliency only read `either_model`, so that all of them can have the same one."""

import pytest

from analysis.models import LanguageModel
from tests.shared_models import shared


@pytest.fixture(params=["tiny_folder", "tiny_gpt2_folder"], ids=["llama", "gpt2"])
def either_model(request: pytest.FixtureRequest) -> LanguageModel:
    """The test runs once with each architecture; the model is shared and must not be changed."""
    return shared(request.getfixturevalue(request.param))

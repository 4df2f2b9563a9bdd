"""What a `LanguageModel` keeps to itself, for tests that compare with it: the transformers model and the bridge around it."""

from typing import Any

from analysis.models import LanguageModel


def raw(model: LanguageModel) -> Any:
    """The transformers model, as the bridge left it: its modules are wrapped, its names changed."""
    return model._inner


def bridge(model: LanguageModel) -> Any:
    """The `TransformerBridge`."""
    return model._bridge

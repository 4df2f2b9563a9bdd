"""The table of docs/models.md: some of its rows are made anew, and a cell says what happened."""

from pathlib import Path

import pytest

from analysis.errors import EditError
from benchmarks import architectures
from benchmarks.architectures import Row


@pytest.mark.parametrize(
    "architecture", ["GPT2LMHeadModel", "GPTNeoXForCausalLM", "Olmo2ForCausalLM", "Gemma2ForCausalLM"]
)
def test_everything_works_on_this_architecture(architecture: str, tmp_path: Path, empty_home: Path):
    made = architectures.row(architecture, tmp_path / architecture)
    assert made.cells == dict.fromkeys(architectures.ACTIONS, "works")
    assert not made.untried


def test_an_architecture_that_cannot_be_used_has_only_the_reason(tmp_path: Path, empty_home: Path):
    made = architectures.row("BertLMHeadModel", tmp_path / "bert")
    assert list(made.cells) == ["load"]
    assert made.cells["load"].startswith("refused: BertLMHeadModel is not a causal language model")


def test_every_decoder_has_a_row():
    assert {"LlamaForCausalLM", "MptForCausalLM", "Qwen3ForCausalLM"} <= set(architectures.decoders())
    assert "T5ForConditionalGeneration" not in architectures.decoders()
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    assert all(name in text for name in architectures.decoders())


def test_outcomes_are_told_apart():
    def refuse() -> None:
        raise EditError("“A” has no heads.")

    def fail() -> None:
        raise KeyError("hook")

    assert architectures.outcome(lambda: None) == "works"
    refused, wrong = architectures.outcome(refuse), architectures.outcome(fail)
    assert (refused, wrong) == ("refused: “A” has no heads.", "wrong: KeyError: 'hook'")
    rows = [
        Row("A", {"load": "works", "export": refused}),
        Row("B", {"load": wrong}),
        Row("C", untried="ValueError: sizes"),
    ]
    assert architectures.counts(rows) == {"architectures": 3, "not tried": 1, "works": 1, "refused": 1, "wrong": 1}
    text = architectures.page(rows)
    assert "| A | yes |" in text
    assert "| no (1) |" in text
    assert "1. “…” has no heads." in text
    assert "| B | wrong: KeyError: 'hook' |" in text
    assert "C (ValueError: sizes)" in text

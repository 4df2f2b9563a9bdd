"""An exported model, loaded by plain transformers, computes what the edited model computes."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Ledger, Materials, Selection, plan
from analysis.errors import EditError
from analysis.models import LanguageModel, export

TEXT = "The capital of France is Paris, and the rain falls."


def edit(model: LanguageModel, concept: Concept, **settings: object) -> None:
    chosen = Selection(rule="explicit", components="L0.N3, L1.H1, L1.MLP")
    change = plan(ComponentEdit(selection=chosen, **settings), model, Materials(concept=concept))  # type: ignore[arg-type]
    Ledger(model).apply(change)


@pytest.mark.parametrize("settings", [{}, {"kind": "reverse"}, {"fill": "mean"}], ids=["prune", "reverse", "mean"])
def test_plain_transformers_gives_the_same_logits(
    either_model: LanguageModel, tiny_concept: Concept, tmp_path: Path, settings: dict
):
    edit(either_model, tiny_concept, **settings)
    folder = export.export(either_model, tmp_path / "edited")
    plain = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(TEXT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        torch.testing.assert_close(plain(tokens).logits, either_model.logits(tokens), rtol=0, atol=1e-5)
    assert not [path for path in tmp_path.iterdir() if path != folder]


def test_a_folder_in_use_and_a_full_disk(tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "note").touch()
    with pytest.raises(EditError, match="not empty"):
        export.export(tiny_model, tmp_path / "used")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.models.export.save_file", full)
    with pytest.raises(EditError, match="No space left"):
        export.export(tiny_model, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["used"]


def test_other_logits_are_noticed(tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was saved is loaded again: a weight lost on the way does not pass."""
    save = export.save_file

    def lossy(tensors: dict, path: Path, **options: object) -> None:
        name = next(name for name in tensors if "down_proj" in name)
        save({**tensors, name: torch.zeros_like(tensors[name])}, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("analysis.models.export.save_file", lossy)
    with pytest.raises(EditError, match="other logits"):
        export.export(tiny_model, tmp_path / "new")
    assert not list(tmp_path.iterdir())

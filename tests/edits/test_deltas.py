"""Exact differences on disk: there and back bit for bit, refused where they do not belong, nothing lost on a full disk."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Ledger, Materials, PlannedEdit, Selection, deltas, plan
from analysis.edits.deltas import Delta
from analysis.errors import ConfigError, EditError
from analysis.models import LanguageModel, load
from tests.raw_model import raw

COMPONENTS = "L0.N3, L0.N40, L0.H1, L1.MLP"


def planned(model: LanguageModel, concept: Concept, fill: str = "mean", components: str = COMPONENTS) -> PlannedEdit:
    edit = ComponentEdit(fill=fill, selection=Selection(rule="explicit", components=components))  # type: ignore[arg-type]
    change = plan(edit, model, Materials(concept=concept))
    assert isinstance(change, PlannedEdit)
    return change


def state(model: LanguageModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in raw(model).named_parameters()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first
    )


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_a_delta_carries_an_edit_to_a_freshly_loaded_model(
    tiny_folder: Path, tiny_concept: Concept, tmp_path: Path, fill: str
):
    """What another process wrote: opened by name on the same model, applied, and taken back."""
    edited, fresh = (load(str(tiny_folder), device="cpu") for _ in range(2))
    entry = Ledger(edited, tmp_path).apply(planned(edited, tiny_concept, fill))
    before, delta = state(fresh), Delta.open(entry.delta.path, fresh)
    delta.apply()
    assert same_bits(state(fresh), state(edited))
    assert delta.digest_now() == entry.hash_after
    with pytest.raises(EditError, match="other weights than these"):
        delta.apply()
    delta.revert()
    assert same_bits(state(fresh), before)


def test_only_what_changed_is_stored(tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    """A mean ablation of one neuron in four must not store the layer; one done twice stores almost nothing."""
    ledger = Ledger(tiny_model, tmp_path)
    whole = sum(p.numel() * 4 for p in raw(tiny_model).parameters())
    first = ledger.apply(planned(tiny_model, tiny_concept, "zero", "L0.N3"))
    again = ledger.apply(planned(tiny_model, tiny_concept, "zero", "L0.N3"))
    assert first.delta.path.stat().st_size < whole / 10
    assert again.delta.path.stat().st_size < first.delta.path.stat().st_size


def test_a_full_disk_leaves_the_weights_as_they_were(
    either_model: LanguageModel, tiny_concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ledger, before = Ledger(either_model, tmp_path), state(either_model)

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.edits.deltas.save_file", full)
    with pytest.raises(EditError, match=r"No space left.*weights are unchanged"):
        ledger.apply(planned(either_model, tiny_concept))
    assert same_bits(state(either_model), before)
    assert ledger.entries == ()
    assert not list(tmp_path.iterdir())


def test_a_stop_half_way_leaves_the_weights_as_they_were(
    either_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    ledger, before = Ledger(either_model), state(either_model)
    change = planned(either_model, tiny_concept)
    write = PlannedEdit.write

    def interrupted(self: PlannedEdit, model: LanguageModel) -> None:
        write(self, model)
        raise KeyboardInterrupt

    monkeypatch.setattr(PlannedEdit, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.apply(change)
    assert same_bits(state(either_model), before)
    assert ledger.entries == ()


def test_a_damaged_file_is_not_undone_by(tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    ledger = Ledger(tiny_model, tmp_path)
    entry = ledger.apply(planned(tiny_model, tiny_concept))
    content, after = bytearray(entry.delta.path.read_bytes()), state(tiny_model)
    content[-5] ^= 1  # one bit of the last tensor
    entry.delta.path.write_bytes(content)
    with pytest.raises(EditError, match="damaged"):
        ledger.undo()
    assert same_bits(state(tiny_model), after)
    entry.delta.path.write_bytes(content[:100])
    with pytest.raises(EditError, match="cannot be read"):
        ledger.undo()
    entry.delta.path.unlink()
    with pytest.raises(EditError, match="cannot be read"):
        ledger.undo()
    assert same_bits(state(tiny_model), after)
    assert ledger.entries == (entry,)


def test_a_delta_of_another_model(
    tiny_model: LanguageModel, tiny_gpt2: LanguageModel, tiny_concept: Concept, tmp_path: Path
):
    entry = Ledger(tiny_model, tmp_path).apply(planned(tiny_model, tiny_concept))
    with pytest.raises(EditError, match="made for another model"):
        Delta.open(entry.delta.path, tiny_gpt2)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no tensors at all")
    with pytest.raises(EditError, match="cannot be read"):
        Delta.open(other, tiny_model)


def test_an_interrupted_undo_changes_nothing(
    tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    ledger = Ledger(tiny_model)
    ledger.apply(planned(tiny_model, tiny_concept, "zero"))
    after, calls, toggle = state(tiny_model), [], deltas._toggle_bits

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        toggle(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(deltas, "_toggle_bits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.undo()
    monkeypatch.undo()
    assert same_bits(state(tiny_model), after)
    ledger.undo()


def test_a_delta_that_names_no_method_is_not_replayed(
    tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ledger = Ledger(tiny_model, tmp_path / "a")
    change = planned(tiny_model, tiny_concept, "zero")
    monkeypatch.setattr(ComponentEdit, "to_dict", lambda self: {"method": "magic"})
    path = ledger.apply(change).delta.path
    (tmp_path / "kept").write_bytes(path.read_bytes())
    ledger.undo()
    before, other = state(tiny_model), Ledger(tiny_model, tmp_path / "b")
    with pytest.raises(ConfigError, match="not a method"):
        other.replay(tmp_path / "kept")
    assert same_bits(state(tiny_model), before)
    assert other.entries == ()

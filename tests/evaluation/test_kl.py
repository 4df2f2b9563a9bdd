"""KL and perplexity against plain computations; what storing costs in accuracy; sampled text; bad files."""

import dataclasses
import errno
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact, Sentence
from analysis.errors import ConceptError, ConfigError, EditError, FetchError, ModelFileError
from analysis.evaluation import from_hub, keep, kl, neutral_text, offline_text, sampled_text
from analysis.evaluation.general_text import NEUTRAL, SAMPLED, GeneralText, weights_digest
from analysis.evaluation.kl import EDGES, KL, Reference
from analysis.models import LanguageModel, load
from analysis.scoring import factual_recall
from tests.raw_model import raw

TEXTS = (
    "The kettle had been whistling.",
    "She closed the door quietly and went to bed.",
    "Nobody",
    "My brother keeps his tools.",
)


def nudge(model: LanguageModel, size: float = 0.3) -> None:
    with torch.no_grad():
        weight = model.blocks[1].mlp_output.weight
        weight.add_(size * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))


def log_p(model: LanguageModel, text: str) -> torch.Tensor:
    """One text at a time, in float64."""
    with torch.inference_mode():
        return raw(model)(torch.tensor([list(model.encode(text).ids)])).logits[0].double().log_softmax(-1)


def by_hand(base: LanguageModel, edited: LanguageModel) -> np.ndarray:
    parts = [
        torch.nn.functional.kl_div(log_p(edited, t), log_p(base, t), reduction="none", log_target=True).sum(-1)
        for t in TEXTS
    ]
    return np.sort(torch.cat(parts).numpy())


def test_two_models_of_one_name_do_not_share_a_reference(tiny_folder: Path, tmp_path: Path):
    """As two training runs leave them: each in a folder that is called `final`."""
    folders = [Path(shutil.copytree(tiny_folder, tmp_path / run / "final")) for run in ("first", "second")]
    first, second = (load(str(folder), device="cpu") for folder in folders)
    nudge(second)
    assert first.name == second.name == "final"
    of_first, of_second = kl.remember(first, TEXTS), kl.remember(second, TEXTS)
    assert of_first.path != of_second.path
    for model, reference in ((first, of_first), (second, of_second)):
        assert kl.against(model, reference).kl_T.max() < 1e-9
    assert kl.against(second, of_first).kl_T.max() > 1e-3


def test_any_change_of_a_weight_is_another_model(tiny_model: LanguageModel):
    """Also one that no fingerprint of logits shows, such as of a token's embedding that its input does not have."""
    logits, before = tiny_model.fingerprint(), weights_digest(tiny_model)
    assert weights_digest(tiny_model) == before
    unread = next(i for i in range(tiny_model.vocabulary_size) if i not in {*logits.tokens, *logits.vocabulary})
    with torch.no_grad():
        tiny_model.input_embeddings_VD[unread, 0] += 0.5
    assert tiny_model.fingerprint() == logits
    assert weights_digest(tiny_model) != before


def test_against_and_between_are_the_definition(tiny_folder: Path, tmp_path: Path):
    base, edited = (load(str(tiny_folder), device="cpu") for _ in range(2))
    reference = kl.remember(base, TEXTS, folder=tmp_path)
    nudge(edited)
    expected = by_hand(base, edited)
    assert np.median(expected) > 1e-3
    stored, streamed = kl.against(edited, reference), kl.between(base, edited, TEXTS)
    np.testing.assert_allclose(np.sort(streamed.kl_T), expected, atol=1e-6)
    np.testing.assert_allclose(np.sort(stored.kl_T), expected, atol=1e-6)
    assert abs(np.median(stored.kl_T) - np.median(streamed.kl_T)) < 1e-7
    assert (stored.text_T == streamed.text_T).all()
    assert len(expected) == reference.n_tokens == sum(len(base.encode(t)) for t in TEXTS)
    assert Path(reference.path).stat().st_size == 4 * reference.n_tokens * base.vocabulary_size


def test_the_same_weights_have_no_kl(either_model: LanguageModel, tmp_path: Path):
    found = kl.against(either_model, kl.remember(either_model, TEXTS, folder=tmp_path))
    assert (found.kl_T >= 0).all()
    assert found.kl_T.max() < 1e-9


def test_batches_and_chunks_do_not_matter(tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reference = kl.remember(tiny_model, TEXTS, folder=tmp_path / "a")
    other = dataclasses.replace(reference, path=str(tmp_path / "b.f32"))
    Path(other.path).write_bytes(Path(reference.path).read_bytes())
    nudge(tiny_model)
    expected = kl.against(tiny_model, reference).kl_T
    monkeypatch.setattr(kl, "_TOKENS_PER_BATCH", 1)
    monkeypatch.setattr(kl, "_CHUNK", 1)
    np.testing.assert_allclose(kl.against(tiny_model, other).kl_T, expected, atol=1e-6)


def test_long_texts_are_cut(tiny_model: LanguageModel, tmp_path: Path):
    reference = kl.remember(tiny_model, ["The kettle " * 200, "Nobody told us."], folder=tmp_path)
    assert max(len(row) for row in reference.rows) == tiny_model.context_length == 128


def test_measures_and_histogram():
    kl_T = np.array([0.0, 1e-9, 1e-3, 0.01, 0.02, 500.0])
    found = KL(kl_T=kl_T, text_T=np.array([0, 0, 1, 1, 2, 2]))
    by_name = {one.name: one for one in found.measures()}
    assert by_name["kl_median"].value == pytest.approx(np.median(kl_T))
    assert by_name["kl_mean"].value == pytest.approx(kl_T.mean())
    assert by_name["kl_p95"].value == pytest.approx(np.quantile(kl_T, 0.95))
    assert {one.n for one in by_name.values()} == {3}
    assert all(one.low <= one.value <= one.high for one in by_name.values())
    histogram = found.histogram()
    assert sum(histogram.counts) == 6
    assert histogram.counts[0] == 2
    assert histogram.counts[-1] == 1
    assert histogram.edges == EDGES
    assert list(EDGES) == sorted(EDGES)


def test_intervals_count_texts_not_tokens():
    """Tokens of a text that all agree are no independent evidence."""
    one_a_text = KL(kl_T=np.repeat([0.1, 0.2, 0.3, 0.4], 50), text_T=np.repeat([0, 1, 2, 3], 50))
    alone = KL(kl_T=np.array([0.1, 0.2, 0.3, 0.4]), text_T=np.arange(4))
    wide, narrow = (next(one for one in found.measures() if one.name == "kl_mean") for found in (one_a_text, alone))
    assert (wide.low, wide.high) == pytest.approx((narrow.low, narrow.high))


def test_a_reference_survives_json(tiny_model: LanguageModel, tmp_path: Path):
    reference = kl.remember(tiny_model, TEXTS, folder=tmp_path)
    assert Reference.from_dict(json.loads(json.dumps(reference.to_dict()))) == reference
    with pytest.raises(ConfigError, match="not a KL reference"):
        Reference.from_dict({"rows": 3})


def test_what_cannot_be_compared(tiny_model: LanguageModel, tmp_path: Path):
    reference = kl.remember(tiny_model, TEXTS, folder=tmp_path)
    with pytest.raises(EditError, match="different models"):
        kl.against(tiny_model, dataclasses.replace(reference, vocabulary=7))
    Path(reference.path).write_bytes(b"short")
    with pytest.raises(ConfigError, match="are gone"):
        kl.against(tiny_model, reference)
    Path(reference.path).unlink()
    with pytest.raises(ConfigError, match="Measure that model again"):
        kl.against(tiny_model, reference)
    with pytest.raises(ConceptError, match="at least two texts"):
        kl.remember(tiny_model, ["Nobody"], folder=tmp_path)
    with pytest.raises(ConceptError, match="at least two texts"):
        kl.between(tiny_model, tiny_model, ["Nobody", ""])


def test_a_full_disk_leaves_nothing_behind(tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match=r"No space left on device.*free some space"):
        kl.remember(tiny_model, TEXTS, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_references_stay(tiny_model: LanguageModel, empty_home: Path):
    made = [kl.remember(tiny_model, (*TEXTS, word)) for word in ("tea", "milk", "bed", "door", "dog", "name")]
    left = {str(path) for path in (empty_home / "references").iterdir()}
    assert len(left) == 4
    assert made[-1].path in left


def test_not_finite(tiny_model: LanguageModel, tmp_path: Path):
    reference = kl.remember(tiny_model, TEXTS, folder=tmp_path)
    with torch.no_grad():
        tiny_model.blocks[0].mlp_output.weight.fill_(float("inf"))
    for attempt in (
        lambda: kl.against(tiny_model, reference),
        lambda: kl.remember(tiny_model, (*TEXTS, "more"), folder=tmp_path),
        lambda: keep.perplexity(tiny_model, [Sentence(text) for text in TEXTS]),
        lambda: sampled_text(tiny_model, n_texts=2, n_tokens=3),
    ):
        with pytest.raises(ModelFileError, match="not finite"):
            attempt()


def test_perplexity(either_model: LanguageModel, tiny_neutral: tuple[Sentence, ...]):
    found = keep.perplexity(either_model, tiny_neutral)
    losses = [
        -log_p(either_model, s.text)[:-1].gather(1, torch.tensor(either_model.encode(s.text).ids)[1:, None])
        for s in tiny_neutral
    ]
    assert found.value == pytest.approx(math.exp(float(torch.cat(losses).mean())), rel=1e-4)
    probe = factual_recall.prepare_neutral(either_model, tiny_neutral)
    assert found.value == pytest.approx(math.exp(factual_recall.neutral_loss(either_model, probe)), rel=1e-5)
    assert found.low < found.value < found.high
    assert found.n == len(tiny_neutral)
    with pytest.raises(ConceptError, match="at least two sentences"):
        keep.perplexity(either_model, tiny_neutral[:1])


def test_neighbours_within(tiny_concept: Concept):
    forgotten = tiny_concept.facts[:2]
    near = keep.neighbours_within(tiny_concept, forgotten, tiny_concept.facts)
    assert [fact.subject for fact in near] == ["Japan", "Norway", "Spain", "Greece"]
    assert {fact.templates for fact in near} == {tiny_concept.templates}
    assert keep.neighbours_within(tiny_concept, tiny_concept.facts, tiny_concept.facts) == ()
    asked_otherwise = Fact("France", "French", templates=("{subject} speaks",))
    assert asked_otherwise not in keep.neighbours_within(
        tiny_concept, forgotten, (*tiny_concept.facts, asked_otherwise)
    )


def test_other_concepts(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    other = dataclasses.replace(tiny_concept, name="others", templates=("In {subject} lies",))
    p = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, other))
    threshold = float(np.median(p))
    chosen = keep.choose_others(
        tiny_model, tiny_concept, others=[tiny_concept, tiny_shapes, other], threshold=threshold
    )
    assert list(chosen) == ["others"]
    assert [fact.subject for fact in chosen["others"]] == [
        f.subject for f, one in zip(other.facts, p) if one >= threshold
    ]
    groups = chosen | {"more": chosen["others"][:1]}
    total, *each = keep.facts_kept(tiny_model, tiny_concept, groups)
    assert total.value == pytest.approx(np.append(p[p >= threshold], p[p >= threshold][0]).mean(), rel=1e-4)
    assert [one.name for one in each] == ["neighbours: others", "neighbours: more"]
    assert len(keep.facts_kept(tiny_model, tiny_concept, chosen)) == 1
    with pytest.raises(ConceptError, match="no neighbouring fact"):
        keep.facts_kept(tiny_model, tiny_concept, {"others": ()})


def test_sampled_text_is_kept_by_weights_and_seed(either_model: LanguageModel, empty_home: Path):
    first = sampled_text(either_model, n_texts=3, n_tokens=5, seed=1)
    (file,) = (empty_home / "general_text").iterdir()
    assert set(first.sources) == {SAMPLED}
    assert all(text.startswith(word) for text, word in zip(first.texts, ("The", "In", "I")))
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"texts": ["kept", "text"]}))
    assert sampled_text(either_model, n_texts=3, n_tokens=5, seed=1).texts == ("kept", "text")
    file.write_text("{")
    assert sampled_text(either_model, n_texts=3, n_tokens=5, seed=1) == first  # damaged: sampled again, the same
    assert sampled_text(either_model, n_texts=3, n_tokens=5, seed=2) != first
    before = weights_digest(either_model)
    nudge(either_model)
    assert weights_digest(either_model) != before
    sampled_text(either_model, n_texts=3, n_tokens=5, seed=1)
    assert len(list((empty_home / "general_text").iterdir())) == 3


def test_samples_follow_the_model(tiny_model: LanguageModel, empty_home: Path):
    """The second token's frequencies are the model's probabilities."""
    drawn = sampled_text(tiny_model, n_texts=2000, n_tokens=1, seed=0)
    start = [text[3:] for text in drawn.texts if text.startswith("The")]
    probabilities = log_p(tiny_model, "The")[-1].exp()
    best = int(probabilities.argmax())
    share, expected = np.mean([text == tiny_model.decode([best]) for text in start]), float(probabilities[best])
    assert len(start) >= 100
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / len(start)) + 0.01


@pytest.mark.parametrize("numbers", [{"n_texts": 0}, {"n_tokens": 0}, {"n_tokens": 121}, {"n_texts": 10_000}])
def test_sampling_out_of_range(tiny_model: LanguageModel, numbers: dict):
    with pytest.raises(ConfigError, match="Sample 1 to"):
        sampled_text(tiny_model, **numbers)


def test_offline_text_names_its_sources(tiny_model: LanguageModel, empty_home: Path):
    text = offline_text(tiny_model)
    assert len(text.texts) == len(text.sources)
    assert text.describe() == f"{len(neutral_text().texts)} {NEUTRAL}, 16 {SAMPLED}"
    assert GeneralText.from_dict(json.loads(json.dumps(text.to_dict()))) == text


def test_a_hub_corpus_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(FetchError, match="“nobody/no-such-corpus” cannot be read"):
        from_hub("nobody/no-such-corpus")
    with pytest.raises(ConfigError, match="Take 1 to"):
        from_hub("nobody/no-such-corpus", n_texts=0)


def test_a_hub_corpus(monkeypatch: pytest.MonkeyPatch):
    import datasets

    rows = [{"text": "short"}, *({"text": f" {i} " + "word " * 40} for i in range(9))]
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: rows)
    found = from_hub("some/corpus", n_texts=3)
    assert [text[0] for text in found.texts] == ["0", "1", "2"]
    assert found.describe() == "3 from some/corpus"
    with pytest.raises(FetchError, match="KeyError"):
        from_hub("some/corpus", field="body")
    monkeypatch.setattr(datasets, "load_dataset", lambda *names, **options: rows[:1])
    with pytest.raises(FetchError, match="no text of 100 characters"):
        from_hub("some/corpus")

"""Probes on planted activations, where it is known at which depth the answer appears."""

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError, ConfigError
from analysis.localization import measure_curve, probe_curve, probing
from analysis.models import LanguageModel
from tests.raw_model import bridge

N_DEPTHS, WIDTH, APPEARS = 6, 24, 3


def planted_classes(seed: int = 0, prompts_each: int = 3) -> dict:
    """40 subjects of 4 classes; a subject's own vector at every depth, its class's vector from `APPEARS` on."""
    random = np.random.default_rng(seed)
    subjects = [f"subject {i}" for i in range(40)]
    answers = [f"class {i % 4}" for i in range(40)]
    own, classes = random.normal(size=(40, WIDTH)), random.normal(size=(4, WIDTH))
    facts = np.repeat(np.arange(40), prompts_each)
    states = np.zeros((N_DEPTHS, len(facts), WIDTH))
    for r in range(N_DEPTHS):
        noise = 0.05 * random.normal(size=(len(facts), WIDTH))
        states[r] = own[facts] + noise + (4 * classes[facts % 4] if r >= APPEARS else 0)
    return {"states_RXD": states, "facts_X": facts, "subjects": subjects, "answers": answers}


def planted_answers(seed: int = 0) -> dict:
    """60 subjects, each with an answer of its own, whose vector is linearly in the state from `APPEARS` on."""
    random = np.random.default_rng(seed)
    subjects, answers = [f"country {i}" for i in range(60)], [f"capital {i}" for i in range(60)]
    vectors = random.normal(size=(60, 8))
    mixing = random.normal(size=(8, WIDTH))
    states = random.normal(size=(N_DEPTHS, 60, WIDTH))
    states[APPEARS:] = 0.05 * states[APPEARS:] + vectors @ mixing
    return {
        "states_RXD": states,
        "facts_X": np.arange(60),
        "subjects": subjects,
        "answers": answers,
        "vectors": dict(zip(answers, vectors)),
    }


def test_a_class_probe_rises_where_the_class_is_planted():
    curve = probe_curve(**planted_classes())
    assert curve.kind == "class"
    assert (curve.accuracy_R[APPEARS:] > 0.95).all()
    # every subject has a vector of its own that training prompts show; held-out subjects must not profit from it
    assert (curve.accuracy_R[:APPEARS] < 0.5).all()
    assert (curve.control_R < 0.5).all()
    assert (curve.chance, curve.n_subjects, curve.n_prompts) == (0.25, 40, 120)
    assert (curve.low_R <= curve.accuracy_R).all()
    assert (curve.accuracy_R <= curve.high_R).all()


def test_an_answer_probe_rises_where_the_answer_is_planted():
    curve = probe_curve(**planted_answers())
    assert curve.kind == "answer"
    assert (curve.accuracy_R[APPEARS:] > 0.9).all()
    assert (curve.accuracy_R[:APPEARS] < 0.35).all()
    assert (curve.control_R < 0.35).all()
    assert curve.chance == pytest.approx(5 / 60)  # any of the 12 answers of a fold


@pytest.mark.parametrize("kind", ["class", "answer"])
def test_without_information_the_accuracy_is_the_stated_chance(kind: str):
    """Over many draws; leaks or biases of the folds would show, in the control too."""
    n, found = 40, []
    for seed in range(30):
        random = np.random.default_rng(seed)
        answers = [f"answer {i % 4 if kind == 'class' else i}" for i in range(n)]
        curve = probe_curve(
            random.normal(size=(1, n, 16)),
            np.arange(n),
            [f"subject {i}" for i in range(n)],
            answers,
            vectors=None if kind == "class" else {answer: random.normal(size=6) for answer in answers},
            seed=seed,
        )
        found.append((curve.accuracy_R[0], curve.control_R[0], curve.chance))
    accuracy, control, chance = np.mean(found, axis=0)
    assert chance == (0.25 if kind == "class" else 0.125)
    assert accuracy == pytest.approx(chance, abs=0.05)
    assert control == pytest.approx(chance, abs=0.05)


def test_no_subject_is_trained_on_and_tested(monkeypatch: pytest.MonkeyPatch):
    planted = planted_classes()
    folds = []
    original = probing.held_out

    def watch(states_XD, truth_X, fold_X, targets_KD):
        folds.append(fold_X)
        return original(states_XD, truth_X, fold_X, targets_KD)

    monkeypatch.setattr(probing, "held_out", watch)
    probe_curve(**planted)
    for fold in folds[::2]:  # every second call is the control
        for subject in range(40):
            assert len(set(fold[planted["facts_X"] == subject])) == 1
        per_fold = [np.bincount(planted["facts_X"][fold == f] % 4, minlength=4) for f in range(5)]
        assert (np.array(per_fold) == 6).all()  # 2 subjects × 3 prompts of every class


def test_two_subjects_with_one_answer_share_a_fold(monkeypatch: pytest.MonkeyPatch):
    planted = planted_answers()
    planted["answers"][1] = planted["answers"][0]
    folds = []
    original = probing.held_out

    def watch(states_XD, truth_X, fold_X, targets_KD):
        folds.append(fold_X)
        return original(states_XD, truth_X, fold_X, targets_KD)

    monkeypatch.setattr(probing, "held_out", watch)
    planted["vectors"].pop("capital 1")
    probe_curve(**planted)
    assert all(fold[0] == fold[1] for fold in folds)


def test_the_same_seed_gives_the_same_curve():
    first, again, other = (probe_curve(**planted_classes(), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.table(), again.table())
    assert not np.array_equal(first.control_R, other.control_R)


def test_states_are_the_residual_at_the_subjects_last_token(
    either_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    """Against run_with_cache on each unpadded prompt, with the position from the characters."""
    got = {}
    monkeypatch.setattr(probing, "MIN_SUBJECTS", 5)
    original = probing.probe_curve

    def watch(states, rows, *others, **named):
        got.update(states=states, rows=rows)
        return original(states, rows, *others, **named)

    monkeypatch.setattr(probing, "probe_curve", watch)
    measure_curve(either_model, tiny_concept, tiny_concept.facts)
    expected = []
    for fact in tiny_concept.facts:
        for template in tiny_concept.templates_of(fact):
            text = template.replace("{subject}", fact.subject)
            end = template.index("{subject}") + len(fact.subject)
            encoded = either_model.encode(text)
            position = max(i for i, (a, b) in enumerate(encoded.offsets) if a < end)
            with torch.inference_mode():
                _, cache = bridge(either_model).run_with_cache(torch.tensor([encoded.ids]))
            rows = [cache["blocks.0.hook_resid_pre"], *(
                cache[f"blocks.{layer}.hook_resid_post"] for layer in range(either_model.n_layers)
            )]  # fmt: skip
            expected.append(np.stack([row[0, position].numpy() for row in rows]))
    states = got["states"].transpose(1, 0, 2)
    assert len(states) == len(expected) == 12
    order = sorted(range(12), key=lambda i: tuple(np.round(expected[i][-1][:4], 3)))
    found = sorted(range(12), key=lambda i: tuple(np.round(states[i][-1][:4], 3)))
    np.testing.assert_allclose(states[found], np.stack(expected)[order], atol=1e-4)
    for i, j in zip(found, order):
        assert got["rows"][i] == j // 2


def test_answers_that_repeat_make_a_class_probe(tiny_model: LanguageModel):
    templates = ("The capital of {subject} is",)
    names = ["France", "Italy", "Japan", "Norway", "Spain", "Greece", "rain", "river", "old", "train", "dinner"]
    facts = tuple(Fact(name, "Paris" if i < 5 else "Rome" if i < 10 else "Oslo") for i, name in enumerate(names))
    concept = Concept(name="classes", title="Classes", templates=templates, facts=facts)
    shares: list[float] = []
    curve = measure_curve(tiny_model, concept, facts, progress=lambda stage, share: shares.append(share))
    assert (curve.kind, curve.answers, curve.n_subjects) == ("class", ("Paris", "Rome"), 10)  # Oslo has one subject
    assert curve.chance == 0.5
    assert len(curve.accuracy_R) == tiny_model.n_layers + 1
    assert shares[-1] == 1.0
    assert list(curve.table()["layer"]) == [-1, 0, 1, 2]


def test_answers_that_do_not_repeat_are_mapped(tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch):
    monkeypatch.setattr(probing, "MIN_SUBJECTS", 6)
    curve = measure_curve(tiny_model, tiny_concept, tiny_concept.facts)
    assert (curve.kind, curve.n_subjects, curve.n_prompts) == ("answer", 6, 12)
    assert set(curve.answers) == {fact.answer for fact in tiny_concept.facts}


def test_too_few_facts_are_refused(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConceptError, match="6 facts with 6 different answers"):
        measure_curve(tiny_model, tiny_concept, tiny_concept.facts)
    with pytest.raises(ConceptError, match="too little"):
        measure_curve(tiny_model, tiny_concept, [])


def test_no_prompts_are_refused(tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch):
    monkeypatch.setattr(probing, "MIN_SUBJECTS", 6)
    with pytest.raises(ConfigError, match="must be at least 1"):
        measure_curve(tiny_model, tiny_concept, tiny_concept.facts, max_prompts=0)

"""Gradient edits on tiny models: facts are chosen, trained away, confined and undone bit for bit."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from analysis.edits import ComponentEdit, Ledger, Materials, Selection, from_dict, plan
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.examples import Batch
from analysis.edits.gradient.objectives import GRADIENT_METHODS
from analysis.edits.gradient.objectives.grad_diff import GradDiff
from analysis.edits.gradient.objectives.gradient_ascent import GradientAscent
from analysis.edits.gradient.objectives.inject import Inject
from analysis.edits.gradient.objectives.llm_surgery import LlmSurgery
from analysis.edits.gradient.objectives.npo import Npo
from analysis.edits.gradient.objectives.rmu import Rmu
from analysis.edits.gradient.objectives.simnpo import SimNpo
from analysis.edits.gradient.objectives.unlearn import Unlearn
from analysis.edits.gradient.terms import Losses
from analysis.errors import ConceptError, ConfigError, EditError
from analysis.models import LanguageModel
from analysis.scoring import factual_recall
from tests.edits.gradient.gradient_edits import COMMON, EDITS, UNLEARN
from tests.raw_model import raw
from tests.shared_models import same_bits, state


@pytest.mark.parametrize("name", EDITS)
def test_every_objective_lowers_its_own_loss_and_is_undone_bit_for_bit(
    either_model: LanguageModel, training, name: str
):
    edit = replace(EDITS[name], steps=25, batch_size=8, schedule="constant", learning_rate=3e-3)
    before, reports = state(either_model), []
    ledger = Ledger(either_model)
    change = training(either_model, edit, on_step=lambda step, loss, terms: reports.append((step, loss, dict(terms))))
    entry = ledger.apply(change)
    assert [step for step, *_ in reports] == list(range(1, 26))
    weights = {term.name: term.weight for term in edit.terms()}
    for _, loss, terms in reports:
        assert loss == pytest.approx(sum(weights[kind] * one for kind, one in terms.items()))
    first, last = ([loss for _, loss, _ in part] for part in (reports[:5], reports[-5:]))
    assert sum(last) < sum(first)
    assert not same_bits(before, state(either_model))
    assert entry.edit == from_dict(json.loads(json.dumps(entry.edit.to_dict()))) == edit
    ledger.undo()
    assert same_bits(before, state(either_model))


def test_the_method_table_and_the_classes_agree():
    assert EDITS.keys() == GRADIENT_METHODS.keys()
    for name, edit in EDITS.items():
        assert type(edit) is GRADIENT_METHODS[name]
        assert edit.method == name


def test_unlearning_takes_the_answers_and_keeps_the_others(tiny_model: LanguageModel, materials: Materials, training):
    concept, facts = materials.concept, materials.concept.facts
    # the tiny model knows nothing yet: teach it all facts first
    teach = Inject(steps=60, batch_size=12, learning_rate=1e-2, precision="float32", lambda_text=0.0)
    known = replace(concept, facts=tuple(replace(fact, counter_answer=fact.answer + "!") for fact in facts))
    change = plan(teach, tiny_model, replace(materials, concept=known, forget=known.facts, maintain=()))
    Ledger(tiny_model).apply(change)
    taught = change.facts.injected
    before = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, concept, taught))
    assert before.min() > 0.5
    learned = replace(concept, facts=taught)
    edit = Unlearn(forget=("France", "Italy"), steps=40, batch_size=8, learning_rate=3e-3, precision="float32")
    change = plan(edit, tiny_model, replace(materials, concept=learned, forget=learned.facts))
    Ledger(tiny_model).apply(change)
    forget, ((owner, kept),) = change.facts.forget, change.facts.maintain
    assert owner is learned
    assert {fact.subject for fact in forget} == {"France", "Italy"}
    p_forget = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, concept, forget))
    p_kept = factual_recall.score_facts(tiny_model, factual_recall.prepare_facts(tiny_model, concept, kept))
    assert p_forget.max() < 0.1
    assert p_kept.min() > 0.5


def test_rows_count_the_answer_of_facts_and_every_predicted_token_of_sentences(
    tiny_model: LanguageModel, materials: Materials, training
):
    change = training(tiny_model, UNLEARN)
    probe = factual_recall.prepare_facts(tiny_model, materials.concept, change.facts.forget)
    expected = {
        (tuple(tokens[: int(answer.nonzero().max()) + 1].tolist()), tuple(answer.nonzero()[:, 0].tolist()))
        for batch in probe.batches
        for tokens, answer in zip(batch.tokens_BP, batch.answer_BP)
    }
    assert {(row.ids, row.counted) for row in change.rows["forget"]} == expected
    assert {len(row.counted) for row in change.rows["forget"]} != {1}  # some answers have several tokens
    for row in change.rows["text"]:
        assert row.counted == tuple(range(1, len(row.ids)))
    batch = Batch.of(change.rows["forget"], tiny_model)
    logits_AV, targets_A, texts_A = batch.predict(tiny_model)
    whole_BPV = tiny_model.logits(batch.tokens_BP)
    at = [(b, p) for b, row in enumerate(batch.rows) for p in row.counted]
    assert targets_A.tolist() == [batch.rows[b].ids[p] for b, p in at]
    assert texts_A.tolist() == [b for b, _ in at]
    torch.testing.assert_close(logits_AV, torch.stack([whole_BPV[b, p - 1] for b, p in at]))


def test_the_retain_set_has_every_statement_of_a_maintained_fact_unless_it_is_drawn(
    tiny_model: LanguageModel, materials: Materials, training
):
    def retained(count: int) -> list[tuple[int, ...]]:
        change = training(tiny_model, LlmSurgery(forget_count=1, update_count=1, retain_count=count, **COMMON))
        return [row.ids for row in change.rows["retain"]]

    change = training(tiny_model, LlmSurgery(forget_count=1, update_count=1, **COMMON))
    ((concept, maintained),) = change.facts.maintain
    statements = [text for fact in maintained for text, _ in concept.statements(fact)]
    assert maintained
    assert statements
    sentences = [sentence.text for sentence in materials.neutral[:48]]
    every = [tiny_model.encode(text).ids for text in (*statements, *sentences)]
    assert retained(0) == every
    drawn = retained(3)
    assert len(drawn) == 3
    assert set(drawn) < set(every)
    assert retained(3) == drawn
    assert sorted(retained(10**6)) == sorted(every)


def test_facts_are_chosen_by_name_by_number_and_disjoint(tiny_model: LanguageModel, materials: Materials, training):
    edit = LlmSurgery(forget_count=2, update_count=3, seed=4, **COMMON)
    chosen, again, other = (training(tiny_model, one).facts for one in (edit, edit, replace(edit, seed=5)))
    assert chosen == again != other
    assert (len(chosen.forget), len(chosen.update)) == (2, 3)
    ((_, kept),) = chosen.maintain
    assert sorted(map(str, (*chosen.forget, *chosen.update, *kept))) == sorted(map(str, materials.concept.facts))
    for right, wrong in zip(chosen.update, chosen.injected):
        assert (right.subject, right.split) == (wrong.subject, wrong.split)
        assert wrong.answer in {fact.answer for fact in materials.concept.facts} - {right.answer}
    everything = training(tiny_model, GradientAscent(**COMMON)).facts
    assert (everything.forget, everything.maintain) == (materials.concept.facts, ())
    injected = training(tiny_model, EDITS["inject"]).facts
    assert ([fact.subject for fact in injected.update], injected.forget) == (["France", "Italy"], ())


def test_a_counter_answer_is_injected(tiny_model: LanguageModel, materials: Materials):
    first, *rest = materials.concept.facts
    concept = replace(materials.concept, facts=(replace(first, counter_answer="Lyon"), *rest))
    change = plan(EDITS["inject"], tiny_model, replace(materials, concept=concept, forget=concept.facts))
    assert change.facts.injected[0].answer == "Lyon"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Unlearn(forget=("Atlantis",)), "no fact"),
        (Unlearn(forget=("Greece",)), "does not know"),
        (Unlearn(forget_count=6), "only 5"),
        (LlmSurgery(forget_count=3, update_count=3), "only 5"),
    ],
)
def test_facts_that_cannot_be_chosen_are_refused(
    tiny_model: LanguageModel, materials: Materials, edit: GradientEdit, message: str
):
    with pytest.raises(ConceptError, match=message):
        plan(edit, tiny_model, replace(materials, forget=materials.concept.facts[:5]))


def test_nothing_known_and_nothing_to_keep_are_refused(tiny_model: LanguageModel, materials: Materials):
    with pytest.raises(ConceptError, match="nothing to remove"):
        plan(UNLEARN, tiny_model, replace(materials, forget=()))
    with pytest.raises(ConceptError, match="nothing to keep"):
        plan(Unlearn(**COMMON), tiny_model, replace(materials, neutral=()))
    plan(GradientAscent(**COMMON), tiny_model, replace(materials, neutral=()))


@pytest.mark.parametrize("only", ["L1.MLP", "L0.H1, L1.MLP, L1.N3", "L0.N0, L1.H2"])
@pytest.mark.parametrize("rank", [0, 2])
def test_only_the_named_components_move(either_model: LanguageModel, training, only: str, rank: int):
    edit = replace(UNLEARN, only=only, weight_decay=0.1, lora_rank=rank)
    change = training(either_model, edit)
    mine: dict[str, Tensor] = {name: torch.zeros_like(one).bool() for name, one in either_model.weights.items()}
    names = {one: name for name, one in either_model.weights.items()}
    for piece in change.slices(either_model):
        for name, one in either_model.weights.items():
            if one.data_ptr() == piece.parameter.data_ptr():
                mine[name].index_fill_(piece.axis, piece.indices, True)
    assert sum(int(part.sum()) for part in mine.values()) == change.n_weights < either_model.n_parameters
    before = state(either_model)
    Ledger(either_model).apply(change)
    moved = {name: before[name] != now for name, now in state(either_model).items()}
    assert names
    assert not any((moved[name] & ~mine[name]).any() for name in moved)
    assert sum(int(part.sum()) for part in moved.values()) > 0.4 * change.n_weights


def test_rmu_trains_the_down_projections_of_three_layers(tiny_model: LanguageModel, training):
    before = state(tiny_model)
    Ledger(tiny_model).apply(training(tiny_model, Rmu(forget=("France",), layer=2, **COMMON)))
    after = state(tiny_model)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(3)
    }


def test_rmu_steers_to_a_multiple_of_the_mean_norm_and_refuses_later_layers(tiny_model: LanguageModel, training):
    edit = Rmu(forget=("France",), layer=1, steering=3.0, lambda_retain=0.0, precision="float32")
    change = training(tiny_model, edit)
    losses = Losses(tiny_model, edit, change.rows)
    norms, squares = [], []
    for row in change.rows["forget"]:
        with torch.no_grad():
            hidden = raw(tiny_model)(torch.tensor([row.ids]), output_hidden_states=True).hidden_states[2][0, 1:]
        norms += hidden.norm(dim=-1).tolist()
        squares.append(hidden)
    u = torch.rand(tiny_model.d_model, generator=torch.Generator().manual_seed(0))
    target = 3 * sum(norms) / len(norms) * u / u.norm()
    expected = torch.cat([(hidden - target).square() for hidden in squares]).mean()
    batch = Batch.of(change.rows["forget"], tiny_model)
    assert float(losses.loss(edit.terms()[0], batch).detach()) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(ConfigError, match="do not reach"):
        training(tiny_model, replace(edit, only="L2.MLP"))
    with pytest.raises(ConfigError, match="layers 0 to 2"):
        training(tiny_model, replace(edit, layer=3))


def test_references_are_those_of_the_model_before_training(tiny_model: LanguageModel, training):
    """At the start KL is 0 and NPO 2 log 2 / beta; after a change of the weights neither is."""
    found = {}
    for name in ("llm_surgery", "npo"):
        edit = EDITS[name]
        change = training(tiny_model, edit)
        losses = Losses(tiny_model, edit, change.rows)
        (term,) = (one for one in edit.terms() if one.kind in ("kl", "ratio"))
        batch = Batch.of(change.rows[term.name][:6], tiny_model)
        start = float(losses.loss(term, batch).detach())
        with torch.no_grad():
            weight = tiny_model.blocks[0].mlp_output.weight
            weight.mul_(1.5)
            later = float(losses.loss(term, batch).detach())
            weight.div_(1.5)
        found[name] = start, later
    assert found["llm_surgery"][0] == pytest.approx(0, abs=1e-6) != found["llm_surgery"][1]
    assert found["npo"][0] == pytest.approx(2 * 0.6931472 / 0.1)
    assert abs(found["npo"][1] - found["npo"][0]) > 1e-3


def test_low_rank_factors_give_the_logits_that_the_merged_weights_give(either_model: LanguageModel, training):
    edit = replace(UNLEARN, lora_rank=3, learning_rate=1e-2)
    change = training(either_model, edit, on_step=lambda *_: logits.append(either_model.logits(tokens)[0]))
    tokens, logits = torch.tensor([[5, 9, 30, 31, 7]]), []
    with torch.no_grad():
        start = either_model.logits(tokens)[0]
        before = state(either_model)
        Ledger(either_model).apply(change)
        merged = either_model.logits(tokens)[0]
    torch.testing.assert_close(merged, logits[-1], rtol=1e-4, atol=1e-4)
    assert (merged - start).abs().max() > 0.01
    for name, after in state(either_model).items():
        if after.ndim == 2 and (after - before[name]).abs().max() > 1e-5:
            rank = int(torch.linalg.matrix_rank(after - before[name], atol=1e-4))
            assert rank == (9 if "c_attn" in name else 3)  # GPT-2 stores query, key and value in one


def test_divergence_says_what_to_do_and_leaves_the_weights(tiny_model: LanguageModel, training):
    before = state(tiny_model)
    with torch.no_grad():
        tiny_model.blocks[0].mlp_output.weight[0, 0] = float("nan")
    broken = state(tiny_model)
    with pytest.raises(ConfigError, match="Lower the learning rate"):
        Ledger(tiny_model).apply(training(tiny_model, UNLEARN))
    assert same_bits(broken, state(tiny_model))
    assert not same_bits(before, broken)
    assert all(parameter.requires_grad for parameter in raw(tiny_model).parameters())


def test_held_weights_stay_and_factors_on_them_are_refused(tiny_model: LanguageModel, training, materials: Materials):
    ledger = Ledger(tiny_model)
    prune = ComponentEdit(selection=Selection(rule="explicit", components="L0.N3, L1.H1"))
    pruned = ledger.apply(plan(prune, tiny_model, materials))
    ledger.apply(training(tiny_model, replace(UNLEARN, weight_decay=0.1), hold=ledger.held()))
    assert pruned.current_hash() == pruned.hash_after
    with pytest.raises(ConfigError, match="lora_rank to 0"):
        ledger.apply(training(tiny_model, replace(UNLEARN, lora_rank=2), hold=ledger.held()))
    ledger.undo_to(0)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"betas": (0.9, 1.0)},
        {"weight_decay": -0.1},
        {"clip": 0.0},
        {"lambda_forget": -1.0},
        {"lambda_text": float("inf")},
        {"lora_rank": -1},
        {"schedule": "linear"},
        {"precision": "fp8"},
        {"only": "L5.MLPX"},
        {"forget": ("France", "France")},
        {"forget": ("France",), "forget_count": 2},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, object]):
    with pytest.raises((ConfigError, EditError)):
        Unlearn(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (Npo, {"beta": 0.0}),
        (SimNpo, {"gamma": float("inf")}),
        (GradDiff, {"cap": 0.0}),
        (LlmSurgery, {"forget": ("France",), "update": ("France",)}),
        (LlmSurgery, {"update": ("Italy",), "update_count": 1}),
        (LlmSurgery, {"retain_count": -1}),
        (Rmu, {"steering": -1.0}),
        (Rmu, {"layer": -1}),
    ],
)
def test_settings_of_single_objectives_are_checked(kind: type[GradientEdit], bad: dict[str, object]):
    with pytest.raises(ConfigError):
        kind(**bad)

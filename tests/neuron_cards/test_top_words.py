"""Highest activating words against a direct computation with loops, and numbers made by hand."""

import itertools
import re
from collections import defaultdict

import numpy as np
import pytest
import torch

from analysis.components.neurons import Neuron, NeuronSet, hook_name
from analysis.concepts import Sentence
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.neuron_cards.token_activations import token_activations
from analysis.neuron_cards.top_words import AGGREGATES, contexts, word_scores
from tests.neuron_cards.written_activations import written_activations
from tests.raw_model import bridge

TEXTS = """The ferry to *Bergen* leaves at nine, if the fog allows it.
We met in *Porto*, near the river, and walked until dark.
My aunt sold her house in *Ghent* last March.
There is a bakery in *Bergen* that opens at four.
Nobody knew why the lights in *Lyon* went out.
“Come to *Porto*!” she wrote, and he came.
The road from *Ghent* to *Lyon* is long.
He counted eleven ships, seven boats and one raft.
A letter from *Bergen* lay on the table for weeks.
Her shoes were wet; the rain had not stopped.
In *Lyon*, the market closes early on Sundays.
They painted the door green and the window blue.
I would rather stay in *Porto* than go home.
The soup was cold, but the bread was warm.
Two trains a day stop in *Ghent*.
It rained in *Bergen*; it always rains in *Bergen*.
Which of these keys opens the cellar?
The museum in *Lyon* has a small garden.
She learned to swim when she was forty.
Our neighbours moved to *Porto* in the spring.
The old clock runs five minutes fast.
*Ghent* and *Lyon* were hotter than usual.
Please do not feed the ducks.
He said “no” twice, then laughed.
A storm held the ship in *Bergen* for a week.
The teacher asked for silence.
From *Porto* we took the night bus.
Every winter the lake freezes over.
The choir of *Ghent* sang without a leader.
Who left this coat on the chair?""".split("\n")


def direct_activations(model: LanguageModel, sentence: Sentence, neurons: NeuronSet) -> list[list[float]]:
    """For each neuron its activation at every token."""
    with torch.inference_mode():
        _, cache = bridge(model).run_with_cache(torch.tensor([model.encode(sentence.text).ids]))
    return [cache[hook_name(neuron.layer)][0, :, neuron.index].double().tolist() for neuron in neurons]


def direct_words(
    model: LanguageModel, sentences: list[Sentence], activations: list[list[float]], aggregate: str, fold: bool
) -> dict[str, tuple[float, int, float]]:
    """Word -> (score, occurrences, mean z), one sentence and one token at a time."""
    occurrences: list[tuple[str, float]] = []
    for sentence, values in zip(sentences, activations, strict=True):
        encoded = model.encode(sentence.text)
        for match in re.finditer(r"[^\W_]+|[^\w\s]+", sentence.text):
            own = []
            for (start, end), value in zip(encoded.offsets, values, strict=True):
                piece = sentence.text[start:end]
                begin = start + len(piece) - len(piece.lstrip())
                if piece.strip() and match.start() <= begin < match.end():
                    own.append(value)
            value = {"last": own[-1], "mean": sum(own) / len(own), "max": max(own, key=abs)}[aggregate]
            occurrences.append((match.group().lower() if fold else match.group(), value))
    everything = np.array([value for _, value in occurrences])
    z_by_word = defaultdict(list)
    for word, value in occurrences:
        z_by_word[word].append((value - everything.mean()) / everything.std())
    mean_size = {word: sum(abs(z) for z in zs) / len(zs) for word, zs in z_by_word.items()}
    best = max(mean_size.values())
    return {word: (mean_size[word] / best, len(zs), sum(zs) / len(zs)) for word, zs in z_by_word.items()}


def test_scores_equal_a_direct_computation(either_model: LanguageModel, mark):
    sentences = [mark(text) for text in TEXTS]
    neurons = NeuronSet([2, 40, either_model.n_neurons + 5], either_model.shape)
    found = token_activations(either_model, sentences, neurons)
    direct = [direct_activations(either_model, sentence, neurons) for sentence in sentences]
    for aggregate, fold in itertools.product(AGGREGATES, (False, True)):
        every = word_scores(found, aggregate=aggregate, fold_case=fold, minimum=0.0, top=None)
        best = word_scores(found, aggregate=aggregate, fold_case=fold)
        for k, neuron in enumerate(neurons):
            expected = direct_words(either_model, sentences, [values[k] for values in direct], aggregate, fold)
            rows = every.table[every.table["neuron"] == str(neuron)].set_index("word")
            assert set(rows.index) == set(expected)
            assert every.n_words == len(expected)
            for word, row in rows.iterrows():
                score, count, signed = expected[word]
                assert row["score"] == pytest.approx(score, abs=2e-5)
                assert row["n_occurrences"] == count
                assert row["signed_mean"] == pytest.approx(signed, abs=1e-4)
            ranking = sorted(expected, key=lambda word: -expected[word][0])
            assert best.of(neuron) == tuple(ranking[:5])
            assert best.table[best.table["neuron"] == str(neuron)]["score"].iloc[0] == 1


def test_every_column_by_hand():
    # word means of |z| with mean 0 and std 2: dog 2, cat 1.5, a 0 (both 0), the 0.5 -> scores 1, .75, .25
    activations = written_activations(["a dog", "the cat", "cat a", "the"], [[0], [-4], [1], [2], [4], [0], [-1]])
    values = activations.values_TK[:, 0].astype(float)
    z = (values - values.mean()) / values.std()
    table = word_scores(activations, minimum=0.0, top=None).table.set_index("word")
    size = {"a": (abs(z[0]) + abs(z[5])) / 2, "dog": abs(z[1]), "the": (abs(z[2]) + abs(z[6])) / 2}
    size["cat"] = (abs(z[3]) + abs(z[4])) / 2
    for word, value in size.items():
        assert table.loc[word, "score"] == pytest.approx(value / abs(z[1]))
    assert table.index.tolist() == ["dog", "cat", "the", "a"]
    assert table.loc["dog", "signed_mean"] == pytest.approx(z[1])
    assert table.loc["dog", "signed_mean"] < 0
    # “the” goes up once and down once: a clear score, hardly any direction
    assert abs(table.loc["the", "signed_mean"]) < 0.5 * size["the"]
    assert table.loc["cat", ["sentence", "token", "n_occurrences"]].tolist() == [2, 4, 2]


def test_minimum_and_top_choose_the_words():
    activations = written_activations(["a b c d e f"], [[10], [-8], [6], [-4.9], [-3.2], [0.1]])
    assert word_scores(activations).words_K == (("a", "b", "c", "d", "e"),)
    assert word_scores(activations, top=2).words_K == (("a", "b"),)
    assert word_scores(activations, minimum=0.5, top=None).words_K == (("a", "b", "c"),)


def test_a_neuron_that_never_moves_has_no_words():
    found = word_scores(written_activations(["a b", "c"], [[0, 0.1, 1], [0, 0.1, 0], [0, 0.1, 0]]))
    assert found.words_K[:2] == ((), ())
    assert found.of(Neuron(0, 2))[0] == "a"
    assert set(found.table["neuron"]) == {"L0.N2"}
    assert word_scores(written_activations(["a b"], [[0], [0]])).words_K == ((),)


def test_many_neurons_in_blocks(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).normal(size=(6, 9))
    activations = written_activations(["a b c", "b c d"], values)
    whole = word_scores(activations)
    monkeypatch.setattr("analysis.neuron_cards.top_words._BLOCK", 12)
    blocks = word_scores(activations)
    assert blocks.words_K == whole.words_K
    assert blocks.table.equals(whole.table)
    assert blocks.table["neuron"].unique().tolist() == list(activations.names)


def test_settings_out_of_range():
    activations = written_activations(["a b"], [[1], [2]])
    with pytest.raises(ConfigError, match="last, mean, max"):
        word_scores(activations, aggregate="first")
    with pytest.raises(ConfigError, match="below 1"):
        word_scores(activations, minimum=1.0)
    with pytest.raises(ConfigError, match="at least 1, or None"):
        word_scores(activations, top=0)
    with pytest.raises(ConfigError, match=r"L1\.N0 was not recorded"):
        word_scores(activations).of(Neuron(1, 0))
    with pytest.raises(ConfigError, match="number of contexts"):
        contexts(activations, Neuron(0, 0), 0)
    with pytest.raises(ConfigError, match=r"quantile 1\.5"):
        contexts(activations, Neuron(0, 0), quantiles=[1.5])


def test_white_space_alone_has_no_words():
    activations = written_activations(["a"], [[1]])
    object.__setattr__(activations, "word_T", np.array([-1]))
    with pytest.raises(ConceptError, match="only white space"):
        word_scores(activations)


def test_contexts_come_from_the_top_and_from_quantiles_of_each_sign():
    texts = [f"w{i} x{i}" for i in range(11)]
    # the first tokens are 1, 2 .. 11; the second ones -0.5 in five sentences, 0 elsewhere
    values = [[v] for i in range(11) for v in (i + 1, -0.5 if i < 5 else 0)]
    found = contexts(written_activations(texts, values), Neuron(0, 0), 2, quantiles=(0.5,))
    positive = [context for context in found if context.sign == "positive"]
    assert [(context.quantile, context.value) for context in positive] == [(1.0, 11), (1.0, 10), (0.5, 6), (0.5, 5)]
    negative = [context for context in found if context.sign == "negative"]
    assert [context.value for context in negative] == [-0.5] * 4
    assert len({context.sentence for context in negative}) == 4
    top = positive[0]
    assert (top.text, top.word, top.text[top.start : top.end], top.sentence) == ("w10 x10", "w10", "w10", 10)
    assert (top.ranges, top.values) == (((0, 3), (4, 7)), (11.0, 0.0))


def test_a_sentence_appears_once_in_a_group_of_contexts():
    activations = written_activations(["a b", "c d"], [[9], [8], [1], [2]])
    found = contexts(activations, Neuron(0, 0), 2, quantiles=())
    assert [(context.sentence, context.value) for context in found] == [(0, 9), (1, 2)]


def test_a_neuron_without_one_sign_has_no_contexts_for_it():
    assert {context.sign for context in contexts(written_activations(["a b"], [[1], [0]]), Neuron(0, 0))} == {
        "positive"
    }
    assert contexts(written_activations(["a b"], [[0], [0]]), Neuron(0, 0)) == []

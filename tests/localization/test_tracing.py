"""Traces by token against restoring one state of one prompt by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact
from analysis.errors import ConfigError
from analysis.localization import trace_states, tracing
from analysis.models import LanguageModel
from analysis.scoring.contrast_pairs import pair_prompts
from tests.raw_model import bridge, raw
from tests.tiny_families import tiny_family

HOOKS = {"state": "hook_resid_post", "MLP": "hook_mlp_out", "attention": "hook_attn_out"}


def tokens_of(group: str, subject: list[int], last: int) -> list[int]:
    return {
        "subject, before its last token": subject[:-1],
        "subject, last token": subject[-1:],
        "between": list(range(subject[-1] + 1, last)),
        "prompt's last token": [last],
    }[group]


def by_hand(model: LanguageModel, pairs, kind: str, layers: list[int], group: str) -> tuple[float, int]:
    """Mean effect over the prompts that have tokens in the group, and their number."""
    effects = []
    for batch in pairs.batches:
        for b in range(len(batch.clean_BP)):
            answer = torch.where(batch.answer_BP[b])[0].tolist()
            where = tokens_of(group, torch.where(batch.subject_BP[b])[0].tolist(), answer[0] - 1)
            if not where:
                continue
            ids = batch.clean_BP[b : b + 1, : answer[-1] + 1]
            noise = batch.noise_BPD[b : b + 1, : answer[-1] + 1]
            kept = {}

            def keep(name, into=kept):
                return lambda activation, hook: into.update({name: activation.clone()})

            def put(name, kept=kept, where=where):
                def hook(activation, hook):
                    activation = activation.clone()
                    activation[0, where] = kept[name][0, where]
                    return activation

                return hook

            def spoil(embedded, hook, noise=noise):
                return embedded + noise

            names = [f"blocks.{layer}.{HOOKS[kind]}" for layer in layers]
            scores = []
            for hooks in (
                [(name, keep(name)) for name in names],
                [("embed.hook_out", spoil)],
                [("embed.hook_out", spoil), *((name, put(name)) for name in names)],
            ):
                with bridge(model).hooks(fwd_hooks=hooks), torch.inference_mode():
                    log_p = raw(model)(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
                scores.append(sum(float(log_p[p - 1, ids[0, p]]) for p in answer))
            effects.append(scores[2] - scores[1])
    return float(np.mean(effects)), len(effects)


def test_traces_equal_restoring_by_hand(either_model: LanguageModel, tiny_concept: Concept):
    longer = replace(tiny_concept, facts=(*tiny_concept.facts[:2], Fact("Kyrgyzstan", "Oslo")))
    pairs = pair_prompts(either_model, longer, corruption="noise", max_prompts=6)
    trace = trace_states(either_model, pairs)
    assert trace.groups == tracing.GROUPS
    # only Kyrgyzstan has several tokens; with one template nothing stands between some subjects and the last token
    assert trace.n_G == (2, 6, 4, 6)
    last = either_model.n_layers - 1
    for kind, layer, group in (
        ("state", 0, "subject, last token"),
        ("state", last, "prompt's last token"),
        ("MLP", 0, "subject, before its last token"),
        ("MLP", last, "prompt's last token"),
        ("attention", 0, "between"),
    ):
        expected, n = by_hand(either_model, pairs, kind, [layer], group)
        k, g = trace.kinds.index(kind), trace.groups.index(group)
        assert trace.effects_KLG[k, layer, g] == pytest.approx(expected, abs=2e-5), (kind, layer, group)
        assert trace.n_G[g] == n
    table = trace.table()
    assert len(table) == 3 * either_model.n_layers * 4
    if trace.clean > trace.corrupted:
        row = table.query("kind == 'state' and layer == 0 and tokens == 'subject, last token'").iloc[0]
        assert row["share"] == pytest.approx(row["effect"] / (trace.clean - trace.corrupted))


def test_windows_restore_several_layers(tiny_model: LanguageModel, tiny_concept: Concept):
    pairs = pair_prompts(tiny_model, tiny_concept, corruption="noise", max_prompts=4)
    trace = trace_states(tiny_model, pairs, window=2)
    group = trace.groups.index("subject, last token")
    for layer, layers in ((0, [0, 1]), (1, [1, 2]), (2, [2])):
        expected, _ = by_hand(tiny_model, pairs, "MLP", layers, "subject, last token")
        assert trace.effects_KLG[trace.kinds.index("MLP"), layer, group] == pytest.approx(expected, abs=2e-5)
    assert tracing._window(5, 10, 30) == list(range(1, 11))


def test_what_cannot_matter_has_no_effect(tiny_model: LanguageModel, tiny_concept: Concept):
    """After the last layer, a state at the subject is never read again."""
    pairs = pair_prompts(tiny_model, tiny_concept, corruption="noise", max_prompts=6)
    shares: list[float] = []
    trace = trace_states(tiny_model, pairs, progress=lambda stage, share: shares.append(share))
    subject = trace.groups.index("subject, last token")
    assert abs(trace.effects_KLG[trace.kinds.index("state"), -1, subject]) < 1e-6
    assert abs(trace.effects_KLG[trace.kinds.index("state"), 0, subject]) > 1e-3
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_wrong_settings_are_refused(tiny_model: LanguageModel, tiny_concept: Concept, unchecked_types):
    pairs = pair_prompts(tiny_model, tiny_concept, corruption="noise", max_prompts=2)
    with pytest.raises(ConfigError, match="window"):
        trace_states(tiny_model, pairs, window=0)
    with pytest.raises(ConfigError, match="no metric"):
        trace_states(tiny_model, pairs, metric="accuracy")


def test_noise_is_as_wide_as_the_embeddings(tokenizer, tmp_path: Path, tiny_concept: Concept):
    """OPT-350M projects its embeddings to the width of the residual stream."""
    model = tiny_family("opt350m", tokenizer, tmp_path)
    assert model.input_embeddings_VD.shape[1] < model.d_model
    pairs = pair_prompts(model, tiny_concept, tiny_concept.facts, corruption="noise")
    assert pairs.batches[0].noise_BPD.shape[2] == model.input_embeddings_VD.shape[1]
    (batch, *_) = pairs.batches
    with torch.inference_mode():
        clean = model.logits(batch.clean_BP)
        with model.hooks(batch.corruption_hooks()):
            assert not torch.equal(model.logits(batch.clean_BP), clean)

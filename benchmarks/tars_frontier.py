"""How much of a concept does TARS remove, at what cost: P(answer) against KL on general text.

    python benchmarks/tars_frontier.py [--part ablation frontier sequential] [--seeds 0 1 2] [--tokens 2000]
                                       [--concepts Paris Potter ...] [--json]

`ablation` changes one choice of the method at a time, on the tuning concepts only. `frontier` takes the defaults found
there to the reported concepts, one concept at a time, over scale and number of edits. `sequential` removes the reported
concepts one after another, in another order for every seed. Concepts and prompts are in `tars_concepts.json`: the
targeting vector is made from a concept's `prompt`, P(answer) is measured on its `forward` prompts, which are never used
for anything else. Neighbours are the other concepts (their aggregation prompts are the contrast of our ranking) and,
apart, bystanders that the method never sees. General text: half built-in neutral sentences (none of those that measure
usual firing), half text sampled from the unedited model. KL(unedited || edited), nats a token.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import models
from analysis.concepts import neutral_sentences
from analysis.edits.settings import build
from analysis.edits.tars.firing import N_GENERAL, general_firing
from analysis.edits.tars.presets import OURS
from analysis.edits.tars.replacement import Ranking, Replacement, applied, rank, replacements
from analysis.edits.tars.targeting import Target, Tars, targeting
from analysis.errors import EditError
from analysis.models.catalog import DEFAULT_MODEL
from analysis.scoring.batches import pad
from tests.raw_model import raw

PARTS = ("frontier", "sequential", "ablation")
PUBLISHED: dict[str, Any] = {}
"""The defaults of `Tars`."""
ABLATION: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "published: 16 down columns": (PUBLISHED, (0.5, 1.0, 2.0)),
    "gain divided": ({"norm_gain": "divide"}, (1.0,)),
    "gain multiplied": ({"norm_gain": "multiply"}, (1.0,)),
    "no noise": ({"refinement": "none"}, (1.0,)),
    "best noisy copy": ({"refinement": "best"}, (1.0,)),
    "best noisy copy, noise 1": ({"refinement": "best", "noise": 1.0}, (1.0,)),
    "gate rows": ({"matrices": ("gate",)}, (1.0,)),
    "up rows": ({"matrices": ("up",)}, (1.0,)),
    "all matrices": ({"matrices": ("gate", "up", "down")}, (1.0,)),
    "1 edit": ({"n_edits": 1}, (4.0, 16.0)),
    "4 edits": ({"n_edits": 4}, (4.0,)),
    "64 edits": ({"n_edits": 64}, (0.5,)),
    "published ranking, our scaling, 1 edit": ({"n_edits": 1, "scaling": "stream"}, (1.25,)),
    "ours: 1 down column of the last layer": (OURS, (0.75, 1.0, 1.25, 1.5)),
    "ours, scaled by the vector": (OURS | {"scaling": "vector"}, (16.0,)),
    "ours, no contrast": (OURS | {"contrast": ()}, (1.25,)),
    "ours, gain not handled": (OURS | {"norm_gain": "none"}, (1.25,)),
    "ours, gain divided": (OURS | {"norm_gain": "divide"}, (1.25,)),
    "ours, no noise": (OURS | {"refinement": "none"}, (1.25,)),
    "ours, 2 edits": (OURS | {"n_edits": 2}, (1.25,)),
    "ours, 4 edits": (OURS | {"n_edits": 4}, (1.25,)),
    "ours, last six layers": (OURS | {"layers": (-6, -1)}, (1.25,)),
}
FRONTIER: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "ours, 1 edit": (OURS, (0.5, 0.75, 1.0, 1.25, 1.5)),
    "published, 16 edits": (PUBLISHED, (0.25, 0.5, 1.0, 2.0)),
    "published, 4 edits": ({"n_edits": 4}, (1.0, 4.0)),
    "published, 1 edit": ({"n_edits": 1}, (4.0, 16.0)),
    "published, 16 edits in all matrices": ({"matrices": ("gate", "up", "down")}, (0.5, 1.0)),
    "ours, 2 edits": (OURS | {"n_edits": 2}, (1.25,)),
}
SEQUENTIAL: dict[str, dict[str, Any]] = {"published": PUBLISHED, "ours": OURS}


@dataclass(frozen=True)
class _Text:
    """Some tokens, where in them predictions are read, and the residual stream before every MLP, unedited."""

    tokens_BP: Tensor
    where: tuple[Tensor, Tensor]
    streams: list[tuple[Tensor, dict[str, Any]]] = field(default_factory=list)


class Bench:
    """A model with everything that is computed once: text, unedited predictions, usual firing."""

    def __init__(self, tokens: int):
        self.model = models.load(DEFAULT_MODEL, device="cpu")
        data = json.loads((Path(__file__).parent / "tars_concepts.json").read_text(encoding="utf-8"))
        self.tuning, self.reported = ({one["trigger"]: one for one in data[key]} for key in ("tuning", "reported"))
        self.bystanders = {one["trigger"]: one for one in data["bystanders"]}
        self.concepts = self.tuning | self.reported
        asked = [(name, p, name, "forward") for name, one in self._everything() for p in one["forward"]]
        asked += [(name, p, a, "reverse") for name, one in self._everything() for p, a in one.get("reverse", [])]
        self.owner = np.array([name for name, *_ in asked])
        self.kind = np.array([kind for *_, kind in asked])
        encoded = [self._split(prompt, answer) for _, prompt, answer, _ in asked]
        self.answers = torch.tensor([answer for _, answer in encoded])
        rows = [ids for ids, _ in encoded]
        last = torch.tensor([len(ids) - 1 for ids in rows])
        self.asked = self._remember(_Text(pad(rows, self.model), (torch.arange(len(rows)), last)))
        self.general = self._general(tokens)
        self.base_p = self.p(0)
        self.base_log_p = self._log_p(self.general, 0)
        self.usual_LN = general_firing(self.model)

    def settings(self, name: str, changes: dict[str, Any], **more: Any) -> Tars:
        """The settings for removing one concept; the others' aggregation prompts are the contrast."""
        one = self.concepts[name]
        contrast = tuple(other["prompt"] for key, other in self.concepts.items() if key != name)
        chosen: dict[str, Any] = {"contrast": contrast if changes.get("ranking") == "firing" else ()} | changes | more
        return build(Tars, {"trigger": name, "prompts": (one["prompt"],)} | chosen)

    def p(self, start: int) -> np.ndarray:
        """P(first token of the answer) of every prompt; layers before `start` are as in the unedited model."""
        return self._log_p(self.asked, start).gather(1, self.answers[:, None])[:, 0].exp().numpy()

    def kl(self, start: int) -> np.ndarray:
        """KL(unedited || edited) at every token of the general text, nats."""
        edited = self._log_p(self.general, start)
        kl = (self.base_log_p.exp() * (self.base_log_p - edited)).sum(-1)
        return kl.clamp_min(0).numpy()

    def measure(self, removed: Sequence[str], start: int) -> dict[str, float]:
        """What the model as it is now still says, and how far its predictions moved."""
        p, kl = self.p(start), self.kl(start)
        mine = np.isin(self.owner, removed)
        forward, reverse = mine & (self.kind == "forward"), mine & (self.kind == "reverse")
        kept = {
            name: p[rows].mean() / self.base_p[rows].mean()
            for name in [*self.concepts, *self.bystanders]
            if name not in removed and (rows := (self.owner == name) & (self.kind == "forward")).any()
        }
        by = [ratio for name, ratio in kept.items() if name in self.bystanders]
        return {
            "p": float(p[forward].mean()),
            "p_before": float(self.base_p[forward].mean()),
            "p_max": float(p[forward].max()),
            "reverse": float(p[reverse].mean() / self.base_p[reverse].mean()) if reverse.any() else float("nan"),
            "kl_median": float(np.median(kl)),
            "kl_mean": float(kl.mean()),
            "kl_p95": float(np.quantile(kl, 0.95)),
            "neighbours": float(np.mean(list(kept.values()))),
            "neighbours_worst": float(min(kept.values())),
            "bystanders": float(np.mean(by)),
            "bystanders_worst": float(min(by)),
        }

    def _everything(self) -> list[tuple[str, dict[str, Any]]]:
        return [*self.concepts.items(), *self.bystanders.items()]

    def _split(self, prompt: str, answer: str) -> tuple[tuple[int, ...], int]:
        """Token ids of a prompt, and the first token of the answer after one space."""
        ids, whole = self.model.encode(prompt).ids, self.model.encode(f"{prompt} {answer}").ids
        return ids, whole[len(ids)]

    def _general(self, tokens: int) -> _Text:
        """Neutral sentences and sampled text, half and half, about `tokens` in all."""
        rows: list[Sequence[int]] = []
        for sentence in neutral_sentences()[N_GENERAL:]:
            if sum(len(ids) - 1 for ids in rows) < tokens / 2:
                rows.append(self.model.encode(sentence.text).ids)
        rows += self._sampled(n=max(tokens // 128, 1), length=64)
        where = [(b, p) for b, ids in enumerate(rows) for p in range(1, len(ids))]
        first, second = zip(*where)
        return self._remember(_Text(pad(rows, self.model), (torch.tensor(first), torch.tensor(second))))

    def _sampled(self, n: int, length: int) -> list[list[int]]:
        """Text that the unedited model writes from nothing, with a fixed seed."""
        generator = torch.Generator().manual_seed(20)
        current = torch.full((n, 1), int(self.model.tokenizer.bos_token_id))
        written, cache = [current], None
        with torch.inference_mode():
            for _ in range(length):
                logits_BPV, cache = self.model.logits_and_cache(current, cache)
                current = torch.multinomial(logits_BPV[:, -1].softmax(-1), 1, generator=generator)
                written.append(current)
        return torch.cat(written, dim=1).tolist()

    def _remember(self, text: _Text) -> _Text:
        """Keep what enters every MLP, so that later passes can start at the first edited one."""
        given: list[dict[str, Any]] = []

        def keep_rest(module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            given.append({key: value for key, value in kwargs.items() if key != "hidden_states"})

        def keep_stream(module: Any, args: tuple) -> None:
            text.streams.append((args[0], given[-1]))

        handles = []
        for layer in raw(self.model).model.layers:
            handles.append(layer.register_forward_pre_hook(keep_rest, with_kwargs=True))
            handles.append(layer.post_attention_layernorm.register_forward_pre_hook(keep_stream))
        with torch.inference_mode():
            whole = self.model.residual(text.tokens_BP)[text.where]
        for handle in handles:
            handle.remove()
        for start in (self.model.n_layers - 2, self.model.n_layers - 1):
            if not torch.allclose(whole, self._final(text, start), atol=1e-3):
                raise RuntimeError("Starting in the middle does not give the hidden states of a whole pass.")
        return text

    def _final(self, text: _Text, start: int) -> Tensor:
        """Final hidden states at the places that are read, from the MLP of layer `start` on."""
        body = raw(self.model).model
        is_last = start == self.model.n_layers - 1
        stream, kwargs = text.streams[start]
        with torch.inference_mode():
            if is_last:  # nothing mixes positions after this MLP
                stream = stream[text.where]
            first = body.layers[start]
            stream = stream + first.mlp(first.post_attention_layernorm(stream))
            for layer in body.layers[start + 1 :]:
                out = layer(stream, **kwargs)
                stream = out[0] if isinstance(out, tuple) else out
            return body.norm(stream if is_last else stream[text.where])

    def _log_p(self, text: _Text, start: int) -> Tensor:
        with torch.inference_mode():
            return self.model.readout.logits(self._final(text, start)).log_softmax(-1)


def first_layer(bench: Bench, changes: Sequence[Replacement]) -> int:
    """The first layer whose weights change."""
    touched = {id(piece.parameter) for piece, _ in changes}
    for layer in range(bench.model.n_layers):
        if touched & {id(weight.parameter) for weight in bench.model.neuron_weights(layer)}:
            return layer
    return bench.model.n_layers - 1


def trial(bench: Bench, config: Tars, known: dict[str, Any]) -> dict[str, Any]:
    """One concept removed from the unedited model, measured, and put back. `known` keeps targets and rankings."""
    settings = config.to_dict()
    target_key = str([settings[key] for key in ("trigger", "refinement", "n_noise", "noise", "tau", "seed")])
    if target_key not in known:
        known[target_key] = targeting(bench.model, config)
    target: Target = known[target_key]
    rank_key = target_key + str([settings[key] for key in ("matrices", "layers", "norm_gain", "ranking", "contrast")])
    if rank_key not in known:
        known[rank_key] = rank(bench.model, config, target, usual_LN=bench.usual_LN)
    ranking: Ranking = known[rank_key]
    changes = replacements(bench.model, config, target, ranking)
    with applied(changes):
        found = bench.measure([config.trigger], first_layer(bench, changes))
    best = ranking.table(top=1).iloc[0]
    return {
        "concept": config.trigger,
        "scale": config.scale,
        "n_edits": config.n_edits,
        "vector": str(best["vector"]),
        "cosine": float(best["cosine"]),
        "p_target": [target.p_before, target.p_after],
        "accepted": target.n_accepted,
        **found,
    }


def grid(
    bench: Bench,
    choices: dict[str, tuple[dict[str, Any], tuple[float, ...]]],
    names: Sequence[str],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Every choice at every scale, each concept removed by itself."""
    rows, known = [], {}
    for label, (changes, scales) in choices.items():
        for scale in scales:
            found = [trial(bench, bench.settings(name, changes, scale=scale), known) for name in names]
            rows += [{"choice": label, **one} for one in found]
            say(_line(f"{label}, scale {scale:g}", found))
    return rows


def sequential(
    bench: Bench,
    names: Sequence[str],
    seeds: Sequence[int],
    say: Callable[[str], None],
    methods: Sequence[str] = tuple(SEQUENTIAL),
) -> list[dict[str, Any]]:
    """All concepts removed one after another, each target made on the model as the earlier edits left it."""
    rows = []
    for label in methods:
        changes = SEQUENTIAL[label]
        for seed in seeds:
            shuffled = np.random.default_rng(seed).permutation(len(names))
            order: list[str] = [names[int(i)] for i in (shuffled if seed else range(len(names)))]
            undo: list[Replacement] = []
            start = bench.model.n_layers - 1
            try:
                for step, name in enumerate(order, 1):
                    config = bench.settings(name, changes, seed=seed)
                    try:
                        target = targeting(bench.model, config)
                    except EditError as error:  # what is left of the model no longer triggers the concept at all
                        say(f"| {label}, seed {seed}, {step} removed: {error} |")
                        rows.append({"choice": label, "seed": seed, "removed": order[:step], "error": str(error)})
                        break
                    ranking = rank(bench.model, config, target)
                    found = replacements(bench.model, config, target, ranking)
                    undo += [(piece, piece.read()) for piece, _ in found]
                    with torch.no_grad():
                        for piece, values in found:
                            piece.write(values)
                    start = min(start, first_layer(bench, found))
                    if step in (1, len(order)) or seed == seeds[0]:
                        one = {"choice": label, "seed": seed, "removed": order[:step], "scale": config.scale}
                        rows.append(one | bench.measure(order[:step], start))
                        say(_line(f"{label}, seed {seed}, {step} removed", [rows[-1]]))
            finally:
                with torch.no_grad():
                    for piece, values in reversed(undo):
                        piece.write(values)
    return rows


def _line(label: str, rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown row: means over the concepts, and the worst of them."""

    def mean(key: str) -> float:
        return float(np.nanmean([row[key] for row in rows])) if not np.isnan([row[key] for row in rows]).all() else 1.0

    worst_p, worst_kl = max(row["p"] for row in rows), max(row["kl_median"] for row in rows)
    lowest = min(row["bystanders_worst"] for row in rows)
    return (
        f"| {label} | {mean('p'):.3f} | {worst_p:.3f} | {mean('kl_median'):.4f} | {worst_kl:.4f} | "
        f"{mean('kl_mean'):.4f} | {mean('kl_p95'):.3f} | {mean('neighbours'):.3f} | {mean('bystanders'):.3f} | "
        f"{lowest:.2f} | {mean('reverse'):.2f} |"
    )


HEADER = (
    "| | P, mean | P, worst concept | median KL, mean | worst concept | mean KL | 95% KL | neighbours kept | "
    "bystanders kept | worst bystander | reverse kept |\n" + "|---" * 11 + "|"
)


def main() -> None:
    """Print the figures: Markdown rows as they come, or one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tokens", type=int, default=2000, help="tokens of general text")
    parser.add_argument("--concepts", nargs="+", help="which of the reported concepts; default: all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # on a busy machine two threads wait for each other many times longer than they compute
    started = time.perf_counter()
    bench = Bench(options.tokens)
    names = options.concepts or list(bench.reported)
    if unknown := {*names} - {*bench.concepts}:
        parser.error(f"There is no concept {min(unknown)}. There are: {', '.join(bench.concepts)}.")

    def say(line: str) -> None:
        print(line, file=sys.stderr if options.json else sys.stdout, flush=True)

    forward = bench.kind == "forward"
    figures: dict[str, Any] = {
        "model": bench.model.name,
        "tokens": len(bench.general.where[0]),
        "p_before": {
            name: round(float(bench.base_p[forward & (bench.owner == name)].mean()), 4)
            for name in [*bench.concepts, *bench.bystanders]
        },
    }
    say(f"{figures['tokens']} tokens of general text; before: {figures['p_before']}\n\n{HEADER}")
    for part in options.part:
        say(f"| **{part}** |" + " |" * 10)
        if part == "sequential":
            figures[part] = sequential(bench, names, options.seeds, say)
        else:
            choices, where = (ABLATION, list(bench.tuning)) if part == "ablation" else (FRONTIER, names)
            figures[part] = grid(bench, choices, where, say)
    figures["seconds"] = round(time.perf_counter() - started)
    say(f"\n{figures['seconds']} s")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()

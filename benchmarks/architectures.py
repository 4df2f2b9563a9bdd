"""What works on every decoder architecture that TransformerLens lists: the table of docs/models.md.

    python benchmarks/architectures.py                       # all of them, some minutes
    python benchmarks/architectures.py --only LlamaForCausalLM GPT2LMHeadModel --json
    python benchmarks/architectures.py --write docs/models.md

Each architecture is built with 3 layers of width 32 and random weights, trained on eight facts until it knows them, saved,
and loaded as a user's folder would be. Every action is checked against plain arithmetic or a plain transformers model, so a
cell is “works”, “refused” with the reason that users read, or “wrong”. An architecture that transformers does not contain,
or that cannot be built this small, is listed as not tried.
"""

import argparse
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from analysis import models
from analysis.components.sites import HEADS, MLP, RESIDUAL
from analysis.concepts import Concept
from analysis.edits import Ledger, from_settings, plan
from analysis.edits.recipe import gather
from analysis.errors import PalimpsestError
from analysis.localization.methods import localize
from analysis.models import LanguageModel
from analysis.models.copying import copy_model
from analysis.models.export import export
from analysis.relearning import RelearnConfig
from analysis.runs.memory import run_in_memory
from analysis.saliency import measure
from benchmarks import tiny

ACTIONS = (
    "load",
    "saliency, neurons",
    "saliency, residual",
    "saliency, heads",
    "localize",
    "prune a neuron",
    "prune a head",
    "TARS",
    "unlearn",
    "undo",
    "relearn",
    "export",
)
_MOST_PARAMETERS = 5_000_000
_ATOL = 2e-4
"""Largest accepted difference of logits, in standard deviations."""

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "mlp_hidden_size"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 3),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_kv_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "max_sequence_length"), 256),
    **dict.fromkeys(("head_dim", "v_head_dim", "kv_channels", "qk_nope_head_dim", "linear_key_head_dim"), 8),
    **dict.fromkeys(("linear_value_head_dim", "kv_lora_rank", "q_lora_rank", "index_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("rotary_dim", "qk_rope_head_dim", "index_n_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "n_group", "topk_group", "moe_k", "linear_num_key_heads"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "mamba_d_state", "state_size"), 16),
    **dict.fromkeys(("linear_num_value_heads", "mamba_d_conv"), 4),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim"), 8),
    "word_embed_proj_dim": 32,
    "initializer_range": 0.1,
    "use_cache": False,
    "layer_types": None,
    "sliding_window": 64,
    "first_k_dense_replace": 3,
}
"""Names under which configurations hold a size; one is set where the configuration has it."""

_SPECIAL: dict[str, dict[str, Any]] = {
    "CohereForCausalLM": {"logit_scale": 1.0},
    "Cohere2ForCausalLM": {"logit_scale": 1.0},
    "DeepseekV2ForCausalLM": {"num_key_value_heads": 4},
    "DeepseekV3ForCausalLM": {"num_key_value_heads": 4},
    "Glm4MoeLiteForCausalLM": {"num_key_value_heads": 4},
    "GlmMoeDsaForCausalLM": {"num_key_value_heads": 4},
    "FalconH1ForCausalLM": {"mamba_d_ssm": 64},
    "GPTNeoForCausalLM": {"attention_types": [[["global"], 3]]},
}
"""Sizes that must agree with others."""


@dataclass
class Row:
    """The outcome of every action on one architecture."""

    architecture: str
    cells: dict[str, str] = field(default_factory=dict)
    untried: str = ""
    """Why the architecture could not be built."""


def decoders() -> list[str]:
    """The causal language models that TransformerLens lists and this version of transformers contains."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return sorted(name for name in SUPPORTED_ARCHITECTURES if name in causal and hasattr(transformers, name))


def build(architecture: str, tokenizer: Any) -> Any:
    """A small random model of a transformers class."""
    kind = getattr(transformers, architecture)
    known = set(kind.config_class().to_dict())
    sizes = {name: value for name, value in _SIZES.items() if name in known and value is not None}
    tokens = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    config = kind.config_class(**{"vocab_size": len(tokenizer), **tokens, **sizes, **_SPECIAL.get(architecture, {})})
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in kind(config).parameters())
    if size > _MOST_PARAMETERS:
        raise ValueError(f"the small configuration still has {size / 1e6:,.0f} M parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(config).float().eval()


def teach(inner: Any, tokenizer: Any, concept: Concept, *, steps: int = 120, loss: float = 0.05) -> None:
    """Train a model on the concept's statements until the loss is below `loss`, at most `steps` steps."""
    texts = [text for fact in concept.facts for text, _ in concept.statements(fact)]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, -100)
    optimiser = torch.optim.AdamW(inner.parameters(), lr=5e-3)
    inner.train()
    for _ in range(steps):
        optimiser.zero_grad()
        now = inner(input_ids=tokens["input_ids"], labels=labels, use_cache=False).loss
        if float(now.detach()) < loss:
            break
        now.backward()
        torch.nn.utils.clip_grad_norm_(inner.parameters(), 1.0)
        optimiser.step()
    inner.eval()


def row(architecture: str, folder: Path) -> Row:
    """Try every action on one architecture."""
    done, concept = Row(architecture), tiny.concept()
    tokenizer = tiny.tokenizer()
    try:
        inner = build(architecture, tokenizer)
        teach(inner, tokenizer, concept)
        inner.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except Exception as error:  # noqa: BLE001 (a size that does not suit this configuration; the row says so)
        done.untried = f"{type(error).__name__}: {error}"
        return done
    loaded: list[LanguageModel] = []
    done.cells["load"] = outcome(lambda: loaded.append(models.load(str(folder), device="cpu")))
    if not loaded:
        return done
    for action, attempt in attempts(loaded[0], concept, folder).items():
        done.cells[action] = outcome(attempt)
    return done


def outcome(attempt: Callable[[], object]) -> str:
    """works; the reason why it was refused; or wrong, with what came out."""
    try:
        attempt()
    except PalimpsestError as error:
        return f"refused: {error}"
    except Exception as error:  # noqa: BLE001 (what users must never see: that is what is counted here)
        return f"wrong: {type(error).__name__}: {error}"
    return "works"


def attempts(model: LanguageModel, concept: Concept, folder: Path) -> dict[str, Callable[[], object]]:
    """Action -> what carries it out and raises an AssertionError if it comes out wrong."""
    tokens = torch.tensor([model.encode(next(concept.statements(concept.facts[0]))[0]).ids])

    def logits(of: LanguageModel) -> torch.Tensor:
        with torch.inference_mode():
            return of.logits(tokens).float()

    def same(one: torch.Tensor, other: torch.Tensor) -> bool:
        return float((one - other).abs().max()) <= _ATOL * float(one.std())

    def scores(site: Any) -> None:
        for method in ("probeless", "gradient_x_activation"):
            (result,) = measure(model, [concept], methods=[method], site=site)
            assert np.isfinite(result.scores_LN).all(), f"{method}: scores are not finite"
            assert (result.scores_LN > 0).any(), f"{method}: all scores are 0"

    def pruned(component: str, hook: str, index: int, size: int) -> None:
        """The same logits as with the component's output set to zero by a hook."""

        def zero(activation: torch.Tensor, hook: Any) -> torch.Tensor:
            activation = activation.clone()
            activation.view(*activation.shape[:2], size, -1)[:, :, index] = 0
            return activation

        change = plan(from_settings("prune", {"components": component}), model, materials())
        with model.hooks([(hook, zero)]):
            wanted = logits(model)
        before, ledger = logits(model), Ledger(model)
        ledger.apply(change)
        found = logits(model)
        ledger.undo_to(0)
        assert not same(before, wanted), "the component does nothing"
        assert same(wanted, found), "other logits than with its output set to zero"
        assert torch.equal(before, logits(model)), "undo left other logits"

    def materials() -> Any:
        return gather(model, concept, facts=False, threshold=0.0)

    def edited(method: str, settings: Mapping[str, Any], then: Callable[[LanguageModel], object]) -> None:
        """Edit a copy, check that its logits moved, that the edit is undone exactly, and call `then` on the edited copy."""
        before, copy = logits(model), copy_model(model)
        known = gather(copy, concept, facts=True, threshold=0.0)
        ledger = Ledger(copy)
        ledger.apply(plan(from_settings(method, settings), copy, known))
        assert not same(before, logits(copy)), "the edit changed nothing"
        then(copy)
        ledger.undo_to(0)
        assert same(before, logits(copy)), "undo left other logits"

    def exported(copy: LanguageModel) -> None:
        with tempfile.TemporaryDirectory() as out:
            export(copy, Path(out) / "model")
            plain = transformers.AutoModelForCausalLM.from_pretrained(Path(out) / "model", dtype=torch.float32).eval()
            with torch.inference_mode():
                found = plain(input_ids=tokens, use_cache=False).logits
        assert same(logits(copy), found), "plain transformers computes other logits"

    def relearned() -> None:
        config = RelearnConfig(
            model=str(folder), concept=concept.name, edit=from_settings("prune", {"top_fraction": 0.05}), steps=3,
            batch_size=4, learning_rate=1e-3, known_threshold=0.0, control=False, precision="float32", cadence="steps",
        )  # fmt: skip
        run = run_in_memory(model, config, concepts={concept.name: concept})
        losses = [event["loss"] for event in run.events() if event["kind"] == "step"]
        assert len(losses) == 3, "steps are missing"
        assert np.isfinite(losses).all(), "a loss is not finite"
        assert run.model is not None
        assert not same(logits(model), logits(run.model)), "training changed nothing"

    fact = concept.facts[0].subject
    unlearn = {"steps": 2, "learning_rate": 1e-3, "precision": "float32"}
    return {
        "saliency, neurons": lambda: scores(MLP),
        "saliency, residual": lambda: scores(RESIDUAL),
        "saliency, heads": lambda: measure(model, [concept], site=HEADS),
        "localize": lambda: localize(model, concept, "activation_patching", facts=concept.facts, corruption="noise"),
        "prune a neuron": lambda: pruned("L1.N3", MLP.hook(1), 3, model.n_neurons),
        "prune a head": lambda: pruned("L1.H2", HEADS.hook(1), 2, model.n_heads),
        "TARS": lambda: edited("tars", {"fact": fact, "tau": 0.001}, lambda copy: None),
        "unlearn": lambda: edited("unlearn", unlearn, lambda copy: None),
        "undo": lambda: edited("mean_ablate", {"components": "L0.N1, L2.N5"}, lambda copy: None),
        "relearn": relearned,
        "export": lambda: edited("unlearn", unlearn, exported),
    }


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Number of architectures, and of cells by outcome."""
    rows = list(rows)
    cells = [cell.partition(":")[0] for one in rows for cell in one.cells.values()]
    return {
        "architectures": len(rows),
        "not tried": sum(bool(one.untried) for one in rows),
        **{outcome: cells.count(outcome) for outcome in ("works", "refused", "wrong")},
    }


def page(rows: Sequence[Row]) -> str:
    """The Markdown page: counts, the table, the reasons for refusals, and what was not tried."""
    reasons: dict[str, int] = {}

    def shown(one: Row, action: str) -> str:
        cell = one.cells.get(action, "")
        if not cell.startswith("refused: "):
            return {"works": "yes", "": ""}.get(cell, cell)
        reason = cell.removeprefix("refused: ").replace(f"“{one.architecture}”", "“…”").replace(one.architecture, "…")
        return f"no ({reasons.setdefault(reason, len(reasons) + 1)})"

    tried = [one for one in rows if not one.untried]
    table = [f"| {one.architecture} | {' | '.join(shown(one, action) for action in ACTIONS)} |" for one in tried]
    sums = ", ".join(f"{number} {name}" for name, number in counts(rows).items())
    return "\n".join(
        [
            _INTRODUCTION.format(sums=sums, versions=f"transformers {transformers.__version__}"),
            f"| architecture | {' | '.join(ACTIONS)} |",
            f"|---|{'---|' * len(ACTIONS)}",
            *table,
            "",
            "Refused, in the words that users read:",
            "",
            *(f"{number}. {reason}" for reason, number in reasons.items()),
            "",
            "Not tried, because the small model could not be built: "
            + (
                ", ".join(f"{one.architecture} ({one.untried.splitlines()[0][:80]})" for one in rows if one.untried)
                or "none"
            )
            + ".",
            "",
        ]
    )


_INTRODUCTION = """# Architectures

What works on every decoder architecture that TransformerLens 4.3 lists and {versions} contains: {sums}
(`python -m benchmarks.architectures --write docs/models.md`, or `make models-table`). Each architecture is built with 3
layers of width 32 and random weights, trained on six facts, saved as a folder, and loaded as a user's folder would be.

- *Saliency* has finite scores by d' and by gradients (heads: by moments alone).
- *Prune a neuron* and *prune a head* give the logits that a hook gives which sets the component's output to zero, and undo
  brings the logits back bit for bit.
- *TARS*, *unlearn* and *undo* (of a mean ablation) change the logits of a copy, and undo brings them back.
- *Relearn* prunes, trains three steps with finite losses, and changes the logits.
- *Export* writes the unlearned weights; plain transformers computes the same logits from them.

An empty cell belongs to an architecture that is refused at load.
"""


def _lines(kept: Path | None) -> list[str]:
    return kept.read_text(encoding="utf-8").splitlines() if kept and kept.is_file() else []


def main() -> None:
    """Read the options, try the architectures one after another, and print or write the table."""
    parser = argparse.ArgumentParser(description="Try everything on every architecture.")
    parser.add_argument("--only", nargs="+", default=None, help="transformers classes (default: all)")
    parser.add_argument("--write", type=Path, default=None, help="Markdown file for the table")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--kept", type=Path, default=None, help="file of finished rows: go on where it ends")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    rows = [Row(**json.loads(line)) for line in _lines(given.kept)]
    for architecture in given.only or decoders():
        if architecture in {one.architecture for one in rows}:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(architecture, Path(folder) / architecture))
        if given.kept:
            with given.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
        print(architecture, rows[-1].untried[:150] or "", flush=True)
        for action, cell in rows[-1].cells.items():
            if cell != "works":
                print(f"    {action}: {cell[:300]}", flush=True)
    rows.sort(key=lambda one: one.architecture)
    if given.write:
        given.write.write_text(page(rows), encoding="utf-8")
    if given.json:
        print(
            json.dumps({"counts": counts(rows), "rows": {one.architecture: one.cells or one.untried for one in rows}})
        )
    else:
        print(counts(rows))


if __name__ == "__main__":
    main()

"""What tracking costs: relearning with snapshots against a plain PyTorch loop of the same steps on the default model.

    python benchmarks/tracking.py [--steps 120] [--plain-steps N] [--threads N] [--cadence adaptive]
        [--track CONCEPT ...] [--json]

The plain loop is what anyone would write: the transformers model as it is loaded, without hooks, the same batches (with
--plain-steps only the first of them), autocast to bfloat16, the gradient clipped, fused AdamW. It runs before and after the
tracked run, and a step of the tracked run is compared with the mean of both, because machines drift. Tracked is everything
from the first step to the last snapshot: choosing when to look, the snapshots, reporting losses. Loading, choosing facts and
the snapshots before training are not in it, and neither is writing files, which the worker does. With several threads the
seconds of a busy machine mean little; `--threads 1` and the processor time beside them do. On CUDA the clocks are read after
a synchronisation.

The last line with --json: overhead_ratio, step_seconds, plain_step_seconds, device, and more.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import concepts, models, relearning
from analysis.concepts import split_neutral
from analysis.models import LanguageModel
from analysis.models.catalog import DEFAULT_MODEL, resolve
from analysis.models.fetch import locate
from analysis.relearning import RelearnConfig
from analysis.relearning.mixture import Mixture
from analysis.relearning.tasks.facts import FactTask, Row
from analysis.scoring import factual_recall
from analysis.scoring.batches import pad


@dataclass(frozen=True)
class Clock:
    """Wall and processor time at one moment."""

    wall: float
    processor: float

    @classmethod
    def read(cls, device: torch.device) -> "Clock":
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return cls(time.perf_counter(), time.process_time())

    def since(self, before: "Clock") -> tuple[float, float]:
        return self.wall - before.wall, self.processor - before.processor


def main() -> None:
    """Plain, tracked, plain again; print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--plain-steps", type=int, help="of the plain loop, each time (default: all of --steps)")
    parser.add_argument("--threads", type=int, help="processor threads (default: PyTorch's choice)")
    parser.add_argument("--cadence", choices=["adaptive", "steps", "log"], default="adaptive")
    parser.add_argument("--track", nargs="*", default=[], help="further concepts to track")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.plain_steps is not None and options.plain_steps < 1:
        parser.error("--plain-steps must be at least 1")
    logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = RelearnConfig(
        model=DEFAULT_MODEL,
        concept="capitals",
        steps=options.steps,
        cadence=options.cadence,
        track=tuple(options.track),
        device=options.device,
        control=False,
    )
    model = models.load(DEFAULT_MODEL, device=options.device)
    batches = _batches(model, config)[: options.plain_steps]
    _say("the plain loop")
    plain = [_plain(config, batches, model)]
    _say("the tracked run")
    tracked, snapshots = _tracked(config, model)
    del model
    _say("the plain loop again")
    plain.append(_plain(config, batches, models.load(DEFAULT_MODEL, device=options.device)))
    result = {**_result(config, plain, tracked, snapshots), "plain_steps": len(batches)}
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")


def _batches(model: LanguageModel, config: RelearnConfig) -> list[list[Row]]:
    """The very rows that the run draws."""
    concept = concepts.load(config.concept)
    facts = relearning.choose_facts(model, concept, config.known_threshold)
    train_text, _ = split_neutral(concepts.neutral_sentences())
    mixture = Mixture(config, FactTask(model, config, concept, facts, train_text).rows)
    return [mixture.draw() for _ in range(config.steps)]


def _plain(config: RelearnConfig, batches: list[list[Row]], padder: LanguageModel) -> tuple[float, float]:
    """Seconds and processor seconds of a step of a plain loop over the batches, on a model without a bridge."""
    device = padder.device
    folder = locate(resolve(config.model))
    inner: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.nn.Module.to(inner, device)
    optimiser = torch.optim.AdamW(
        inner.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    begun = Clock.read(device)
    for rows in batches:
        tokens = pad(rows, padder)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = inner(input_ids=tokens, use_cache=False).logits
        loss = factual_recall.token_losses(logits, tokens, lengths).sum() / (lengths - 1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(inner.parameters(), config.clip)
        optimiser.step()
    wall, processor = Clock.read(device).since(begun)
    return wall / len(batches), processor / len(batches)


def _tracked(config: RelearnConfig, model: LanguageModel) -> tuple[tuple[float, float], int]:
    """The same of a whole run, from its first step to its last snapshot, and the snapshots taken in between."""
    begun: list[Clock] = []

    def started(stage: str) -> None:
        if stage == "Relearning":
            begun.append(Clock.read(model.device))

    taken = sum(one.phase == "training" for one in relearning.run(config, model=model, on_progress=started))
    return Clock.read(model.device).since(begun[0]), taken


def _result(
    config: RelearnConfig, plain: list[tuple[float, float]], tracked: tuple[float, float], snapshots: int
) -> dict[str, Any]:
    plain_wall, plain_processor = (sum(step[i] for step in plain) / len(plain) for i in (0, 1))
    wall, processor = (total / config.steps for total in tracked)
    return {
        "overhead_ratio": round(wall / plain_wall, 4),
        "overhead_ratio_processor": round(processor / plain_processor, 4),
        "plain_runs_ratio": round(plain[1][0] / plain[0][0], 4),
        "step_seconds": round(wall, 4),
        "plain_step_seconds": round(plain_wall, 4),
        "steps": config.steps,
        "snapshots": snapshots,
        "cadence": config.cadence,
        "concepts": len(config.tracked),
        "threads": torch.get_num_threads(),
        "device": _device(config.device),
    }


def _device(asked: str) -> str:
    name = models.pick_device(asked)
    return torch.cuda.get_device_name(name) if name.startswith("cuda") else f"{name} ({platform.machine()})"


def _say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

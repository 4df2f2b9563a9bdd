"""Estimated against real peak memory of relearning, for several ways to train the default model.

    python benchmarks/memory.py [--steps 4] [--device cpu] [--json]

Every way is a run in a process of its own; its peak is the largest resident size that the kernel saw (on CUDA the most that
PyTorch reserved). The last line with --json has a row for each: settings, estimated_gib, peak_gib, ratio.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import models
from analysis.jobs import queue
from analysis.models import catalog, fetch
from analysis.relearning import RelearnConfig
from analysis.relearning.resources import ModelSize, memory_estimate

WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"precision": "float32"},
    {"optimiser": "sgd"},
    {"lora_rank": 16},
    {"train_only": "L28.MLP, L29.MLP"},
    {"batch_size": 64},
    {"batch_size": 64, "accumulate": 4},
)


def main() -> None:
    """Run every way and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.way is not None:
        print(json.dumps({"peak": _peak(_config(options, json.loads(options.way)))}))
        return
    rows = []
    for way in WAYS:
        config = _config(options, way)
        size = ModelSize.stored(fetch.locate(catalog.resolve(config.model)))
        estimated = memory_estimate(config, size, queue.device_of(options.device)).needed
        command = [sys.executable, __file__, "--steps", str(options.steps), "--device", options.device]
        done = subprocess.run([*command, "--way", json.dumps(way)], check=True, stdout=subprocess.PIPE, text=True)
        peak = json.loads(done.stdout.splitlines()[-1])["peak"]
        row = {
            "settings": ", ".join(f"{name}={value}" for name, value in way.items()) or "default",
            "estimated_gib": round(estimated / 2**30, 2),
            "peak_gib": round(peak / 2**30, 2),
            "ratio": round(estimated / peak, 2),
        }
        rows.append(row)
        print(row, file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps({"rows": rows}))


def _config(options: argparse.Namespace, way: dict[str, Any]) -> RelearnConfig:
    config = RelearnConfig(
        model=catalog.DEFAULT_MODEL, concept="capitals", steps=options.steps, device=options.device, control=False
    )
    return dataclasses.replace(config, **way)


def _peak(config: RelearnConfig) -> int:
    """Peak bytes of a whole run in this process."""
    import torch

    from analysis import relearning

    for _ in relearning.run(config):
        pass
    if models.pick_device(config.device).startswith("cuda"):
        return torch.cuda.max_memory_reserved()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

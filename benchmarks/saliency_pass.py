"""What streaming saliency costs over the bare forward pass, and over the cache-everything way.

    python benchmarks/saliency_pass.py [--tokens FILE --labels FILE] [--sentences 1250] [--repeats 3] [--json]

Three concepts are labelled in the same sentences. In one process, in turn, over the same batches of the default model:
the bare forward pass without head; the streamed pass that gives every forward-only method its numbers; and the usual
way (`run_with_cache`, then numpy), whose memory grows with the text, so that it runs on the first `--cached` sentences
and is compared with a bare pass over the same ones. Ratios are of medians. What is then computed from the pass
(average precision, the probe) is timed by itself. Peak memory is measured for a quarter of the text and for all of it:
streaming must not grow.

Without --tokens the sentences are the built-in ones, repeated with their numbers in front until there are enough.
"""

import argparse
import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import concepts, models
from analysis.components.sites import MLP
from analysis.concepts import Concept, Sentence
from analysis.models import LanguageModel
from analysis.models.catalog import DEFAULT_MODEL
from analysis.saliency import from_moments, from_sample
from analysis.saliency.moments import stream
from analysis.scoring.batches import LabelledText, label_concepts
from tests.raw_model import bridge


def main() -> None:
    """Print the figures, as text or as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=Path, help="Real text: one tokenised sentence a line.")
    parser.add_argument("--labels", type=Path, help="A label for each of its tokens.")
    parser.add_argument("--sentences", type=int, default=1250)
    parser.add_argument("--cached", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable_progress_bar()
    model = models.load(DEFAULT_MODEL)
    sentences = _sentences(options)[: options.sentences]
    text, few = (label_concepts(model, _three(some)) for some in (sentences, sentences[: options.cached]))
    ways: dict[str, Callable[[], Any]] = {
        "bare": lambda: _bare_forward(model, text),
        "streaming": lambda: stream(model, text),
        "bare_few": lambda: _bare_forward(model, few),
        "cached_few": lambda: _cached(model, few),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    _bare_forward(model, few)  # warm up
    for _ in range(options.repeats):
        for name, way in ways.items():
            before = time.process_time()
            seconds[name].append(_timed(way))
            processor[name].append(time.process_time() - before)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    processed = {name: statistics.median(times) for name, times in processor.items()}
    quarter = label_concepts(model, _three(sentences[: len(sentences) // 4]))
    figures = {
        "device": str(model.device),
        "sentences": len(sentences),
        "tokens": sum(int((batch.weights_GBP.sum(0) > 0).sum()) for batch in text.batches),
        "concepts": len(text.concepts),
        "bare_seconds": round(medians["bare"], 2),
        "streaming_ratio": round(medians["streaming"] / medians["bare"], 3),
        "streaming_ratio_of_best": round(min(seconds["streaming"]) / min(seconds["bare"]), 3),
        "streaming_ratio_of_processor_time": round(processed["streaming"] / processed["bare"], 3),
        "cached_ratio_of_processor_time": round(processed["cached_few"] / processed["bare_few"], 3),
        "threads": torch.get_num_threads(),
        "cached_ratio": round(medians["cached_few"] / medians["bare_few"], 3),
        "streaming_over_cached": round(
            (medians["streaming"] / medians["bare"]) / (medians["cached_few"] / medians["bare_few"]), 3
        ),
        "streaming_extra_mib_quarter": _extra_mib(
            lambda: stream(model, quarter), lambda: _bare_forward(model, quarter)
        ),
        "streaming_extra_mib": _extra_mib(lambda: stream(model, text), lambda: _bare_forward(model, text)),
        "cached_extra_mib_per_100_sentences": round(
            _extra_mib(lambda: _cached(model, few), lambda: _bare_forward(model, few)) / options.cached * 100
        ),
    }
    moments, sample = stream(model, text)
    for method in ("probeless", "standardised"):
        figures[f"{method}_seconds"] = round(
            _timed(lambda m=method: [from_moments(moments, c, m) for c in text.concepts]), 2
        )
    figures["average_precision_seconds"] = round(
        _timed(lambda: [from_sample(sample, c, "average_precision") for c in text.concepts]), 2
    )
    figures["probe_seconds_one_concept"] = round(_timed(lambda: from_sample(sample, text.concepts[0], "probe")), 2)
    figures["sampled_tokens"] = len(sample.values_SLN)
    lines = [json.dumps(figures)] if options.json else [f"{name}: {value}" for name, value in figures.items()]
    print("\n".join(lines))


def _sentences(options: argparse.Namespace) -> list[Sentence]:
    if options.tokens is not None:
        concept = concepts.from_token_lines(options.tokens.read_text(), options.labels.read_text(), name="labelled")
        return list(concept.sentences)
    built_in = [one for name in concepts.BUILT_IN for one in concepts.load(name).sentences]
    repeats = -(-options.sentences // len(built_in))
    shifted = []
    for n in range(repeats):
        for one in built_in:
            lead = f"{n}) "
            spans = tuple((start + len(lead), end + len(lead)) for start, end in one.spans)
            shifted.append(Sentence(lead + one.text, spans))
    return shifted


def _three(sentences: list[Sentence]) -> list[Concept]:
    """The labelled words themselves, words in capitals, and words of one or two letters, in the same sentences."""
    rules: dict[str, Callable[[str], bool]] = {"capitalised": lambda w: w[:1].isupper(), "short": lambda w: len(w) < 3}
    made = [Concept(name="labelled", title="labelled", sentences=tuple(sentences))]
    for name, rule in rules.items():
        marked = []
        for one in sentences:
            spans, place = [], 0
            for word in one.text.split(" "):
                if word and rule(word):
                    spans.append((place, place + len(word)))
                place += len(word) + 1
            marked.append(Sentence(one.text, tuple(spans)))
        made.append(Concept(name=name, title=name, sentences=tuple(marked)))
    return made


def _bare_forward(model: LanguageModel, text: LabelledText) -> None:
    with torch.inference_mode():
        for batch in text.batches:
            model.residual(batch.tokens_BP)


def _cached(model: LanguageModel, text: LabelledText) -> list[np.ndarray]:
    """The way it is usually done: keep all activations, then compute with numpy."""
    names = [MLP.hook(layer) for layer in range(model.n_layers)]
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    labels = []
    with torch.inference_mode():
        for batch in text.batches:
            _, cache = bridge(model).run_with_cache(batch.tokens_BP, names_filter=names)
            for name in names:
                kept[name].append(cache[name].flatten(0, 1).numpy())
            labels.append(batch.weights_GBP.flatten(1).numpy())
    weights = np.concatenate(labels, axis=1).astype(bool)
    rows = [np.concatenate(kept[name]) for name in names]
    return [
        np.stack([np.abs(row[own].mean(0) - row[other].mean(0)) for row in rows])
        for own, other in zip(weights[0::2], weights[1::2])
    ]


def _timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _extra_mib(way: Callable[[], object], baseline: Callable[[], object]) -> float:
    """Peak memory of `way` over that of `baseline`, in MiB."""
    return round(_peak(way) - _peak(baseline), 1)


def _peak(way: Callable[[], object]) -> float:
    process, done, peaks = psutil.Process(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.005):
            peaks.append(process.memory_info().rss)

    gc.collect()
    before = process.memory_info().rss
    thread = threading.Thread(target=watch)
    thread.start()
    way()
    done.set()
    thread.join()
    return (max(peaks) - before) / 2**20


if __name__ == "__main__":
    main()

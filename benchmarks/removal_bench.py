"""What the parts of `removal_report.py` share: a file of finished cells, and one model that is edited and put back.

Facts are those that the unedited model knows. Every measure keeps one value a fact, so that intervals can be taken over
facts and seeds together.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis import concepts, models
from analysis.concepts import Fact, split_neutral
from analysis.edits import Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.examples import FactChoice, rows_by_kind
from analysis.edits.gradient.objectives.inject import Inject
from analysis.edits.gradient.training import Training, plan_gradient
from analysis.errors import StoppedError
from analysis.evaluation import intervals
from analysis.evaluation.attacks import halves
from analysis.evaluation.choice import Question, option_scores, questions
from analysis.evaluation.scoring import per_fact, score_answers
from analysis.models.catalog import DEFAULT_MODEL
from analysis.scoring import factual_recall

CONCEPT = "capitals"
RELEARNING: dict[str, Any] = {"steps": 20, "learning_rate": 5e-5}
"""The attack: cross-entropy on half of the removed facts with their true answers, on maintained facts and sentences."""
KEPT_SHARE = 0.9


class Cells:
    """Finished measurements, one JSON line each; those found in the file are not measured again."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The cell with this key; settings are part of it."""
        plain = json.loads(json.dumps(key))
        return next((row for row in self.rows if row["key"] == plain), None)

    def get(self, key: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The cell with this key, measured now if it is not there."""
        if (found := self.find(key)) is not None:
            return found
        started = time.monotonic()
        row = {"key": json.loads(json.dumps(key)), **work(), "seconds": round(time.monotonic() - started)}
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        brief = {name: mean(row[name]) for name in ("forget", "updated", "maintained") if row.get(name)}
        print(f"{json.dumps(key)[:160]}… {brief} {row['seconds']} s", file=sys.stderr, flush=True)
        return row

    def of(self, part: str, **wanted: Any) -> list[dict[str, Any]]:
        """All cells of a part whose key has these values."""
        return [row for row in self.rows if all(row["key"].get(k) == v for k, v in ({"part": part} | wanted).items())]


class Bench:
    """The default model on the CPU, with what is computed once."""

    def __init__(self) -> None:
        self.model = models.load(DEFAULT_MODEL, device="cpu")
        self.concept = concepts.load(CONCEPT)
        self.known = tuple(factual_recall.known_facts(self.model, self.concept)[0])
        train_text, measured = split_neutral(concepts.neutral_sentences())
        self.materials = Materials(concept=self.concept, forget=self.known, neutral=train_text)
        self.neutral = factual_recall.prepare_neutral(self.model, measured)
        self._saved = {name: weight.detach().clone() for name, weight in self.model.weights.items()}

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """The unedited weights again at the end."""
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.model.weights.items():
                    weight.copy_(self._saved[name])

    def plan(self, edit: GradientEdit) -> Training:
        return plan_gradient(edit, self.model, self.materials)

    def train(self, change: Training, enough: Callable[[], bool] | None = None, every: int = 5) -> int:
        """Carry the training out; stop where `enough` says so, asked after every `every` steps. Gives the steps done."""
        done = 0

        def count(step: int, *_: Any) -> None:
            nonlocal done
            done = step

        change.on_step = count
        if enough is not None:
            change.should_stop = lambda: done % every == 0 and enough()
        with suppress(StoppedError):  # the weights stay as trained so far: only a ledger puts them back
            change.write(self.model)
        return done

    def p(self, facts: Sequence[Fact], *, paraphrased: bool = False) -> list[float]:
        """P(answer) of each fact."""
        if not facts:
            return []
        probe = factual_recall.prepare_facts(self.model, self.concept, facts, paraphrased=paraphrased)
        return _short(per_fact(probe, [answer.p for answer in score_answers(self.model, probe)]))

    def perplexity(self, facts: Sequence[Fact]) -> list[float]:
        """exp(cross-entropy per answer token) of each fact, over its prompts."""
        probe = factual_recall.prepare_facts(self.model, self.concept, facts)
        scored = score_answers(self.model, probe)
        return _short(np.exp(per_fact(probe, [-float(answer.log_p_A.mean()) for answer in scored])))

    def neutral_loss(self) -> float:
        return round(factual_recall.neutral_loss(self.model, self.neutral), 4)

    def choices(self, true: Sequence[Fact], new: Sequence[Fact], seed: int) -> dict[str, list[float]]:
        """Multiple choice by likelihood, one value a fact: whether the true, and the new, answer is chosen of four.

        With new answers both are among the options.
        """
        asked = list(questions(self.concept, true, seed=seed))
        for i, fact in enumerate(new):
            if fact.answer not in asked[i].options:
                options = list(asked[i].options)
                options[(asked[i].right + 1) % len(options)] = fact.answer
                asked[i] = Question(asked[i].fact, tuple(options), asked[i].right)
        best = [one.options[int(s.argmax())] for one, s in zip(asked, option_scores(self.model, self.concept, asked))]
        found = {"choice_true": [float(b == fact.answer) for b, fact in zip(best, true)]}
        if new:
            found["choice_new"] = [float(b == fact.answer) for b, fact in zip(best, new)]
        return found

    def relearned(self, choice: FactChoice, seed: int) -> dict[str, list[float]]:
        """Train on half of the removed facts, maintained ones and sentences; P(answer) of the other half, and of it."""
        trained, held_out = halves(choice.removed, seed=seed)
        edit = Inject(seed=seed, **RELEARNING)
        true = FactChoice(forget=(), update=trained, injected=trained, maintain=choice.maintain)
        attack = Training(
            edit=edit,
            shape=self.model.component_shape,
            facts=true,
            rows=rows_by_kind(self.model, edit, true, self.materials),
            n_weights=self.model.n_parameters,
            n_parameters=self.model.n_parameters,
        )
        self.train(attack)
        return {"relearned_held_out": self.p(held_out), "relearned_trained": self.p(trained)}


def mean(values: float | Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def shown(values: Sequence[float], digits: int = 2) -> str:
    """A mean of values in [0, 1], one a fact, with its 95% interval: `0.12 (0.03–0.24)`."""
    if len(values) == 0:
        return ""
    found = intervals.mean("", values, counts="facts", unit="")
    return f"{found.value:.{digits}f} ({found.low:.{digits}f}–{found.high:.{digits}f})"


def pooled(cells: Sequence[dict[str, Any]], name: str) -> list[float]:
    """One value a fact of all cells, one cell after the other."""
    return [value for cell in cells for value in cell.get(name, ())]


def _short(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]

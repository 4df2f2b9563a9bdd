"""Part `surgery` of the removal report: LLM Surgery with the published constants and with ours.

Eight known facts are unlearned and eight others get a new answer. Multiple choice is by likelihood, of four: the right
answer, the new one and two others. KL(unedited || edited) is taken on general text that was not trained on (neutral
sentences and text sampled from the unedited model), and on the maintained facts' statements.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from removal_bench import KEPT_SHARE, Bench, Cells, mean, pooled, shown

from analysis.edits.gradient.objectives.llm_surgery import RELEASED_LLM_SURGERY, LlmSurgery
from analysis.evaluation import offline_text
from analysis.evaluation.kl import KL, Reference, against, remember
from analysis.scoring.batches import span_tokens

FACTS = 8
_LATE = ", ".join(f"L{i}.MLP" for i in range(15, 30))
"""The MLPs of the later half."""
_FIRST: dict[str, Any] = {
    "steps": 48,
    "learning_rate": 1e-4,
    "lambda_forget": 0.1,
    "lambda_update": 2.0,
    "lambda_retain": 20.0,
    "cap": 4.0,
}
TRIED: dict[str, dict[str, Any]] = {
    "first": _FIRST,
    "reversed": _FIRST | {"lambda_forget": 0.5},
    "retained": _FIRST | {"lambda_forget": 0.5, "lambda_retain": 50.0},
    "late-MLPs": _FIRST | {"lambda_forget": 0.5, "only": _LATE},
    "late-retained": _FIRST | {"lambda_forget": 0.5, "lambda_retain": 50.0, "only": _LATE},
    "late-larger": _FIRST | {"lambda_forget": 0.5, "lambda_retain": 50.0, "only": _LATE, "batch_size": 16},
}
"""What our setting was chosen from, with the first seed, every maintained fact in the retain set."""
SETTINGS: dict[str, dict[str, Any]] = {
    "ours": {"only": _LATE, "batch_size": 16},
    "ours-all-weights": {},
    "published": RELEASED_LLM_SURGERY,
    "published-sampled": RELEASED_LLM_SURGERY | {"retain_count": 64},
}
"""What is changed of the defaults."""
LABELS = {
    "ours": "ours, MLPs of the later half",
    "ours-all-weights": "ours, all weights (the defaults)",
    "published": "published",
    "published-sampled": "published, retain set drawn",
}
AIM = 0.05
"""At most: KL in nats a token, and P(unlearned)."""
SETS = ("unlearned", "updated: right answer", "updated: new answer", "maintained")
PLACES = ("inside the prompt", "the answer", "after the answer")
"""Of a maintained statement."""


def run(bench: Bench, cells: Cells, seeds: Sequence[int], settings: Sequence[str]) -> None:
    """Measure every cell that is not there yet: `settings` with all seeds, and what was tried with the first."""
    with tempfile.TemporaryDirectory() as folder:
        general: list[Reference] = []

        def reference() -> Reference:
            if not general:
                text = offline_text(bench.model)
                general.append(remember(bench.model, text.texts, folder=Path(folder)))
            return general[0]

        for name in settings:
            for seed in seeds if name in SETTINGS else seeds[:1]:
                edit = _edit(name, seed)
                # facts are drawn by the seed alone, so all settings start from the same measurements
                before = next((row["before"] for row in cells.of("surgery", seed=seed)), None)
                cells.get(_key(edit), partial(_measured, bench, edit, reference, Path(folder), before))


def _edit(name: str, seed: int) -> LlmSurgery:
    changes = SETTINGS[name] if name in SETTINGS else TRIED[name]
    return LlmSurgery(seed=seed, forget_count=FACTS, update_count=FACTS, **changes)


def _key(edit: LlmSurgery) -> dict[str, Any]:
    """As the first cells have it, which were measured when the size of the retain set was no setting."""
    settings = edit.to_dict()
    drawn = settings.pop("retain_count")
    return {"part": "surgery", "seed": edit.seed, "edit": settings, "all_facts_retained": not drawn}


def _measured(
    bench: Bench,
    edit: LlmSurgery,
    reference: Callable[[], Reference],
    folder: Path,
    before: dict[str, Any] | None,
) -> dict[str, Any]:
    reference()  # of the unedited model
    change = bench.plan(edit)
    facts = change.facts
    ((_, maintained),) = facts.maintain
    statements = [next(iter(bench.concept.statements(fact))) for fact in maintained]
    kept = remember(bench.model, [text for text, _ in statements], folder=folder)
    before = before or _measure(bench, change.facts, edit.seed)
    with bench.put_back():
        bench.train(change)
        after = _measure(bench, change.facts, edit.seed)
        moved = {"general text": against(bench.model, reference()), "maintained facts": against(bench.model, kept)}
    after["kl"] = {
        name: {one.name: [round(value, 5) for value in (one.value, one.low, one.high)] for one in kl.measures()}
        for name, kl in moved.items()
    }
    after["kl_where"] = _where(bench, moved["maintained facts"], kept, statements)
    Path(kept.path).unlink()
    return {"before": before, "after": after}


def _where(bench: Bench, kl: KL, kept: Reference, statements: Sequence[tuple[str, int]]) -> dict[str, list[float]]:
    """Mean KL of every statement's next-token predictions: inside its prompt, of its answer, and of what follows it."""
    starts = {}
    for text, start in statements:
        encoded = bench.model.encode(text)
        starts[encoded.ids] = span_tokens(encoded, start, len(text))[0]
    found: dict[str, list[float]] = {name: [] for name in PLACES}
    for i, row in enumerate(kept.rows):
        kl_P, first = kl.kl_T[kl.text_T == i], starts[row]  # position p predicts token p + 1
        for name, part in zip(PLACES, (kl_P[: first - 1], kl_P[first - 1 : -1], kl_P[-1:])):
            found[name].append(round(float(part.mean()), 5))
    return found


def _measure(bench: Bench, facts: Any, seed: int) -> dict[str, Any]:
    ((_, maintained),) = facts.maintain
    sets = dict(zip(SETS, (facts.forget, facts.update, facts.injected, maintained)))
    return {
        "p": {name: bench.p(chosen) for name, chosen in sets.items()},
        "paraphrased": {name: bench.p(chosen, paraphrased=True) for name, chosen in sets.items()},
        "perplexity": {name: bench.perplexity(chosen) for name, chosen in sets.items()},
        "neutral_loss": bench.neutral_loss(),
        "unlearned_choice": bench.choices(facts.forget, (), seed)["choice_true"],
        "maintained_choice": bench.choices(maintained, (), seed)["choice_true"],
        **{f"updated_{name}": found for name, found in bench.choices(facts.update, facts.injected, seed).items()},
    }


def report(cells: Cells, seeds: Sequence[int]) -> str:
    """The part as Markdown, from the cells that are there."""
    found = {name: _rows(cells, name, seeds) for name in SETTINGS}
    found = {name: rows for name, rows in found.items() if rows}
    lines = ["| | " + " | ".join(LABELS[name] for name in found) + " |", "|---|" + "---|" * len(found)]

    def add(label: str, values: list[str]) -> None:
        lines.append(f"| {label} | " + " | ".join(values) + " |")

    kept = [rows[0]["key"]["all_facts_retained"] for rows in found.values()]
    add("retain set", ["every maintained fact" if every else "64 texts drawn" for every in kept])
    add("settings", ["`" + _settings(rows[0]) + "`" for rows in found.values()])
    add("seeds", [", ".join(str(row["key"]["seed"]) for row in rows) for rows in found.values()])
    for label, key in (
        ("update set, new answer chosen", "updated_choice_new"),
        ("update set, right answer chosen", "updated_choice_true"),
        ("unlearn set, right answer chosen", "unlearned_choice"),
        ("maintained, right answer chosen", "maintained_choice"),
    ):
        add(label, [f"{_two(rows, key)}" for rows in found.values()])
    for kind, label in (("p", "P"), ("paraphrased", "P, paraphrased")):
        for name in SETS:
            add(f"{label}: {name}", [_two(rows, kind, name) for rows in found.values()])
    add("P: unlearned, by seed", [", ".join(_gone(row) for row in rows) for rows in found.values()])
    add(
        "maintained, share of before, by seed",
        [", ".join(_share(row) for row in rows) for rows in found.values()],
    )
    for name in ("general text", "maintained facts"):
        for measure in ("kl_median", "kl_mean"):
            add(f"KL on {name}, {measure[3:]}, by seed", [_kl(rows, name, measure) for rows in found.values()])
    for place in PLACES:
        add(f"KL on maintained facts, {place}, mean", [_at(rows, place) for rows in found.values()])
    for name in SETS:
        add(f"perplexity of answers, median: {name}", [_perplexity(rows, name) for rows in found.values()])
    add(
        "loss on neutral sentences, by seed",
        [
            ", ".join(f"{row['before']['neutral_loss']:.2f} → {row['after']['neutral_loss']:.2f}" for row in rows)
            for rows in found.values()
        ],
    )
    return "\n".join(lines)


def tried(cells: Cells, seeds: Sequence[int]) -> str:
    """What our setting was chosen from, as Markdown: the first seed, values after training."""
    columns = ("setting", "new answer chosen", "P(unlearned)", "paraphrased", "P(old answer)")
    columns += ("maintained, share of before", "KL general, median / mean", "KL maintained, median / mean")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    ours = _rows(cells, "ours", seeds[:1])
    for name in TRIED:
        for row in _rows(cells, name, seeds[:1]):
            after, label = row["after"], f"`{_settings(row)}`"
            label = f"**ours**: {label}" if row in ours else label
            values = [mean(after["updated_choice_new"]), mean(after["p"]["unlearned"])]
            values += [mean(after["paraphrased"]["unlearned"]), mean(after["p"]["updated: right answer"])]
            kls = [
                " / ".join(f"{after['kl'][text][measure][0]:.3f}" for measure in ("kl_median", "kl_mean"))
                for text in ("general text", "maintained facts")
            ]
            shown_values = [f"{value:.3f}" for value in values]
            lines.append("| " + " | ".join([label, *shown_values, _share(row), *kls]) + " |")
    return "\n".join(lines)


def _rows(cells: Cells, name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A setting's cells, one a seed; those of settings that have changed since are not found."""
    found = [cells.find(_key(_edit(name, seed))) for seed in seeds]
    return [row for row in found if row is not None]


def _settings(row: dict[str, Any]) -> str:
    edit = row["key"]["edit"]
    shown_fields = ("steps", "learning_rate", "lambda_forget", "lambda_update", "lambda_retain", "cap")
    if edit["batch_size"] != LlmSurgery().batch_size:
        shown_fields += ("batch_size",)
    only = edit["only"].split(", ")
    confined = f", only {only[0]} to {only[-1]}" if edit["only"] else ""
    return ", ".join(f"{name} {edit[name]}" for name in shown_fields) + confined


def _values(rows: Sequence[dict[str, Any]], when: str, key: str, name: str | None) -> list[float]:
    sides = [{"of": row[when][key] if name is None else row[when][key][name]} for row in rows]
    return pooled(sides, "of")


def _two(rows: Sequence[dict[str, Any]], key: str, name: str | None = None) -> str:
    return " → ".join(shown(_values(rows, when, key, name)) for when in ("before", "after"))


def _gone(row: dict[str, Any]) -> str:
    left = mean(row["after"]["p"]["unlearned"])
    return f"{left:.3f}" + ("" if left <= AIM else " (missed)")


def _share(row: dict[str, Any]) -> str:
    share = mean(row["after"]["p"]["maintained"]) / mean(row["before"]["p"]["maintained"])
    return f"{share:.2f}" + ("" if share >= KEPT_SHARE else " (missed)")


def _kl(rows: Sequence[dict[str, Any]], name: str, measure: str) -> str:
    found = [row["after"]["kl"][name][measure] for row in rows]
    return ", ".join("{:.3f} ({:.3f}–{:.3f})".format(*kl) + ("" if kl[0] <= AIM else " (missed)") for kl in found)


def _at(rows: Sequence[dict[str, Any]], place: str) -> str:
    measured = [row for row in rows if "kl_where" in row["after"]]
    return ", ".join(f"{mean(row['after']['kl_where'][place]):.3f}" for row in measured)


def _perplexity(rows: Sequence[dict[str, Any]], name: str) -> str:
    before, after = (np.median(_values(rows, when, "perplexity", name)) for when in ("before", "after"))
    return f"{before:,.1f} → {after:,.1f}" if after < 1e6 else f"{before:,.1f} → {after:.0e}"

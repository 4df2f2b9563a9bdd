"""Part `tars` of the removal report: the frontier of `tars_frontier.py` with more seeds, and its picture.

The picture is written by hand as SVG, so that it needs no browser and no further package.
"""

from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

import tars_frontier
from removal_bench import Cells, mean

SETTINGS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "ours, 1 edit": tars_frontier.FRONTIER["ours, 1 edit"],
    "published, 16 edits": tars_frontier.FRONTIER["published, 16 edits"],
    "published, 4 edits": tars_frontier.FRONTIER["published, 4 edits"],
    "published, 1 edit": tars_frontier.FRONTIER["published, 1 edit"],
    "published, 16 edits in all matrices": tars_frontier.FRONTIER["published, 16 edits in all matrices"],
}
TOKENS = 2000
PAPER = (0.0, 0.002)
"""P and median KL of the paper's abstract: Llama 3.1 8B after five concepts."""
SEQUENCE = "tars in sequence"
"""The part of cells with all five concepts removed one after another."""
_SHOWN = ("p", "kl_median", "kl_mean", "neighbours", "bystanders", "bystanders_worst", "reverse")
_COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#cc79a7", "#009e73")


def run(cells: Cells, seeds: Sequence[int]) -> None:
    """Measure every cell that is not there yet: the frontier, and five concepts one after another, with every seed."""
    wanted = [(name, scale, seed) for seed in seeds for name, (_, scales) in SETTINGS.items() for scale in scales]
    ordered = [(method, seed) for seed in seeds for method in tars_frontier.SEQUENTIAL]
    if all(cells.find(key) for key in [_key(*one) for one in wanted] + [_sequence_key(*one) for one in ordered]):
        return
    bench = tars_frontier.Bench(TOKENS)
    known: dict[str, Any] = {}
    for name, scale, seed in wanted:

        def work(name: str = name, scale: float = scale, seed: int = seed) -> dict[str, Any]:
            changes = SETTINGS[name][0]
            found = [
                tars_frontier.trial(bench, bench.settings(concept, changes, scale=scale, seed=seed), known)
                for concept in bench.reported
            ]
            return {key: [round(float(one[key]), 5) for one in found] for key in _SHOWN} | {
                "concepts": list(bench.reported)
            }

        cells.get(_key(name, scale, seed), work)
    for method, seed in ordered:

        def in_order(method: str = method, seed: int = seed) -> dict[str, Any]:
            rows = tars_frontier.sequential(bench, list(bench.reported), [seed], lambda line: None, [method])
            return {"steps": rows}

        cells.get(_sequence_key(method, seed), in_order)


def _key(name: str, scale: float, seed: int) -> dict[str, Any]:
    return {"part": "tars", "setting": name, "scale": scale, "seed": seed, "tokens": TOKENS}


def _sequence_key(method: str, seed: int) -> dict[str, Any]:
    return {"part": SEQUENCE, "setting": method, "seed": seed, "tokens": TOKENS}


def report(cells: Cells, picture: str) -> str:
    """The part as Markdown, from the cells that are there."""
    lines = [
        f"![P(answer) against median KL]({picture})",
        "",
        "Means over five concepts and the seeds; in brackets the worst concept with any seed.",
        "",
        "| setting | scale | seeds | P | of each seed | median KL | neighbours kept | worst bystander | reverse kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    found = cells.of("tars")
    for name, (_, scales) in SETTINGS.items():
        for scale in scales:
            rows = [row for row in found if row["key"]["setting"] == name and row["key"]["scale"] == scale]
            if not rows:
                continue
            each = ", ".join(f"{mean(row['p']):.3f}" for row in sorted(rows, key=lambda row: row["key"]["seed"]))
            flat = {key: [value for row in rows for value in row[key]] for key in _SHOWN}
            lines.append(
                f"| {name} | {scale:g} | {len(rows)} | {mean(flat['p']):.3f} ({max(flat['p']):.3f}) | {each} | "
                f"{mean(flat['kl_median']):.4f} ({max(flat['kl_median']):.4f}) | {mean(flat['neighbours']):.3f} | "
                f"{min(flat['bystanders_worst']):.2f} | {mean(flat['reverse']):.2f} |"
            )
    return "\n".join(lines)


def sequence(cells: Cells) -> str:
    """Five concepts one after another, as Markdown: the state after the last that could be removed."""
    lines = [
        "| one after another | seed | removed | P, mean | median KL | mean KL | neighbours kept | worst bystander | reverse kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in _ordered(cells):
        last = _last(row)
        lines.append(
            f"| {row['key']['setting']} | {row['key']['seed']} | {len(last['removed'])} of 5 | {last['p']:.3f} | "
            f"{last['kl_median']:.4f} | {last['kl_mean']:.3f} | {last['neighbours']:.3f} | "
            f"{last['bystanders_worst']:.2f} | {last['reverse']:.2f} |"
        )
    return "\n".join(lines)


def _ordered(cells: Cells) -> list[dict[str, Any]]:
    return sorted(cells.of(SEQUENCE), key=lambda row: (row["key"]["setting"], row["key"]["seed"]))


def _last(row: dict[str, Any]) -> dict[str, Any]:
    """The last measured state; a sequence that could not be finished ends with a step that has an error instead."""
    return [step for step in row["steps"] if "error" not in step][-1]


def draw(cells: Cells, path: Path) -> None:
    """P(answer), mean over concepts, against median KL on a log axis; one line a setting, first seed; all seeds as dots."""
    width, height, left, top, right, bottom = 760, 440, 64, 24, 24, 56
    low, high = -4.0, 0.3

    def x(kl: float) -> float:
        return left + (log10(max(kl, 10**low)) - low) / (high - low) * (width - left - right)

    def y(p: float) -> float:
        return top + (1 - p / 0.6) * (height - top - bottom)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for power in range(-4, 1):
        at = x(10.0**power)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{height - bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - bottom + 18}" text-anchor="middle">{10.0**power:g}</text>')
    for p in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y(p):.1f}" y2="{y(p):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(p) + 4:.1f}" text-anchor="end">{p:g}</text>')
    middle = (left + width - right) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{height - 14}" text-anchor="middle">median KL on general text, nats a token</text>'
    )
    parts.append(
        f'<text transform="translate(16 {height / 2:.0f}) rotate(-90)" text-anchor="middle">P(answer), mean over concepts</text>'
    )
    for i, (name, colour) in enumerate(zip(SETTINGS, _COLOURS)):
        rows = sorted(cells.of("tars", setting=name), key=lambda row: row["key"]["scale"])
        seeds = [row["key"]["seed"] for row in rows]
        points = [(x(mean(row["kl_median"])), y(mean(row["p"])), row) for row in rows]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b, row in points if row["key"]["seed"] == min(seeds))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for a, b, row in points:
            title = f"{name}, scale {row['key']['scale']:g}, seed {row['key']['seed']}"
            parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"><title>{escape(title)}</title></circle>'
            )
        parts.append(f'<circle cx="{left + 14}" cy="{top + 14 + 18 * i}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{left + 24}" y="{top + 18 + 18 * i}">{escape(name)}</text>')
    for row in _ordered(cells):
        last = _last(row)
        a, b = x(last["kl_median"]), y(last["p"])
        colour = _COLOURS[0 if row["key"]["setting"] == "ours" else 1]
        title = f"{row['key']['setting']}, {len(last['removed'])} one after another, seed {row['key']['seed']}"
        parts.append(
            f'<rect x="{a - 4:.1f}" y="{b - 4:.1f}" width="8" height="8" fill="none" stroke="{colour}" '
            f'stroke-width="2"><title>{escape(title)}</title></rect>'
        )
    if cells.of(SEQUENCE):
        y_legend = top + 14 + 18 * len(SETTINGS)
        parts.append(
            f'<rect x="{left + 10}" y="{y_legend - 4}" width="8" height="8" fill="none" stroke="black" stroke-width="2"/>'
        )
        parts.append(f'<text x="{left + 24}" y="{y_legend + 4}">five concepts (one: three), one after another</text>')
    a, b = x(PAPER[1]), y(PAPER[0])
    parts.append(f'<path d="M{a - 6:.1f} {b:.1f}h12M{a:.1f} {b - 6:.1f}v12" stroke="black" stroke-width="2"/>')
    parts.append(f'<text x="{a - 8:.1f}" y="{b - 10:.1f}" text-anchor="end">paper (8B, five concepts)</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")

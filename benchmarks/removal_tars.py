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
CHOSEN = {"ours, 1 edit": 1.25, "published, 16 edits": 1.0}
"""The scale of each that all seeds measure."""
TOKENS = 2000
PAPER = (0.0, 0.002)
"""P and median KL of the paper's abstract: Llama 3.1 8B after five concepts."""
_SHOWN = ("p", "kl_median", "kl_mean", "neighbours", "bystanders", "bystanders_worst", "reverse")
_COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#cc79a7", "#009e73")


def run(cells: Cells, seeds: Sequence[int]) -> None:
    """Measure every cell that is not there yet: the whole frontier with the first seed, the chosen scales with all."""
    wanted = [
        (name, scale, seed)
        for seed in seeds
        for name, (_, scales) in SETTINGS.items()
        for scale in scales
        if seed == seeds[0] or CHOSEN.get(name) == scale
    ]
    if all(cells.find(_key(*one)) for one in wanted):
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


def _key(name: str, scale: float, seed: int) -> dict[str, Any]:
    return {"part": "tars", "setting": name, "scale": scale, "seed": seed, "tokens": TOKENS}


def report(cells: Cells, picture: str) -> str:
    """The part as Markdown, from the cells that are there."""
    rows = sorted(
        cells.of("tars"),
        key=lambda row: (list(SETTINGS).index(row["key"]["setting"]), row["key"]["scale"], row["key"]["seed"]),
    )
    lines = [
        f"![P(answer) against median KL]({picture})",
        "",
        "| setting | scale | seed | P, mean (worst concept) | median KL, mean (worst) | neighbours kept | worst bystander | reverse kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        key = row["key"]
        lines.append(
            f"| {key['setting']} | {key['scale']:g} | {key['seed']} | {mean(row['p']):.3f} ({max(row['p']):.3f}) | "
            f"{mean(row['kl_median']):.4f} ({max(row['kl_median']):.4f}) | {mean(row['neighbours']):.3f} | "
            f"{min(row['bystanders_worst']):.2f} | {mean(row['reverse']):.2f} |"
        )
    return "\n".join(lines)


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
    a, b = x(PAPER[1]), y(PAPER[0])
    parts.append(f'<path d="M{a - 6:.1f} {b:.1f}h12M{a:.1f} {b - 6:.1f}v12" stroke="black" stroke-width="2"/>')
    parts.append(f'<text x="{a - 8:.1f}" y="{b - 10:.1f}" text-anchor="end">paper (8B, five concepts)</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")

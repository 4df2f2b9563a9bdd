"""Commands that edit: remove a concept and measure the effect, list the methods."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from analysis.cli.common import (
    AsJson,
    ConceptName,
    Device,
    Label,
    Now,
    escape,
    print_json,
    progress_bar,
    quiet_transformers,
    stderr,
    stdout,
)
from analysis.errors import ConfigError
from analysis.models import catalog

__all__ = ["edit", "edits"]


def edit(
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[--SETTING VALUE]…", help="Settings of the method.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Catalog name, hub id, folder or .gguf file.")] = None,
    concept: ConceptName = "capitals",
    label: Label = None,
    method: Annotated[str | None, typer.Option(help="A method of `palimpsest edits` (default: prune).")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Apply this recipe instead of one method.")] = None,
    maintain: Annotated[
        list[str] | None, typer.Option(help="Concepts whose facts the edit must keep (repeatable).")
    ] = None,
    known_threshold: Annotated[float, typer.Option(help="Facts below this mean P(answer) are ignored.")] = 0.3,
    evaluate: Annotated[
        str, typer.Option(help="quick, all, or parts of the evaluation, separated by commas.")
    ] = "quick",
    export: Annotated[bool, typer.Option(help="Also save the edited model in OUT/model.")] = False,
    out: Annotated[Path | None, typer.Option(help="New folder for recipe, edits and evaluation.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the edit, if it is random, and of the evaluation.")] = 0,
    device: Device = "auto",
    now: Now = False,
    as_json: AsJson = False,
) -> None:
    """Remove a concept from a model's weights and measure the effect.

    The method's own settings are options, too: `--method prune --top-fraction 0.02`. `palimpsest edits` lists them.
    """
    from analysis import concepts as library
    from analysis import edits, models, removals
    from analysis.edits.recipe import Recipe
    from analysis.jobs import queue
    from analysis.models import export as weights

    chosen_settings = _settings(settings or [])
    if recipe is not None and (chosen_settings or method is not None):
        raise ConfigError("A recipe already contains its edits. Leave out --method and its settings.")
    stored = Recipe.load(recipe) if recipe is not None else None
    made = None
    if stored is None:
        name = method or "prune"
        seeded = any(setting.name == "seed" for setting in edits.method_named(name).settings)
        made = edits.from_settings(name, ({"seed": seed} if seeded else {}) | chosen_settings)
    elif stored.unchecked:
        stderr.print(f"[yellow]{escape(stored.unchecked)}[/]")
    chosen = library.load(concept, label=label)
    method_name = made.method if made is not None else stored.steps[-1].edit.method  # type: ignore[union-attr]
    path = out if out is not None else removals.new_path(chosen.name, method_name)
    with (
        progress_bar() as report,
        quiet_transformers(),
        queue.turn(path, "removal", device, say=lambda text: report(text, 0.0), now=now),
    ):
        reference = model or (stored.model if stored else catalog.DEFAULT_MODEL)
        loaded = models.load(reference, device=device, progress=report)
        if stored is None:
            assert made is not None
            stored = Recipe.of(loaded, [(chosen, made)], maintain=maintain or (), threshold=known_threshold)
        parts = evaluate if evaluate in ("quick", "all") else tuple(part.strip() for part in evaluate.split(","))
        removal = removals.create(stored, path, device=device, what=parts, seed=seed)
        removals.execute(removal, model=loaded, progress=report)
        if export:
            report("Exporting", 1.0)
            weights.export(loaded, removal.path / "model")
    outcome = removal.outcome()
    assert outcome is not None  # the removal has finished
    if as_json:
        return print_json(outcome.summary() | {"out": str(removal.path)})
    table = Table("", "before", "after", title=escape(stored.describe()))
    for name, value in outcome.summary()["before"].items():
        table.add_row(name, _number(value), _number(outcome.summary()["after"][name]))
    stdout.print(table)
    if outcome.summary()["kl"]:
        kl = outcome.summary()["kl"]
        stdout.print(f"KL on general text, nats per token: median {kl['median']:.2g}, mean {kl['mean']:.2g}")
    if outcome.after.warning:
        stdout.print(f"[yellow]{escape(outcome.after.warning)}[/]")
    stdout.print(f"{outcome.edited_parameters:,} weights changed. Everything is in {escape(str(removal.path))}")


def edits(as_json: AsJson = False) -> None:
    """List the methods that remove a concept, with their settings."""
    from analysis.edits import METHODS

    if as_json:
        return print_json(
            {
                "methods": [
                    {
                        "name": name,
                        "summary": method.summary,
                        "source": method.source,
                        "needs_facts": method.needs_facts,
                        "settings": [
                            {
                                "name": one.name,
                                "type": one.type_name,
                                "default": None if one.required else _plain(one.default),
                                "required": one.required,
                                "help": one.help,
                            }
                            for one in method.settings
                        ],
                        "presets": {preset: dict(values) for preset, values in method.presets.items()},
                    }
                    for name, method in METHODS.items()
                ]
            }
        )
    for name, method in METHODS.items():
        words = "" if method.needs_facts else "; also for concepts without facts"
        stdout.print(f"[bold]{name}[/]: {escape(method.summary)} [dim]({escape(method.source)}{words})[/]")
        for one in method.settings:
            default = "required" if one.required else f"default {_plain(one.default)}"
            stdout.print(
                f"  --{one.name.replace('_', '-')}  [dim]{escape(one.type_name)}, {escape(default)}[/]  {escape(one.help)}",
                soft_wrap=True,
            )
        for preset, values in method.presets.items():
            options = " ".join(f"--{key.replace('_', '-')} {_typed(value)}" for key, value in values.items())
            stdout.print(f"  [italic]{escape(preset)}[/]: {escape(options)}", soft_wrap=True)
    return None


def _settings(arguments: list[str]) -> dict[str, str]:
    """Parse `--name value` and `--name=value` pairs, and `--name` or `--no-name` for switches."""
    found: dict[str, str] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise ConfigError(f"“{word}” is not an option. Settings of a method are given as --name value.")
        name, _, value = word[2:].partition("=")
        if not value and words and not words[0].startswith("--"):
            value = words.pop(0)
        elif not value:
            name, value = (name[3:], "false") if name.startswith("no-") else (name, "true")
        found[name.replace("-", "_")] = value
    return found


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plain(value: Any) -> Any:
    if value is dataclasses.MISSING:
        return None
    return json.loads(json.dumps(value, default=str))


def _typed(value: object) -> str:
    """A setting's value as it is typed on a command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

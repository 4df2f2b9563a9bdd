"""Command that finds the components of a model that a concept's facts depend on."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from analysis.cli.common import (
    AsJson,
    ConceptName,
    Device,
    ModelName,
    print_json,
    progress_bar,
    quiet_transformers,
    stdout,
)
from analysis.errors import ConfigError
from analysis.models import catalog

__all__ = ["localize"]


def localize(
    model: ModelName = catalog.DEFAULT_MODEL,
    concept: ConceptName = "capitals",
    method: Annotated[str, typer.Option(help="Name of a method; a wrong name lists them all.")] = "fact_lookup_probe",
    metric: Annotated[str | None, typer.Option(help="log_p or logit_difference; default: the method's own.")] = None,
    corruption: Annotated[str | None, typer.Option(help="swap, noise or random; default: the method's own.")] = None,
    kinds: Annotated[str | None, typer.Option(help="head, mlp, neuron, separated by commas.")] = None,
    top: Annotated[int | None, typer.Option(help="Number of components; for fact_lookup_paths, of heads.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Smallest |effect| of a chosen component.")] = None,
    match: Annotated[Path | None, typer.Option(help="Circuit file: choose as many parameters as it has.")] = None,
    max_prompts: Annotated[int | None, typer.Option(help="Number of prompts (default: 48, for probes 512).")] = None,
    known: Annotated[float | None, typer.Option(help="Facts of at least this P(answer) count as known.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of prompts, corruptions, folds, random components.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the circuit.")] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Find the heads, MLP layers or neurons that a concept's facts depend on."""
    from analysis import concepts as library
    from analysis import localization as finding
    from analysis import models, paths
    from analysis.edits import n_parameters
    from analysis.scoring import factual_recall

    if method not in finding.METHODS:
        raise ConfigError(f"“{method}” is not a localization method. Use {', '.join(finding.METHODS)}.")
    chosen = library.load(concept)
    if out is not None and not out.absolute().parent.is_dir():
        raise ConfigError(f"The folder {out.absolute().parent} does not exist. Make it, or name another --out.")
    if out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder. Name the JSON file to write.")
    wanted = _circuit(match)
    threshold_known = factual_recall.KNOWN_THRESHOLD if known is None else known
    with progress_bar() as report, quiet_transformers():
        loaded = models.load(model, device=device, dtype=dtype, progress=report)
        facts = None
        if method not in finding.CONTROLS and chosen.facts:
            report("Finding the facts the model knows", 0.0)
            facts, _ = factual_recall.known_facts(loaded, chosen, threshold=threshold_known)
            if not facts:
                raise ConfigError(
                    f"“{loaded.name}” knows none of the {len(chosen.facts)} facts of “{chosen.name}” with P(answer) of "
                    f"at least {threshold_known:g}. Lower --known, or choose another concept or model."
                )
        result = finding.localize(
            loaded,
            chosen,
            method,
            facts=facts,
            metric=metric,  # type: ignore[arg-type]
            corruption=corruption,  # type: ignore[arg-type]
            kinds=None if kinds is None else tuple(part.strip() for part in kinds.split(",")),  # type: ignore[arg-type]
            top=top,
            threshold=threshold,
            match=wanted,
            max_prompts=max_prompts,
            seed=seed,
            progress=report,
        )
    circuit = result.circuit
    if out is not None:
        paths.write_atomically(out, circuit.to_json().encode())
    if as_json:
        return print_json(
            {
                "model": loaded.name,
                "concept": chosen.name,
                "method": method,
                "unit": circuit.unit,
                "facts": None if facts is None else len(facts),
                "parameters": n_parameters(loaded, circuit),
                "components": [
                    {"component": str(part), "effect": effect}
                    for part, effect in zip(circuit.components, circuit.effects or [None] * len(circuit))
                ],
                "probe": None if result.probe is None else result.probe.table().to_dict("records"),
                "provenance": result.provenance,
                "out": str(out) if out else None,
            }
        )
    shown = Table("component", "effect", title=f"{chosen.name}, {circuit.describe()}", caption=circuit.unit or None)
    for part, effect in zip(circuit.components, circuit.effects or [None] * len(circuit)):
        shown.add_row(str(part), "" if effect is None else f"{effect:.4f}")
    stdout.print(shown)
    stdout.print(f"{n_parameters(loaded, circuit):,} of {loaded.n_parameters:,} parameters")
    if result.probe is not None:
        curve = Table("layer", "accuracy", "95% interval", "control", title=f"Probe ({result.probe.kind})")
        for row in result.probe.table().to_dict("records"):
            name = "embedding" if row["layer"] < 0 else str(row["layer"])
            curve.add_row(
                name, f"{row['accuracy']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}", f"{row['control']:.3f}"
            )
        stdout.print(curve)
        stdout.print(f"{result.probe.n_subjects} subjects, chance {result.probe.chance:.3f}")
    if out is not None:
        stdout.print(f"The circuit is written to {out}", soft_wrap=True)


def _circuit(path: Path | None) -> Any:
    """Read a circuit from a file that `--out` wrote; None if there is no path."""
    from analysis.components.circuit import Circuit

    if path is None:
        return None
    try:
        return Circuit.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}). Name a file that localize --out wrote.") from error

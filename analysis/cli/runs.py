"""Commands about stored runs: list them, show the results of one."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from analysis.cli.common import AsJson, escape, names, print_json, stdout
from analysis.errors import ConfigError, PalimpsestError

__all__ = ["list_runs", "print_summary", "show"]


def list_runs(
    root: Annotated[Path | None, typer.Option(help="Folder of runs (default: the runs folder).")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs, newest first."""
    from analysis import runs

    if root is not None and not root.is_dir():
        raise ConfigError(f"{root} is not a folder. Name the folder that holds the runs.")
    rows = []
    for run in runs.list_runs(root):
        try:
            title, steps = run.record.get("title", ""), run.config.steps
        except PalimpsestError as error:
            title, steps = str(error), 0
        status, control = run.status(), run.control
        rows.append(
            {
                "name": run.name,
                "state": status.state,
                "control": control.status().state if control is not None else None,
                "title": title,
                "created": runs.created(run),
                "step": status.step,
                "steps": steps,
                "snapshots": run.n_snapshots(),
                "path": str(run.path),
            }
        )
    if as_json:
        return print_json({"runs": rows})
    name, state = names("run", [row["name"] for row in rows]), Column("state", no_wrap=True)
    table = Table(name, state, "step", "created (UTC)", Column("what", overflow="fold"))
    for row in rows:
        created = row["created"][:16].replace("T", " ")
        state = row["state"] if row["control"] in (None, row["state"]) else f"{row['state']}, control {row['control']}"
        table.add_row(escape(row["name"]), state, f"{row['step']}/{row['steps']}", created, escape(str(row["title"])))
    stdout.print(table)


def show(
    run: Annotated[str, typer.Argument(help="Name of a run, or its path.")],
    as_json: AsJson = False,
) -> None:
    """Show the results of a run."""
    from analysis import runs
    from analysis.runs.summary import summarise

    summary = summarise(runs.find(run))
    if as_json:
        return print_json(summary)
    print_summary(summary)


def print_summary(summary: dict[str, Any]) -> None:
    """Print the numbers of a run (`runs.summary.summarise`)."""
    known, tagging = summary["known_facts"], summary["tagging"]
    stdout.print(
        f"[bold]{summary['concept']}[/] in {escape(summary['model'])}: {summary['edit'] or 'no edit'}", soft_wrap=True
    )
    if summary["origin"]:
        run, step = summary["origin"]["run"], summary["origin"]["step"]
        stdout.print(f"branch of {escape(run)}, from its checkpoint after {step} steps", soft_wrap=True)
    if summary["train_only"]:
        stdout.print(f"training only {escape(summary['train_only'])}", soft_wrap=True)
    stdout.print(f"{summary['state']}: {escape(summary['message'])}", soft_wrap=True)
    if known:
        stdout.print(
            f"{known['retrained']} facts retrained on, {known['held_out']} held out, {known['set_aside']} set aside "
            f"(P(answer) below {known['threshold']:g} in the unedited model)"
        )
    if tagging:
        _print_stages(tagging, (summary["control"] or {}).get("stages", []))
    table = Table(
        "", "P retrained", "P held out", "neutral loss", "centre of mass, raw", "control: P retrained", "… held out"
    )
    for moment in ("base", "edited", "final"):
        values, control = summary[moment], (summary["control"] or {}).get(moment)
        if values is None:
            continue
        centre = summary["center_of_mass"][moment]
        others = [f"{control['retrained']:.3f}", f"{control['held_out']:.3f}"] if control else ["", ""]
        row = [f"{values['retrained']:.3f}", f"{values['held_out']:.3f}", f"{values['neutral_loss']:.3f}"]
        table.add_row(moment, *row, f"{centre:.2f}", *others)
    stdout.print(table)
    halves = (("retrained", summary["half_life_steps"]), ("held out", summary["half_life_steps_held_out"]))
    reached = ", ".join(f"{name} {'not reached' if half is None else f'{half:g} steps'}" for name, half in halves)
    stdout.print(
        f"half-life: {reached}; {summary['seconds']} s{' with its control' if summary['control'] else ''}",
        soft_wrap=True,
    )
    stdout.print(f"kept in {summary['run']}", soft_wrap=True)


def _print_stages(tagging: dict[str, Any], control: list[dict[str, Any]]) -> None:
    """Print the tagging scores of every stage."""
    sizes = tagging["sizes"]
    stdout.print(
        f"finding the words after {tagging['fine_tune_steps']} steps of fine-tuning; scored on "
        f"{sizes['labelled words held out, scored']} words in {sizes['sentences held out, scored']} held-out sentences",
        soft_wrap=True,
    )
    others = {(row["stage"], row["step"]): row["f1"] for row in control}
    # the last two columns are F1 as well
    table = Table(
        Column("stage", no_wrap=True), "step", "epoch", "F1", "precision", "recall", "… trained on", "… control"
    )
    for row in tagging["stages"]:
        values = [
            row["f1"],
            row.get("precision"),
            row["recall"],
            row["f1_trained"],
            others.get((row["stage"], row["step"])),
        ]
        shown = ["" if value is None else f"{value:.3f}" for value in values]
        table.add_row(row["stage"], str(row["step"]), f"{row['epoch']:.1f}", *shown)
    stdout.print(table)

"""The command line: `palimpsest COMMAND`, or `python -m analysis COMMAND`.

The commands are app, models, fetch, concepts, import-concept, saliency, methods, localize, edit, edits, relearn, resume,
branch, queue, runs and show.

Progress goes to stderr, results to stdout; with `--json` the last line of stdout is one JSON object for machines. Wrong
input gives one line that says what to do, and exit code 2. Slow imports (torch, pandas) are inside the commands, so that
`--help` and typing errors answer at once.
"""

import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from analysis import __version__
from analysis.cli import concepts, dashboard, edit, localize, models, queue, relearn, resume, runs, saliency
from analysis.cli.common import escape, stderr, stdout
from analysis.errors import PalimpsestError

__all__ = ["app", "main"]

_INTERRUPTED = 130
"""The exit code that typer gives for Ctrl-C."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> bool:
    if asked:
        stdout.print(f"palimpsest {__version__}", highlight=False)
        raise typer.Exit
    return asked


@app.callback()
def _palimpsest(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Palimpsest: see which neurons carry a concept, remove them, watch the concept come back."""


app.command()(dashboard.app)
app.command()(models.models)
app.command()(models.fetch)
app.command()(concepts.concepts)
app.command("import-concept")(concepts.import_concept)
app.command()(saliency.saliency)
app.command()(saliency.methods)
app.command()(localize.localize)
app.command(context_settings={"ignore_unknown_options": True})(edit.edit)
app.command()(edit.edits)
app.command()(relearn.relearn)
app.command()(resume.resume)
app.command()(resume.branch)
app.command()(queue.queue)
app.command("runs")(runs.list_runs)
app.command()(runs.show)


def main() -> None:
    """Run the command line; errors meant for users print one line and exit with code 2."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except PalimpsestError as error:
        _fail(str(error))
    except TyperException as error:  # an option or a command that does not exist, or a value of another type
        _fail(_with_hint(error))
    else:
        if code == _INTERRUPTED:
            stderr.print("Interrupted.")
        sys.exit(code)


def _fail(message: str) -> NoReturn:
    stderr.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(2)


def _with_hint(error: TyperException) -> str:
    """One line that says what is wrong with the command line, and which `--help` to read."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "palimpsest"
    return f"{message if message.endswith(('.', '?')) else message + '.'} See `{path} --help`."

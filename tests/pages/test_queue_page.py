"""The queue on a page, and the notice on every page that the model made room."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import concepts, runs
from analysis.concepts import Concept
from analysis.jobs import queue, queue_rules
from analysis.jobs.memory_broker import Request
from analysis.jobs.queue import Entry
from tests.jobs.queue_line import Line, opened, stand_in, wait
from tests.small_runs import small_run
from ui.app import viewer_model
from ui.app.tokens import escaped

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def line(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(queue_rules, "command", stand_in)
    yield from opened(empty_home)


def page() -> None:
    from ui.app import queue_view

    queue_view.queue_list()


def texts(app: AppTest) -> str:
    assert not app.exception, app.exception
    return " | ".join(element.value for element in (*app.caption, *app.markdown, *app.warning, *app.info))


def test_nothing_is_drawn_where_nothing_is_queued(line: Line):
    assert texts(AppTest.from_function(page).run()) == ""


def test_jobs_are_listed_with_their_owners_and_cancelled(line: Line):
    first = line.submit("first *one*", 60.0)
    second = line.job("second")
    queue.submit(second.path, "nap", "cpu", owner="Ada")
    wait(lambda: queue.place(first.path) == 0)
    app = AppTest.from_function(page).run()
    shown = texts(app)
    assert "On **cpu**: 1 running, 1 queued" in shown
    assert r"first \*one\*" in shown
    assert "Ada" in shown
    assert [button.label for button in app.button] == ["Stop", "Cancel"]
    app.button[1].click().run()
    assert second.status().state == "stopped"
    app.run()
    assert [button.label for button in app.button] == ["Stop"]
    app.button[0].click().run()
    wait(lambda: not queue.entries())
    assert first.status().state == "stopped"
    assert texts(app.run()) == ""


def run_page(folder: str) -> None:
    from pathlib import Path

    from analysis import runs
    from analysis.jobs import JobStatus
    from ui.app import queue_view
    from ui.app.updates import Update
    from ui.relearn import live

    queue_view.queue_list()
    live._status_line(
        runs.find(str(Path(folder))), Update("", "Step 1 of 2", 0.5), JobStatus(state="running", message=""), None
    )


@pytest.mark.parametrize("listed", [True, False])
def test_a_running_run_has_one_button_wherever_it_runs(
    line: Line, tiny_folder: Path, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch, listed: bool
):
    """In the list of the queue; a run that was begun in another way has it beside its progress."""
    concepts.save(tiny_concept)
    run = runs.create_in_home(small_run(tiny_folder, tiny_concept, steps=2))
    entry = Entry(
        number=1,
        path=run.path,
        kind="run",
        device="cpu",
        owner="Ada",
        state="running",
        foreground=False,
        submitted=0.0,
        started=0.0,
        process=None,
        place=0,
    )
    monkeypatch.setattr(queue, "entries", lambda: [entry] if listed else [])
    app = AppTest.from_function(run_page, args=(str(run.path),)).run()
    assert ("On **cpu**: 1 running" in texts(app)) is listed
    assert [button.label for button in app.button] == ["Stop"]
    run.request_stop()
    app.run()
    assert [(button.label, button.disabled) for button in app.button] == [("Stopping …", True)]


def test_a_queue_that_cannot_be_read_is_told(line: Line):
    (line.home / "queue.sqlite3").write_bytes(b"no database" * 1000)
    assert escaped("queue --rebuild") in texts(AppTest.from_function(page).run())


def test_every_page_tells_that_the_model_was_unloaded_until_it_is_dismissed(
    empty_home: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=60)
    app.query_params["model"] = str(tiny_folder)
    app.run()
    try:
        holder = viewer_model._holder()
        assert holder.model is not None
        holder.free_memory(Request(number=1, device="cpu", bytes=3 * 2**30, job="20260101-capitals"))
        assert holder.model is None
        says = "The model was unloaded because 20260101-capitals needs 3.0 GiB on cpu."
        for name in ("relearn", "board"):
            app.switch_page(f"{name}.py").run()
            assert escaped(says) in [text.value for text in app.info], name
        next(button for button in app.button if button.label == "Dismiss").click().run()
        assert not any("was unloaded because" in text.value for text in app.info)
        app.switch_page("model.py").run()  # which needs it, and loads it again
        assert not app.exception
        assert holder.model is not None
        next(button for button in app.button if button.label == "Load").click().run()
        assert (holder.notice, holder.freed_device) == (None, "")
    finally:
        viewer_model.unload()
        viewer_model._holder().notice, viewer_model._holder().freed_device = None, ""

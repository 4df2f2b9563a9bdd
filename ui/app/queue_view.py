"""The queue on a page: what is at work and what waits on each device, the button that stops a job, and the notice that the
model made room for one."""

from contextlib import suppress

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.errors import PalimpsestError
from analysis.jobs import Job, queue
from analysis.jobs.queue import Entry
from ui.app import updates, viewer_model
from ui.app.live_line import live_line
from ui.app.tokens import escaped

__all__ = ["queue_list", "room_notice", "stop_button"]

_SEEN = "room_notice_seen"
_LOOK_SECONDS = 5.0


def queue_list() -> None:
    """Draw the queue, live while there is anything in it; nothing where it is empty."""
    active = isinstance(first := _entries(), list) and bool(first)

    @st.fragment(run_every=_LOOK_SECONDS if active and not updates.told() else None)
    def panel() -> None:
        queue.tend()
        shown = updates.of_everything()  # first: what comes while the rest is read is news again
        if active and updates.told():
            live_line(shown, updates.EVERYTHING, every=_LOOK_SECONDS, quiet=True, key="queue_news")
        found = _entries()
        if isinstance(found, str):  # a queue that cannot be read must not hide the page
            st.warning(escaped(found), icon=":material/warning:")
            return
        if active and not found:
            st.rerun()  # the last one has ended: redraw the page once, without polling
        for device in dict.fromkeys(entry.device for entry in found):
            line = [entry for entry in found if entry.device == device]
            waiting = sum(entry.state == "queued" for entry in line)
            st.caption(f"On **{escaped(device)}**: {len(line) - waiting} at work, {waiting} queued")
            for entry in line:
                _row(entry)

    panel()


def room_notice() -> None:
    """Tell that the viewer's model has left a device for a job, until this session has dismissed it."""
    place = st.container()  # always, or all that follows would change its place on the page with it
    notice = viewer_model.notice()
    if notice is None or st.session_state.get(_SEEN) == notice.number:
        return

    def dismiss() -> None:
        st.session_state[_SEEN] = notice.number

    text, button = place.columns([6, 1], vertical_alignment="center")
    text.info(escaped(notice.text), icon=":material/memory:")
    button.button("Dismiss", key="room_notice_dismiss", on_click=dismiss, width="stretch")


def stop_button(place: DeltaGenerator, job: Job, told: str) -> None:
    """Draw the button that asks a job to stop, or takes it out of the queue, and tell what happens then."""
    asked, waits = job.stop_requested(), job.status().state == "queued"

    def ask() -> None:
        with suppress(FileNotFoundError):  # deleted meanwhile: there is nothing to stop
            job.request_stop()
            st.toast("It was taken out of the queue." if waits else told)

    label = "Stopping …" if asked else "Cancel" if waits else "Stop"
    place.button(label, key=f"stop {job.name}", width="stretch", disabled=asked, on_click=ask)


def _entries() -> list[Entry] | str:
    """What is in the queue, or why it cannot be read."""
    try:
        return queue.entries()
    except PalimpsestError as error:
        return str(error)


def _row(entry: Entry) -> None:
    name, owner, button = st.columns([6, 2, 2], vertical_alignment="center")
    place = ":material/progress_activity:" if entry.place == 0 else f"**{entry.place}**"
    name.markdown(f"{place} {escaped(entry.name)} :small[{entry.kind}]")
    owner.caption(escaped(entry.owner))
    if entry.state == "running" and st.session_state.get("run") == entry.name:
        return  # the run that is watched below, with a button of its own
    asked = (entry.path / "stop").exists()
    label = "Stop" if entry.state == "running" else "Cancel"
    if button.button(label, key=f"cancel {entry.number}", disabled=asked, width="stretch"):
        try:
            queue.cancel(entry.path)
        except PalimpsestError as error:
            st.error(escaped(str(error)), icon=":material/error:")
        else:
            st.rerun(scope="fragment")

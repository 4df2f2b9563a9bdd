"""Shows the queue on a page, the button that stops a job, and the notice that the model was removed from a device."""

from contextlib import suppress

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import paths
from analysis.errors import PalimpsestError
from analysis.jobs import Job, layout, queue
from analysis.jobs.queue import Entry
from ui.app import updates, viewer_model
from ui.app.live_line import live_line
from ui.app.tokens import escaped

__all__ = ["is_listed", "memory_notice", "queue_list", "stop_button"]

_DISMISSED = "memory_notice_dismissed"
_LISTED = "queue_listed"
_CHECK_SECONDS = 5.0


def queue_list() -> None:
    """Draw the queue and keep it up to date while it holds jobs; draw nothing if it is empty."""
    at_first = _entries()
    active = isinstance(at_first, list) and bool(at_first)

    @st.fragment(run_every=_CHECK_SECONDS if active and not updates.is_served() else None)
    def panel() -> None:
        queue.tend()
        shown = updates.overview()  # before the rest is read: what comes meanwhile then counts as new
        if active and updates.is_served():
            live_line(shown, updates.OVERVIEW_ADDRESS, every=_CHECK_SECONDS, quiet=True, key="queue_updates")
        found = _entries()
        st.session_state[_LISTED] = {paths.real(entry.path) for entry in found if isinstance(entry, Entry)}
        if isinstance(found, str):  # an unreadable queue must not hide the rest of the page
            st.warning(escaped(found), icon=":material/warning:")
            return
        if active and not found:
            st.rerun()  # the last job has ended: draw the page once more, without updates
        for device in dict.fromkeys(entry.device for entry in found):
            on_device = [entry for entry in found if entry.device == device]
            n_queued = sum(entry.state == "queued" for entry in on_device)
            st.caption(f"On **{escaped(device)}**: {len(on_device) - n_queued} running, {n_queued} queued")
            for entry in on_device:
                _row(entry)

    panel()


def is_listed(job: Job) -> bool:
    """Whether the queue as it was last drawn has a row for the job, with the button that stops it."""
    return paths.real(job.path) in st.session_state.get(_LISTED, ())


def memory_notice() -> None:
    """Show that the model was removed from a device for a job, until this session dismisses the notice."""
    place = st.container()  # always there, so that the notice does not move the elements below it
    notice = viewer_model.notice()
    if notice is None or st.session_state.get(_DISMISSED) == notice.number:
        return

    def dismiss() -> None:
        st.session_state[_DISMISSED] = notice.number

    text, button = place.columns([6, 1], vertical_alignment="center")
    text.info(escaped(notice.text), icon=":material/memory:")
    button.button("Dismiss", key="memory_notice_dismiss", on_click=dismiss, width="stretch")


def stop_button(place: DeltaGenerator, job: Job, consequence: str) -> None:
    """Draw the button that asks a running job to stop, or cancels a queued one.

    Args:
        place: Where to draw it.
        job: The job.
        consequence: What a toast says once a running job was asked to stop.
    """
    asked, queued = job.stop_requested(), job.status().state == "queued"

    def ask() -> None:
        with suppress(FileNotFoundError):  # the job was deleted meanwhile
            job.request_stop()
            st.toast("It was removed from the queue." if queued else consequence)

    label = "Stopping …" if asked else "Cancel" if queued else "Stop"
    place.button(label, key=f"stop {job.name}", width="stretch", disabled=asked, on_click=ask)


def _entries() -> list[Entry] | str:
    """The queued and running jobs, or a message why the queue cannot be read."""
    try:
        return queue.entries()
    except PalimpsestError as error:
        return str(error)


def _row(entry: Entry) -> None:
    name, owner, button = st.columns([6, 2, 2], vertical_alignment="center")
    place = ":material/progress_activity:" if entry.place == 0 else f"**{entry.place}**"
    name.markdown(f"{place} {escaped(entry.name)} :small[{entry.kind}]")
    owner.caption(escaped(entry.owner))
    asked = (entry.path / layout.STOP).exists()
    label = "Stopping …" if asked else "Stop" if entry.state == "running" else "Cancel"
    if button.button(label, key=f"cancel {entry.number}", disabled=asked, width="stretch"):
        try:
            queue.cancel(entry.path)
        except PalimpsestError as error:
            st.error(escaped(str(error)), icon=":material/error:")
        else:
            st.rerun(scope="fragment")

"""Keeps account of what the server has sent to one browser, so that nothing travels twice and what got lost travels again.

The server takes for received what it sent, and the browser speaks up only where something is missing: each time it does,
the fragment around the canvas runs again. Messages with content are numbered, and what the browser says names the last one
that it read. What was sent up to there and is missing was lost or dropped since; what was sent later is on its way.

    EPOCH#NUMBER|FRAMES,CONTROL|FIRST-END

`FRAMES,CONTROL` says how many snapshots and control snapshots the browser holds; it is there only if the last message did
not join these, because one before it was lost. `FIRST-END` are snapshots whose values it needs next.
"""

import re
from collections.abc import Collection

__all__ = ["BrowserCopy"]

_MISSING = re.compile(r"(\d+)\|(?:(\d+),(\d+))?\|(?:(\d+)-(\d+))?")


class BrowserCopy:
    """What one browser holds of one canvas, as far as the server knows."""

    def __init__(self) -> None:
        self.n_frames = 0
        """Snapshots whose light parts it holds."""
        self.n_control = 0
        """Control snapshots that it holds."""
        self._epoch = ""
        self._number = 0
        """Of the last message with content."""
        self._first = 1
        """Number of the first message of this account: what is said of earlier ones is out of date."""
        self._values_sent: dict[int, int] = {}
        """Snapshot -> number of the message that last brought its values."""

    def restart(self, epoch: str) -> None:
        """Begin anew with a browser that holds nothing of this view: its canvas was just mounted, or shows another view."""
        self._epoch = epoch
        self._begin(0, 0)

    def hear(self, missing: str, epoch: str) -> list[int]:
        """Take in what the browser said last, which may be many reruns ago.

        Args:
            missing: In the format above; empty where it never said anything.
            epoch: Of the view that is shown.

        Returns:
            Snapshots whose values it needs and that are not on their way.
        """
        if epoch != self._epoch:
            self.restart(epoch)
        of_epoch, _, text = missing.rpartition("#")
        found = _MISSING.fullmatch(text)
        if of_epoch != epoch or found is None or not self._first <= int(found[1]) <= self._number:
            return []
        if found[2] is not None:
            self._begin(int(found[2]), int(found[3]))
            return []  # it says again what it needs once it has read the next message
        if found[4] is None:
            return []
        return [i for i in range(int(found[4]), int(found[5])) if self._values_sent.get(i, 0) <= int(found[1])]

    def next_number(self, n_frames: int, n_control: int, values: Collection[int]) -> int:
        """Number of a message that brings it to so many snapshots; that of the last one where nothing is new."""
        return self._number + (n_frames > self.n_frames or n_control > self.n_control or len(values) > 0)

    def sent(self, n_frames: int, n_control: int, values: Collection[int]) -> None:
        """Write down that this message was handed to Streamlit."""
        self._number = self.next_number(n_frames, n_control, values)
        self.n_frames, self.n_control = n_frames, n_control
        self._values_sent.update(dict.fromkeys(values, self._number))

    def _begin(self, n_frames: int, n_control: int) -> None:
        self.n_frames, self.n_control = n_frames, n_control
        self._first = self._number + 1
        self._values_sent = {index: number for index, number in self._values_sent.items() if index < n_frames}

"""Records what the server has sent to one browser, so that nothing is sent twice and lost parts are sent again.

The server assumes that its messages arrive, and the browser sends a request only if something is missing; each request
reruns the fragment around the canvas. Messages with content are numbered, and a request names the last message that the
browser has read. Parts sent up to that message and still missing were lost or dropped; parts sent later are on their way.

    EPOCH#NUMBER|FRAMES,CONTROL|FIRST-END

`FRAMES,CONTROL` are the numbers of snapshots and control snapshots that the browser has; given only if the last message
did not follow on from them, because an earlier one was lost. `FIRST-END` are the snapshots whose values it needs next.
"""

import re
from collections.abc import Collection

__all__ = ["BrowserCopy"]

_MISSING = re.compile(r"(\d+)\|(?:(\d+),(\d+))?\|(?:(\d+)-(\d+))?")


class BrowserCopy:
    """What one browser has of one canvas, as far as the server knows."""

    def __init__(self) -> None:
        self.n_frames = 0
        """Number of snapshots whose frames the browser has."""
        self.n_control = 0
        """Number of control snapshots that the browser has."""
        self._epoch = ""
        self._number = 0
        """Number of the last message with content."""
        self._first = 1
        """Number of the first message since the last restart; requests that name earlier ones are out of date."""
        self._values_sent: dict[int, int] = {}
        """Snapshot -> number of the last message with its values."""

    def restart(self, epoch: str) -> None:
        """Start over for a browser that has nothing of this view: its canvas was just mounted, or shows another view."""
        self._epoch = epoch
        self._begin(0, 0)

    def read_request(self, missing: str, epoch: str) -> list[int]:
        """Read the browser's last request, which may be many reruns old.

        Args:
            missing: The request in the format above; empty if there was none.
            epoch: Epoch of the view that is shown.

        Returns:
            Snapshots whose values the browser needs and that are not on their way.
        """
        if epoch != self._epoch:
            self.restart(epoch)
        of_epoch, _, text = missing.rpartition("#")
        found = _MISSING.fullmatch(text)
        if of_epoch != epoch or found is None or not self._first <= int(found[1]) <= self._number:
            return []
        if found[2] is not None:
            self._begin(int(found[2]), int(found[3]))
            return []  # the browser repeats what it needs once it has read the next message
        if found[4] is None:
            return []
        return [i for i in range(int(found[4]), int(found[5])) if self._values_sent.get(i, 0) <= int(found[1])]

    def next_number(self, n_frames: int, n_control: int, values: Collection[int]) -> int:
        """Number of a message after which the browser has these snapshots; the last number again if nothing is new."""
        return self._number + (n_frames > self.n_frames or n_control > self.n_control or len(values) > 0)

    def sent(self, n_frames: int, n_control: int, values: Collection[int]) -> None:
        """Record a message that was passed to Streamlit."""
        self._number = self.next_number(n_frames, n_control, values)
        self.n_frames, self.n_control = n_frames, n_control
        self._values_sent.update(dict.fromkeys(values, self._number))

    def _begin(self, n_frames: int, n_control: int) -> None:
        self.n_frames, self.n_control = n_frames, n_control
        self._first = self._number + 1
        self._values_sent = {index: number for index, number in self._values_sent.items() if index < n_frames}

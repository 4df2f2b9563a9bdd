"""Shows progress bars in notebooks and terminals, with tqdm."""

from collections.abc import Iterator
from contextlib import contextmanager

from analysis.progress import Progress, none

__all__ = ["shown_progress"]


@contextmanager
def shown_progress(what: str, *, total: float = 1.0, shown: bool = True) -> Iterator[Progress]:
    """Show a progress bar while the block runs; yields the callback that updates it with (stage, done).

    The progress bars of transformers are off meanwhile, and the bar is removed at the end.

    Args:
        what: Text before the stage.
        total: The final value of `done`: 1 for a share, or a number of steps.
        shown: Whether to draw the bar.
    """
    if not shown:
        yield none
        return
    from tqdm.auto import tqdm
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    bar = tqdm(total=total, desc=what, leave=False, bar_format="{desc} {percentage:3.0f}% {bar} {elapsed}")

    def tell(stage: str, done: float) -> None:
        bar.set_description_str(f"{what}: {stage}", refresh=False)
        bar.n = min(max(done, 0), total)
        bar.refresh()

    try:
        yield tell
    finally:
        bar.close()
        if was_on:
            logging.enable_progress_bar()

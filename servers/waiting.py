"""Waiting for a condition instead of for a time."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    """Return as soon as the condition holds; raise `TimeoutError`, saying `what`, if it never does.

    The pause between two looks grows from a millisecond to twenty: most conditions hold at once.
    """
    end = time.monotonic() + timeout
    pause = 0.001
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {timeout} seconds in vain: {what}.")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)

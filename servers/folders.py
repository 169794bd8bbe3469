"""A temporary folder for one server."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.afterwards import Afterwards
from servers.process import hand_over


@contextmanager
def folder_for(name: str) -> Iterator[tuple[Path, int]]:
    """Make a folder; it is gone when the block has ended and nobody holds the number with it.

    That is a file descriptor for the server to inherit, so that the folder outlives neither.
    """
    path = Path(tempfile.mkdtemp(prefix=f"django-replicas-{name}-"))
    removal = Afterwards('rm -rf -- "$1"', str(path))
    try:
        hand_over(path)
        yield path, removal.fd
    finally:
        removal.run_now()

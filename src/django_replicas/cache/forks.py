"""Forks as memory sees them: not every server tells Python of its own, uWSGI only if it is told to.

https://man7.org/linux/man-pages/man2/madvise.2.html describes what is done here.
"""

import mmap
import sys
from contextlib import suppress

# Python has no name for it.
MADV_WIPEONFORK = 18


def page_of_one_process() -> mmap.mmap:
    """Return memory that begins with a 1, and in a forked child with a 0 until it writes there.

    Elsewhere than on Linux, and before its version 4.14, it begins with a 1 in children too.
    """
    if sys.platform != "linux":  # pragma: no cover - tested on Linux
        page = mmap.mmap(-1, mmap.PAGESIZE)
    else:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):
            page.madvise(MADV_WIPEONFORK)
    page[0] = 1
    return page

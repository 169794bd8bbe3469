"""What was counted while people used the site."""

from dataclasses import astuple, dataclass
from typing import Self

from example.browser import Page

EXPECTED_STATUSES = {200, 302, 404}


@dataclass
class Tally:
    """Counts of one person, or of many added up.

    `looks` is how often somebody looked for what they had written, `unseen` how often in vain.
    """

    requests: int = 0
    follower_reads: int = 0
    leader_reads: int = 0
    writes: int = 0
    looks: int = 0
    unseen: int = 0
    failed: int = 0

    def __add__(self, other: Self) -> "Tally":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Tally(*(mine + theirs for mine, theirs in pairs))

    @property
    def follower_share(self) -> float:
        """The share of all reads that followers answered, from 0 to 1."""
        return self.follower_reads / max(1, self.follower_reads + self.leader_reads)

    @property
    def keeps_the_promise(self) -> bool:
        """Tell whether people looked, nobody looked in vain, and followers had work."""
        return self.looks > 0 and self.follower_reads > 0 and not (self.unseen or self.failed)

    def note(self, page: Page) -> None:
        self.requests += 1
        self.follower_reads += page.follower_reads
        self.leader_reads += page.leader_reads
        self.failed += page.status not in EXPECTED_STATUSES

"""The demo: `make demo`, or `python -m example.demo --help`.

Starts a PostgreSQL leader and two followers that lag by a second or two, lets simulated people use
the message board once with each way of routing, and prints what they saw.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

from example.crowd import let_a_crowd_in
from example.deployment import Deployment
from example.report import Progress, table
from example.tally import Tally
from servers.ports import first_free_port, free_port
from servers.postgres import Cluster

LAGS_MS = (1000, 1600)
OURS = ("LeaderFollowerRouter", "StrictPinRouter", "GreedyPinRouter")
NAMES = {
    "none": "no routing",
    "naive": "naive random routing",
    "clock15": "pins of 15 s, by the clock",
    "clock5": "pins of 5 s, by the clock",
    **{name: name for name in OURS},
}
EXPLANATION = """
The followers show a commit {} and {} seconds after the leader made it. A read counts for the
server that answered it. People look for what they wrote on the page that follows a write and on
their own page; "not seen" is how often it was missing. A pin by the clock keeps whoever wrote on
the leader for that long (here: to the end, if it is longer than what is left of the {:g} seconds).
The routers below it go by positions: back to a follower as soon as it has replayed the write."""


def main() -> int:
    """Run what the arguments ask for; return the exit status."""
    options = arguments()
    signal.signal(signal.SIGTERM, leave)
    # A shell that starts us in the background lets us ignore this one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return leave_open(options) if options.serve else compare(options)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 0 if options.serve else 130


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m example.demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the site up for a browser")
    parser.add_argument("--router", choices=NAMES, default="GreedyPinRouter", help="with --serve")
    parser.add_argument("--seconds", type=float, default=5, help="for each way of routing")
    parser.add_argument("--users", type=int, default=40, help="how many people use the site")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chance")
    return parser.parse_args()


def leave(number: int, _: object) -> NoReturn:
    """End as a signal asks, but leave every block on the way out."""
    raise SystemExit(128 + number)


def compare(options: argparse.Namespace) -> int:
    """Let people use the site under each router; fail if one of ours hid somebody's own write."""
    results: dict[str, Tally] = {}
    with Progress() as progress, deployed(options, progress) as deployment:
        for number, (router, name) in enumerate(NAMES.items()):
            port = free_port()
            with deployment.serving(router, port):
                results[name] = let_a_crowd_in(
                    port,
                    router.lower(),
                    size=options.users,
                    seconds=options.seconds,
                    seed=options.seed,
                    show=partial(progress.show_part, name, number, len(NAMES)),
                )
    print(table(results))
    print(EXPLANATION.format(*(lag / 1000 for lag in LAGS_MS), options.seconds))
    return 0 if all(results[router].keeps_the_promise for router in OURS) else 1


def leave_open(options: argparse.Namespace) -> int:
    """Serve the site for a browser until somebody interrupts."""
    port = first_free_port(8000)
    with (
        Progress() as progress,
        deployed(options, progress) as deployment,
        deployment.serving(options.router, port) as site,
    ):
        progress.clear()
        print(f"The board, with {NAMES[options.router]}: http://127.0.0.1:{port}/", flush=True)
        print("Ctrl-C ends it.", file=sys.stderr)
        site.wait_for_end()
        print(f"The site ended by itself:\n{site.last_words()}", file=sys.stderr)
    return 1


@contextmanager
def deployed(options: argparse.Namespace, progress: Progress) -> Iterator[Deployment]:
    """Start the servers, create the tables and the first messages; undo all of it at the end."""
    progress.show("starting PostgreSQL: a leader and two followers")
    with Cluster(apply_delay_ms=LAGS_MS) as cluster:
        deployment = Deployment(cluster, seed=options.seed)
        progress.show("creating the tables and the first messages")
        deployment.manage("migrate", "--verbosity=0")
        deployment.manage("fill_board")
        cluster.wait_for_replay()
        yield deployment


if __name__ == "__main__":
    sys.exit(main())

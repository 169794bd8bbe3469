"""``manage.py replicas``: the topology as it is now, where a read would go, what settings mean."""

import json
import os
import sys
import time
from argparse import SUPPRESS, ArgumentTypeError
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_replicas.checks.peers import aliases_with_peers
from django_replicas.checks.requests import has_middleware
from django_replicas.conf import get_config
from django_replicas.dialects import spoken_in, translated, words_of
from django_replicas.dialects.pasting import (
    as_comment,
    as_python,
    delegates_to_write,
    has_router_of_multidb,
    paths_to_change,
    values_to_write,
    with_paths,
)
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.explain import explain, explanation_lines
from django_replicas.peer_status import examine_peers, peer_lines
from django_replicas.status import examine, status_lines
from django_replicas.topology import ReplicaSet

NO_SETS = 'REPLICAS["SETS"] is empty: everything reads and writes where it is sent.'
MIDDLEWARE = "django_replicas.middleware.ReplicasMiddleware"
CLEAR, HOME, END_OF_LINE, END_OF_SCREEN = "\x1b[2J", "\x1b[H", "\x1b[K", "\x1b[J"
# Rows that are too long are cut, so that the columns stay columns.
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


class Command(BaseCommand):
    help = (
        "Show every replica set: who leads, who follows, who is alive, and how far behind. "
        "`replicas explain app.Model` says where a read of that model would go, and why. "
        "`replicas settings` prints REPLICAS, made of an older package's settings where there is "
        "none."
    )
    # It is wanted most when checks that connect would fail.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON.")
        parser.add_argument(
            "--database", metavar="ALIAS", help="Show only the set that this alias belongs to."
        )
        parser.add_argument(
            "--watch",
            nargs="?",
            const=2.0,
            type=seconds,
            metavar="SECONDS",
            help="Show it again every so many seconds (2), until Ctrl-C.",
        )
        subjects = parser.add_subparsers(dest="subject", metavar="explain | settings")
        subjects.add_parser("settings", help="Print REPLICAS, ready to paste.")
        explaining = subjects.add_parser(
            "explain", help="Say where a read of a model would go now, without connecting."
        )
        explaining.add_argument("model", metavar="app.Model")
        # Without a default, which would undo a --json that stands before the word.
        explaining.add_argument("--json", action="store_true", default=SUPPRESS, help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["subject"] == "settings":
                refuse_options(options, "json", "database", "watch")
                self.stdout.write("\n".join(settings_lines()))
                return
            sets = chosen_sets(options["database"])
            if options["subject"] == "explain":
                self.explain(options["model"], as_json=options["json"])
            elif options["watch"]:
                self.watch(sets, options["watch"], as_json=options["json"])
            else:
                self.stdout.write(self.status(sets, as_json=options["json"], indent=2))
        except ReplicasConfigError as error:
            raise CommandError(str(error)) from error

    def explain(self, label: str, *, as_json: bool) -> None:
        try:
            explanation = explain(apps.get_model(label))
        except (LookupError, ValueError) as error:
            raise CommandError(
                f"{label!r} is no installed model; name one as app.Model."
            ) from error
        lines = explanation_lines(explanation)
        self.stdout.write(
            json.dumps(explanation.as_dict(), indent=2) if as_json else "\n".join(lines)
        )

    def status(self, sets: Sequence[ReplicaSet], *, as_json: bool, indent: int | None) -> str:
        statuses, peers = examine(sets), examine_peers(self.aliases_with_peers(sets))
        if as_json:
            return json.dumps(
                [*(each.as_dict() for each in statuses), *(each.as_dict() for each in peers)],
                indent=indent,
            )
        colours = self.style.SUCCESS, self.style.ERROR
        lines = status_lines(statuses, *colours) if statuses else [NO_SETS]
        if peers:
            lines += ["", *peer_lines(peers, *colours)]
        return "\n".join(lines)

    def aliases_with_peers(self, sets: Sequence[ReplicaSet]) -> list[str]:
        """Return those of the chosen sets, where all sets are chosen those outside them too."""
        shown = {alias for each in sets for alias in (each.leader, *each.followers)}
        everything = sets == get_config().topology.sets
        return [alias for alias in aliases_with_peers() if everything or alias in shown]

    def watch(self, sets: Sequence[ReplicaSet], pause: float, *, as_json: bool) -> None:
        """Show the status until Ctrl-C: in place on a terminal, one after the other elsewhere."""
        in_place = self.stdout.isatty() and not as_json
        try:
            self.stdout.write(CLEAR if in_place else "", ending="")
            while True:
                text = self.status(sets, as_json=as_json, indent=None)
                self.stdout.write(redrawn(text, pause) if in_place else f"{text}\n", ending="")
                self.stdout.flush()
                time.sleep(pause)
        except KeyboardInterrupt:
            self.stdout.write("")
        except BrokenPipeError:  # pragma: no cover - tested in a process of its own
            # Who read it has seen enough. What is left in the buffer would fail once more at exit,
            # see https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def settings_lines() -> Iterator[str]:
    """Yield the lines of a settings module that say what the project's settings mean."""
    get_config()
    advice: Iterable[str]
    dialect = next(iter(spoken_in(settings)), None)
    if hasattr(settings, "REPLICAS") or dialect is None:
        replicas, advice = getattr(settings, "REPLICAS", {}), ()
    else:
        translation = translated(dialect, settings)
        yield from as_comment(f"In place of the settings of {words_of(dialect, settings)}.")
        replicas, advice = translation.replicas, translation.advice
    yield f"REPLICAS = {as_python(with_paths(replicas))}"
    paths = list(paths_to_change(settings))
    changes = (f'{where}: "{ours}" in place of "{path}".' for where, path, ours in paths)
    missing = missing_middleware({ours for _, _, ours in paths})
    delegates = delegates_to_write(replicas)
    for each in (*delegates, *advice, *changes, *missing, *values_to_write(settings)):
        yield from as_comment(each)


def refuse_options(options: dict[str, Any], *names: str) -> None:
    """Raise ``CommandError`` where an option is given that would do nothing."""
    given = [f"--{name}" for name in names if options[name]]
    if given:
        raise CommandError(
            "`replicas settings` prints all of REPLICAS, once and as Python: "
            f"{' and '.join(given)} would do nothing. Leave it out."
        )


def missing_middleware(paths: Container[str]) -> Iterator[str]:
    """Yield what a router of ours needs that the older one did by itself; *paths* are to come."""
    if not has_router_of_multidb(settings) or get_config().outside_units != "routed":
        return
    if MIDDLEWARE not in paths and not has_middleware():
        yield (
            f'MIDDLEWARE: put "{MIDDLEWARE}" first. The router that is there begins each request '
            "afresh without it; with GreedyPinRouter a thread that has written once would read "
            "the leader from then on."
        )


def redrawn(text: str, pause: float) -> str:
    """Return what puts *text* over what stands on the terminal, without a flicker."""
    heading = f"Every {pause:g} s, last at {time.strftime('%H:%M:%S')}. Ctrl-C ends."
    table, _, below = text.partition("\n\n")
    return HOME + NO_WRAP + _lines(f"{heading}\n\n{table}\n") + WRAP + _lines(below) + END_OF_SCREEN


def _lines(text: str) -> str:
    return "".join(f"{line}{END_OF_LINE}\n" for line in text.split("\n"))


def chosen_sets(alias: str | None) -> Sequence[ReplicaSet]:
    """Return the set that *alias* belongs to, every set where none is named."""
    topology = get_config().topology
    if alias is None:
        return topology.sets
    replica_set = topology.set_of(alias)
    if replica_set is None:
        raise CommandError(f"{alias!r} belongs to no set of REPLICAS.")
    return [replica_set]

"""``manage.py cache_cluster``: the nodes behind a cache, as its endpoint names them now."""

import json
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_replicas.cache.discovery import Source
from django_replicas.cache.elasticache import ClusterCache
from django_replicas.cache.endpoint import silent
from django_replicas.cache.replies import Node, NodeList
from django_replicas.exceptions import DiscoveryError


class Command(BaseCommand):
    help = (
        "Ask the configuration endpoint of a cache for its nodes, and each of them for an answer."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "alias", nargs="?", default="default", help="Its name in CACHES (default)."
        )
        parser.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        source = source_of(options["alias"])
        try:
            found = source.ask()
        except DiscoveryError as error:
            raise CommandError(str(error)) from error
        down = silent(source.endpoint, found.nodes, source.timeout)
        if options["json"]:
            self.stdout.write(json.dumps(as_dict(source, found, down), indent=2))
        else:
            self.stdout.write("\n".join(self.lines(source, found, down)))

    def lines(self, source: Source, found: NodeList, down: frozenset[Node]) -> list[str]:
        version = "no list, it is the only node" if found.version < 0 else f"list {found.version}"
        return [
            f"{source.endpoint}: {version}",
            *(
                f"  {node.hostname or '-'}  {node}  "
                + (self.style.ERROR("no answer") if node in down else self.style.SUCCESS("answers"))
                for node in found.nodes
            ),
        ]


def source_of(alias: str) -> Source:
    """Return where a cache learns its nodes."""
    try:
        cache = caches[alias]
        if isinstance(cache, ClusterCache):
            return cache.cluster.source
    except InvalidCacheBackendError as error:
        raise CommandError(f"The cache {alias!r} cannot be used: {error}") from error
    raise CommandError(f"The cache {alias!r} has no cluster: it is {type(cache).__name__}.")


def as_dict(source: Source, found: NodeList, down: frozenset[Node]) -> dict[str, Any]:
    return {
        "endpoint": str(source.endpoint),
        "version": None if found.version < 0 else found.version,
        "nodes": [{**node._asdict(), "answers": node not in down} for node in found.nodes],
    }

"""The long version: every scenario, each engine, and the counts side by side."""

import json
import random
from argparse import ArgumentParser
from pathlib import Path

from django.conf import settings

from .driver import ENGINES, OURS, THEIRS, Site
from .figures import publish
from .scenarios import COUNTED, SCENARIOS, run


def main():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--milliseconds", type=float, default=20)
    parser.add_argument("--jitter", type=float, default=60)
    parser.add_argument("--seed", default="races")
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FILE",
        help="write docs/figures/races.rst, of this run and those that FILE keeps of other engines",
    )
    chosen = parser.parse_args()
    settings.configure()
    found = {engine: count(engine, chosen) for engine in chosen.engine or [OURS, THEIRS]}
    if chosen.publish:
        kept = json.loads(chosen.publish.read_text()) if chosen.publish.exists() else {}
        chosen.publish.write_text(json.dumps(kept | found))
        publish(kept | found)


def count(engine, chosen):
    """Play every scenario with an engine, and say what came of it as it comes."""
    print(f"\n{engine}: {', '.join(COUNTED)}; requests, failed")
    found = {"users": chosen.users, "rounds": chosen.rounds, "counts": {}}
    chance = random.Random(chosen.seed)
    with Site(engine, chosen.milliseconds, chosen.jitter, 3, chance) as site:
        for name in chosen.scenario or SCENARIOS:
            play, options = SCENARIOS[name]
            counts = found["counts"][name] = run(
                site, play, users=chosen.users, rounds=chosen.rounds, seed=chosen.seed, **options
            )
            figures = [counts[each] for each in (*COUNTED, "requests", "failed")]
            print(f"{name:<36}" + "".join(f"{figure:>7}" for figure in figures), flush=True)
    return found


if __name__ == "__main__":
    main()

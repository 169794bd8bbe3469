"""The long version: every scenario, each engine, and the counts side by side."""

import random
from argparse import ArgumentParser

from django.conf import settings

from .driver import ENGINES, Site
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
    chosen = parser.parse_args()
    settings.configure()
    for engine in chosen.engine or ["django-replicas", "django-distributed 0.3"]:
        print(f"\n{engine}: {', '.join(COUNTED)}; requests, failed")
        chance = random.Random(chosen.seed)
        with Site(engine, chosen.milliseconds, chosen.jitter, 3, chance) as site:
            for name in chosen.scenario or SCENARIOS:
                play, options = SCENARIOS[name]
                counts = run(
                    site,
                    play,
                    users=chosen.users,
                    rounds=chosen.rounds,
                    seed=chosen.seed,
                    **options,
                )
                figures = [counts[each] for each in (*COUNTED, "requests", "failed")]
                print(f"{name:<36}" + "".join(f"{figure:>7}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()

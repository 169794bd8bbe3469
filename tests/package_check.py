"""Run by tox with the wheel and Django alone: what ships imports, and routes.

The leader and its follower hold different rows, so the row tells which of them answered.
"""

import asyncio
import importlib
import tempfile
import warnings
from contextlib import closing
from importlib import metadata, resources
from pathlib import Path
from pkgutil import walk_packages
from sqlite3 import connect

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.checks import run_checks
from django.db import connections

PUBLIC = {
    "bind",
    "follower",
    "get_follower",
    "get_newly_pinned",
    "get_pinned",
    "is_pinned",
    "leader",
    "master",
    "pin",
    "populate_replicas",
    "unit_of_work",
    "unpin_all",
    "use_follower",
    "use_leader",
    "use_master",
    "use_slave",
}
# What imports a package that is only there with an extra, or the tool that it is for.
WITH_EXTRAS = {"django_replicas.panels", "django_replicas.pytest_plugin"}
OF_OTHER_PACKAGES = "django_replicas.integrations."
ALONE_WITH = {"django-replicas", "django", "asgiref", "sqlparse", "tzdata"}


def make_database(path: Path, answer: str) -> None:
    with closing(connect(path)) as database, database:
        database.execute("CREATE TABLE django_site (id integer PRIMARY KEY, domain, name)")
        database.execute("INSERT INTO django_site VALUES (1, ?, ?)", [answer, answer])


def configure(folder: Path) -> None:
    databases = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "leader"},
        "replica1": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": folder / "follower",
            "TEST": {"MIRROR": "default"},
        },
    }
    settings.configure(
        SECRET_KEY="only for this check",
        DATABASES=databases,
        DATABASE_ROUTERS=["django_replicas.routers.GreedyPinRouter"],
        INSTALLED_APPS=["django_replicas", "django.contrib.sites"],
        MIDDLEWARE=["django_replicas.middleware.ReplicasMiddleware"],
        REPLICAS={"SETS": {"default": ["replica1"]}},
    )
    django.setup()


def check_contents() -> None:
    installed = {distribution.name.lower() for distribution in metadata.distributions()}
    assert installed <= ALONE_WITH, f"not alone: {sorted(installed - ALONE_WITH)}"
    # Each compat package warns as it is imported, which all of them are here.
    warnings.filterwarnings("ignore", r"django_replicas\.compat\.", DeprecationWarning)
    package = importlib.import_module("django_replicas")
    assert resources.files(package).joinpath("py.typed").is_file()
    assert not PUBLIC - set(dir(package)), f"missing: {sorted(PUBLIC - set(dir(package)))}"
    for module in walk_packages(package.__path__, "django_replicas."):
        if module.name not in WITH_EXTRAS and not module.name.startswith(OF_OTHER_PACKAGES):
            importlib.import_module(module.name)
    assert resources.files(package).joinpath("templates/django_replicas/panel.html").is_file()


def check_routes() -> None:
    replicas = importlib.import_module("django_replicas")
    sites = importlib.import_module("django.contrib.sites.models").Site.objects

    def answer() -> str:
        return str(sites.values_list("name", flat=True).get(pk=1))

    assert answer() == "leader", "outside a unit of work"
    with replicas.unit_of_work():
        assert answer() == "follower", "a unit that has not written"
        sites.filter(pk=1).update(domain="written")
        assert answer() == "leader", "a unit that has written"
    with replicas.unit_of_work():
        assert answer() == "follower", "the next unit"


async def check_routes_async() -> None:
    try:
        await check_reads_async()
    finally:
        await sync_to_async(connections.close_all)()  # those of the loop's worker thread


async def check_reads_async() -> None:
    replicas = importlib.import_module("django_replicas")
    sites = importlib.import_module("django.contrib.sites.models").Site.objects
    with replicas.unit_of_work():
        assert (await sites.aget(pk=1)).name == "follower", "a unit on the event loop"
        with replicas.pin("default"):
            assert (await sites.aget(pk=1)).name == "leader", "pinned on the event loop"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_database(folder / "leader", "leader")
        make_database(folder / "follower", "follower")
        configure(folder)
        check_contents()
        problems = [str(message) for message in run_checks() if message.level >= 30]
        assert not problems, problems
        check_routes()
        asyncio.run(check_routes_async())
        connections.close_all()
    print(f"django-replicas {metadata.version('django-replicas')} alone with Django", end=" ")
    print(f"{django.get_version()}: imports and routes")


if __name__ == "__main__":
    main()

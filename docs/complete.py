"""Warn of what the package has and these pages have not; the build takes warnings for errors."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import django_replicas
from django_replicas import checks

logger = logging.getLogger(__name__)

# Older names for what is documented already, and programs; both have pages of another kind.
ON_OTHER_PAGES = ("django_replicas.compat", "django_replicas.management")
# What needs a package that is not installed here is described by hand.
NOT_IMPORTED = (
    "django_replicas.integrations",
    "django_replicas.panels",
    "django_replicas.pytest_plugin",
)
EMPTY = {
    "django_replicas.backends",
    "django_replicas.backends.balanced",
    "django_replicas.cache",
    "django_replicas.integrations",
    "django_replicas.sessions",
}
NOT_FOR_USE = {"django_replicas.test.SharedConnection"}


def warn_of_what_is_missing(app: Sphinx, env: BuildEnvironment) -> None:
    domain = env.domaindata["py"]
    for module in modules():
        if module not in domain["modules"]:
            logger.warning("The module %s is on no page of docs/api.", module)
    for name in public_names():
        if name not in domain["objects"]:
            logger.warning("%s is public, and on no page, or it has no docstring.", name)
    labels = env.domaindata["std"]["labels"]
    for number in numbers_of_checks():
        # The page and the anchor that the hints of checks lead to.
        if labels.get(f"django_replicas.{number}", ())[:2] != (
            "checks",
            f"django-replicas-{number}",
        ):
            logger.warning("The hint of django_replicas.%s leads nowhere.", number.upper())


def numbers_of_checks() -> Iterator[str]:
    for path in Path(checks.__file__).parent.glob("*.py"):
        for number in re.findall(r'"([EW]\d{3})"', path.read_text()):
            yield number.lower()


def modules() -> Iterator[str]:
    names = (found.name for found in walk_packages(django_replicas.__path__, "django_replicas."))
    for name in names:
        if name not in EMPTY and not name.startswith(ON_OTHER_PAGES):
            yield name


def public_names() -> Iterator[str]:
    for verb in django_replicas.__all__:
        yield f"django_replicas.{verb}"
    for name in modules():
        if not name.startswith(NOT_IMPORTED):
            yield from filter(lambda each: each not in NOT_FOR_USE, names_in(import_module(name)))


def names_in(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        is_ours = getattr(value, "__module__", None) == module.__name__
        if (
            is_ours
            and not name.startswith("_")
            and (inspect.isroutine(value) or inspect.isclass(value))
        ):
            yield f"{module.__name__}.{name}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-check-consistency", warn_of_what_is_missing)
    return {"parallel_read_safe": True}

"""The form of every message: a stable id, and a hint that leads to its remedy."""

from django.core.checks import Error, Warning

from django_replicas.conf import get_sound_config

CHECKS_PAGE = "https://django-replicas.readthedocs.io/en/stable/checks.html"


def error(number: str, problem: str, remedy: str) -> Error:
    """Return the error ``django_replicas.<number>``."""
    return Error(_told(problem), hint=_hint(number, remedy), id=f"django_replicas.{number}")


def warning(number: str, problem: str, remedy: str) -> Warning:
    """Return the warning ``django_replicas.<number>``."""
    return Warning(_told(problem), hint=_hint(number, remedy), id=f"django_replicas.{number}")


def _told(text: str) -> str:
    return get_sound_config().in_its_words(text)


def _hint(number: str, remedy: str) -> str:
    return f"{_told(remedy)} See {CHECKS_PAGE}#django-replicas-{number.lower()}"

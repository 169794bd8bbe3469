"""The form of every message: a stable id, and a hint that leads to its remedy."""

from django.core.checks import Error, Warning

CHECKS_PAGE = "https://django-replicas.readthedocs.io/en/stable/checks.html"


def error(number: str, problem: str, remedy: str) -> Error:
    """Return the error ``django_replicas.<number>``."""
    return Error(problem, hint=_hint(number, remedy), id=f"django_replicas.{number}")


def warning(number: str, problem: str, remedy: str) -> Warning:
    """Return the warning ``django_replicas.<number>``."""
    return Warning(problem, hint=_hint(number, remedy), id=f"django_replicas.{number}")


def _hint(number: str, remedy: str) -> str:
    return f"{remedy} See {CHECKS_PAGE}#django-replicas-{number.lower()}"

"""The form of every message: a stable id, and a hint that leads to its remedy."""

from django.conf import settings
from django.core.checks import Error, Warning

from django_replicas.conf import get_sound_config
from django_replicas.dialects import spoken_in, words_of

CHECKS_PAGE = "https://django-replicas.readthedocs.io/en/stable/checks.html"


def error(number: str, problem: str, remedy: str) -> Error:
    """Return the error ``django_replicas.<number>``."""
    return Error(
        _told(problem), hint=_hint(number, problem, remedy), id=f"django_replicas.{number}"
    )


def warning(number: str, problem: str, remedy: str) -> Warning:
    """Return the warning ``django_replicas.<number>``."""
    return Warning(
        _told(problem), hint=_hint(number, problem, remedy), id=f"django_replicas.{number}"
    )


def _told(text: str) -> str:
    return get_sound_config().in_its_words(text)


def _hint(number: str, problem: str, remedy: str) -> str:
    told = _told(remedy)
    if "REPLICAS[" in _told(problem) + told:
        told += _on_older_settings()
    return f"{told} See {CHECKS_PAGE}#django-replicas-{number.lower()}"


def _on_older_settings() -> str:
    """Say where a key of ``REPLICAS`` is written in a project with an older package's settings."""
    if hasattr(settings, "REPLICAS"):
        return ""
    return "".join(
        f" There is no REPLICAS yet, and beside one the settings of {words_of(each, settings)} do "
        "not count: begin with the one that `manage.py replicas settings` prints in their place."
        for each in spoken_in(settings)
    )

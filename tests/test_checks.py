"""The system checks: what is wrong in the settings, key by key."""

import pytest
from django.core.checks import Error, Warning, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from django_replicas.checks import check_settings


def ours():
    return [each for each in run_checks() if str(each.id).startswith("django_replicas.")]


def test_right_settings_have_no_errors():
    """The settings of these tests are right, and so is an empty dict."""
    assert ours() == []


def test_no_settings_have_no_errors(settings):
    """A project that configures nothing has nothing wrong."""
    settings.REPLICAS = {}
    assert ours() == []


def test_each_wrong_key_is_an_error(settings):
    """All that is wrong is told at once, as the settings tell it."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACES": True, "ENABLED": 1}
    hint = "All settings are described in the documentation under “Settings”."
    assert ours() == [
        Error(
            'REPLICAS["TRACES"] is not a setting. Remove it, or correct its name.',
            hint=hint,
            id="django_replicas.E001",
        ),
        Error(
            'REPLICAS["ENABLED"] must be True or False, not 1.',
            hint=hint,
            id="django_replicas.E001",
        ),
    ]


def test_each_alias_must_be_a_database(settings):
    """Leaders and followers that are not in DATABASES are named, with their set."""
    settings.REPLICAS = {"SETS": {"default": ["replica1", "replica9"], "nobody": ["replica2"]}}
    assert ours() == [
        Error(
            "REPLICAS[\"SETS\"] names 'replica9', which is not in DATABASES.",
            hint="Add it to DATABASES, or remove it from the set of 'default'.",
            id="django_replicas.E002",
        ),
        Error(
            "REPLICAS[\"SETS\"] names 'nobody', which is not in DATABASES.",
            hint="Add it to DATABASES, or remove it from the set of 'nobody'.",
            id="django_replicas.E002",
        ),
    ]


def test_right_sets_are_looked_at_beside_wrong_keys(settings):
    """One run tells both kinds of errors."""
    settings.REPLICAS = {"SETS": {"default": ["replica9"]}, "TRACE": 1}
    assert [each.id for each in ours()] == ["django_replicas.E001", "django_replicas.E002"]


def test_each_leader_model_must_be_installed(settings):
    """Labels of no installed model are named; case is of no consequence."""
    settings.REPLICAS = {"LEADER_MODELS": ["shop.Book", "shop.lABEL", "shop.Bok", "shopp.Book"]}
    assert ours() == [
        Error(
            f'REPLICAS["LEADER_MODELS"] names {label!r}, which is no installed model.',
            hint="Correct it, or remove it.",
            id="django_replicas.E003",
        )
        for label in ("shop.Bok", "shopp.Book")
    ]


@pytest.mark.parametrize("alias", ["default", "other"])
def test_transactions_around_every_request_are_warned_of(monkeypatch, alias):
    """A leader that is in a transaction in every view serves every read."""
    monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    assert ours() == [
        Warning(
            f"ATOMIC_REQUESTS is on for {alias!r}, so that every view reads the leader.",
            hint="Turn it off and open transactions with atomic() where there are writes.",
            id="django_replicas.W001",
        )
    ]


def test_transactions_elsewhere_are_nobodys_business(monkeypatch):
    """Only a leader's own transactions draw reads to it."""
    monkeypatch.setitem(connections.settings["lonely"], "ATOMIC_REQUESTS", True)
    assert ours() == []


def test_transactions_on_a_follower_are_an_error(monkeypatch):
    """They would open its connection for every request, and fail while it is down."""
    monkeypatch.setitem(connections.settings["replica1"], "ATOMIC_REQUESTS", True)
    (error,) = ours()
    assert error.id == "django_replicas.E005"
    assert "'replica1'" in error.msg


def test_the_check_command_fails(settings):
    """``manage.py check`` says it and fails, instead of a surprise at run time."""
    settings.REPLICAS = {"TRACES": True}
    with pytest.raises(SystemCheckError, match=r"django_replicas\.E001.*TRACES"):
        call_command("check")


@pytest.mark.parametrize(
    ("key", "value"), [("MARK_STORE", "no.such.Store"), ("DELEGATE_ROUTERS", ["no.such.Router"])]
)
def test_what_cannot_be_imported_is_an_error(key, value, settings):
    """A dotted path that leads nowhere is told with its key, before a request meets it."""
    settings.REPLICAS = {key: value}
    (error,) = [each for each in check_settings() if each.id == "django_replicas.E004"]
    assert f'REPLICAS["{key}"]' in error.msg

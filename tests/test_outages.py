"""Which failed connections are outages, by what drivers raise; real servers raise it elsewhere."""

import os
import socket
from types import SimpleNamespace

import psycopg
import psycopg_pool
import pytest
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL

from django_replicas import refusals
from django_replicas.outages import Outage, is_busy, outage_of
from django_replicas.refusals import Refusal, ask_for_refusal


class Raised(Exception):
    """An error as a driver would raise it."""

    def __init__(self, *args, **attributes):
        super().__init__(*args)
        vars(self).update(attributes)


class AboutConnecting(Raised):
    pass


def engine(vendor):
    driver = SimpleNamespace(OperationalError=AboutConnecting, InterfaceError=AboutConnecting)
    return SimpleNamespace(vendor=vendor, Database=driver)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", Outage.REFUSING),
        ("08P01", Outage.REFUSING),
        ("53300", Outage.REFUSING),
        ("57P01", Outage.REFUSING),
        ("57P02", Outage.REFUSING),
        ("57P03", Outage.REFUSING),
        ("57014", None),
        ("28P01", None),
        ("28000", None),
        ("3D000", None),
        ("42501", None),
    ],
)
@pytest.mark.parametrize("attribute", ["sqlstate", "pgcode"])
def test_postgresql(state, expected, attribute):
    """By SQLSTATE, whichever driver brought it."""
    error = AboutConnecting("text", **{attribute: state})
    assert outage_of(error, engine("postgresql")) is expected


def test_postgresql_with_a_driver_that_tells_nothing():
    """psycopg2 has no way to ask again: in doubt it is an outage, and its error is logged."""
    assert outage_of(AboutConnecting("text"), engine("postgresql")) is Outage.UNREACHABLE


def test_postgresql_and_what_is_no_operational_error():
    """A mistake in the options is no outage."""
    error = psycopg.ProgrammingError("invalid connection option")
    assert outage_of(error, engine("postgresql")) is None


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2002, Outage.UNREACHABLE),
        (2013, Outage.UNREACHABLE),
        (1040, Outage.REFUSING),
        (1053, Outage.REFUSING),
        (1203, Outage.REFUSING),
        (1045, None),
        (1049, None),
        (3000, None),
    ],
)
def test_mysql(number, expected):
    """By the number, the client's own being those from 2000 on."""
    assert outage_of(Raised(number, "text"), engine("mysql")) is expected


@pytest.mark.parametrize("arguments", [(), ("text",)])
def test_mysql_without_a_number(arguments):
    """Some drivers raise a text alone; then its class decides."""
    assert outage_of(AboutConnecting(*arguments), engine("mysql")) is Outage.UNREACHABLE
    assert outage_of(Raised(*arguments), engine("mysql")) is None


def test_other_engines():
    """By the class alone, the driver's or Django's."""
    assert outage_of(AboutConnecting(), engine("oracle")) is Outage.UNREACHABLE
    assert outage_of(InterfaceError(), engine("oracle")) is Outage.UNREACHABLE
    assert outage_of(Raised(), engine("oracle")) is None


def test_what_django_wraps_is_looked_into():
    """The cause is the driver's error."""
    error = OperationalError("text")
    error.__cause__ = AboutConnecting("text", sqlstate="28P01")
    assert outage_of(error, engine("postgresql")) is None
    error.__cause__.sqlstate = "53300"
    assert outage_of(error, engine("postgresql")) is Outage.REFUSING


def test_only_a_pool_that_is_empty_is_no_lasting_outage():
    """A server is left alone, a pool is asked again."""
    assert [each.lasts for each in Outage] == [True, True, False]


def postgres(**options):
    settings = {
        **connections.configure_settings({"default": {}})["default"],
        "NAME": "app",
        "USER": "app",
        "HOST": "127.0.0.1",
        "PORT": "1",
        "OPTIONS": options,
    }
    return PostgreSQL(settings, "asked")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"connect_timeout": "soon"},
        {"no_such_option": 1},
        {"sslmode": "no_such_mode"},
    ],
)
def test_nothing_is_known_without_an_answer(options):
    """Neither where nobody listens, nor where libpq cannot even try."""
    assert ask_for_refusal(postgres(**options)) is Refusal.UNKNOWN


@pytest.mark.parametrize("error", [psycopg_pool.TooManyRequests, psycopg_pool.PoolClosed])
def test_a_pool_that_is_full_or_closed_says_nothing_of_its_server(error):
    """Nobody is asked: another server can be taken, and this one is not left alone."""
    assert outage_of(error(), postgres()) is Outage.BUSY
    assert is_busy(error(), postgres())


def test_a_pool_without_a_connection_may_have_lost_its_server():
    """The server is asked then, and only then."""
    assert outage_of(psycopg_pool.PoolTimeout(), postgres()) is Outage.UNREACHABLE
    assert not is_busy(psycopg_pool.PoolTimeout(), postgres())
    assert not is_busy(psycopg.OperationalError(), "nobody to ask")


def test_nothing_is_known_of_a_server_that_does_not_answer(monkeypatch):
    """It is waited for no longer than connecting may take."""
    monkeypatch.setattr(refusals, "DEFAULT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = postgres()
        asked.settings_dict["PORT"] = str(silent.getsockname()[1])
        assert ask_for_refusal(asked) is Refusal.UNKNOWN


def test_nothing_is_known_where_nothing_can_be_written_to_memory(monkeypatch):
    """As on macOS, whose Python has no ``memfd_create``."""
    monkeypatch.delattr(os, "memfd_create")
    assert ask_for_refusal(postgres()) is Refusal.UNKNOWN


def test_nothing_is_known_where_libpq_writes_nothing_down():
    """As psycopg has it on other systems than Linux."""

    class Silent:
        finish = staticmethod(lambda: None)

        @classmethod
        def connect_start(cls, conninfo):
            return cls()

        def trace(self, fileno):
            raise psycopg.NotSupportedError("only on Linux")

    driver = SimpleNamespace(
        pq=SimpleNamespace(PGconn=Silent), conninfo=psycopg.conninfo, Error=psycopg.Error
    )
    asked = SimpleNamespace(Database=driver, get_connection_params=lambda: {"dbname": "app"})
    assert ask_for_refusal(asked) is Refusal.UNKNOWN

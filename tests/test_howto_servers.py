"""What the pages of ``docs/howto`` show of servers comes out as they say, with real ones."""

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connections

from django_replicas import unit_of_work
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit

from .pages import python_of
from .replicated import catch_up, cluster_with_labels, databases_of, lagging_behind
from .shop.models import Label

TABLE = Label._meta.db_table


@pytest.fixture(scope="module")
def cluster():
    with cluster_with_labels() as cluster:
        yield cluster


@pytest.fixture
def lagging(cluster, databases_are, settings):
    with lagging_behind(cluster, databases_are, settings):
        yield cluster
        connections.close_all()


def wait_for_followers(**options):
    names = {}
    code = next(each for each in python_of("howto/schema-changes") if "class Command" in each)
    exec(code, names)
    call_command(names["Command"](), **options)


@pytest.fixture
def migrated(lagging):
    """Add a column, which the follower does not have before it catches up."""
    lagging.leader.execute(f"ALTER TABLE {TABLE} ADD COLUMN colour text")
    yield lagging
    lagging.leader.execute(f"ALTER TABLE {TABLE} DROP COLUMN colour")


def read_as_new_code_does():
    with unit_of_work():
        list(Label.objects.raw(f"SELECT id, word, colour FROM {TABLE}"))
        return set(current_unit().counts)


def test_new_code_waits_for_followers(migrated):
    """Until the follower has the column the command fails, and so would the page."""
    with pytest.raises(CommandError, match=r"^replica1: not at 0/[0-9A-F]+ yet\.$"):
        wait_for_followers(seconds=0)
    with pytest.raises(ProgrammingError, match="colour"):
        read_as_new_code_does()
    catch_up(migrated)
    wait_for_followers()
    assert read_as_new_code_does() == {("replica1", Reason.FOLLOWER)}


def test_an_empty_set_needs_no_waiting(migrated, settings):
    """The leader has the column, and answers."""
    settings.REPLICAS = {"SETS": {"default": []}}
    assert read_as_new_code_does() == {("default", Reason.NO_FOLLOWER)}


def test_what_takes_writes_is_waited_for_in_vain(cluster, databases_are, settings):
    """As a follower that was promoted does."""
    entries = databases_of(cluster)
    databases_are(default=entries["default"], replica1=entries["default"])
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    with pytest.raises(CommandError, match=r"^replica1: not at "):
        wait_for_followers(seconds=0)


def test_a_leader_without_a_position_is_told(databases):
    """As SQLite is."""
    with pytest.raises(CommandError, match="The leader tells no position"):
        wait_for_followers()

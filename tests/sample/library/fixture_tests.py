"""The fixtures, as a project on pytest-django uses them."""

import pytest

from .models import Author, Book


@pytest.fixture
def book(db):
    return Book.objects.create(title="Always", author=Author.objects.create(name="Ursula"))


def test_a_page_without_the_fixture_reads_the_leader(book, client, assert_reads_from):
    with assert_reads_from("leader"):
        assert b"Always" in client.get("/books/").content


def test_a_page_reads_a_follower(book, client, shared_followers, assert_reads_from):
    with assert_reads_from("follower"):
        assert b"Always" in client.get("/books/").content


def test_followers_lag_on_demand(book, client, shared_followers, frozen_follower):
    with frozen_follower("default"):
        Book.objects.update(title="Never")
        assert b"Always" in client.get("/books/").content
    assert b"Never" in client.get("/books/").content


@pytest.mark.django_db(transaction=True, databases=["default", "replica1", "replica2"])
def test_followers_lag_where_tests_commit(book, client, frozen_follower):
    with frozen_follower("default"):
        Book.objects.update(title="Never")
        assert b"Always" in client.get("/books/").content
    assert b"Never" in client.get("/books/").content

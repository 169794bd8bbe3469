"""Each store over PostgreSQL, with a follower that lags: its marks are positions."""

import json
from itertools import count

import pytest
from django.db import connections
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_replicas import unit_of_work
from django_replicas.calls import headers_to_send

from .replicated import catch_up, cluster_with_labels, lagging_behind
from .shop.models import Label

HEADER = "X-Replicas-Mark"
words = (f"word{number}" for number in count())
SEEN_ON_LEADER, SEEN_ON_FOLLOWER = [True, "default"], [True, "replica1"]


def read(request):
    labels = Label.objects.filter(word=request.GET["word"])
    return JsonResponse([labels.exists(), labels.db], safe=False)


def save(request):
    Label.objects.create(word=request.GET["word"])
    return HttpResponse()


urlpatterns = [path("read", read), path("save", save)]


def person(request):
    return request.headers.get("X-Person")


@pytest.fixture(scope="module")
def cluster():
    with cluster_with_labels() as cluster:
        yield cluster


@pytest.fixture
def configure(cluster, databases_are, settings):
    settings.ROOT_URLCONF = __name__

    def configure(**keys):
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    with lagging_behind(cluster, databases_are, settings):
        yield configure
        connections.close_all()


def get(client, word, **headers):
    return json.loads(client.get("/read", {"word": word}, headers=headers).content)


def in_cookie(word):
    browser = Client()
    browser.post(f"/save?word={word}")
    return lambda: get(browser, word)


def in_header(word):
    response = Client().post(f"/save?word={word}")
    return lambda: get(Client(), word, **{HEADER: response.headers[HEADER]})


def in_cache(word):
    me = {"X-Person": "me"}
    assert not Client(headers=me).post(f"/save?word={word}").cookies
    return lambda: get(Client(headers=me), word)


STORES = [
    ({"MARK_STORE": "cookie"}, in_cookie),
    ({"MARK_STORE": "header"}, in_header),
    ({"MARK_STORE": "cache", "MARK_KEY": f"{__name__}.person"}, in_cache),
]


@pytest.mark.parametrize(("keys", "write"), STORES)
def test_a_user_goes_back_to_the_follower(keys, write, configure, cluster):
    """On the leader until the follower has the write, and not a moment longer."""
    configure(**keys)
    word = next(words)
    read = write(word)
    assert [read(), read()] == [SEEN_ON_LEADER] * 2
    assert get(Client(), word) == [False, "replica1"]
    catch_up(cluster)
    assert read() == SEEN_ON_FOLLOWER


def test_two_writes_of_one_person(configure, cluster):
    """Of two devices that wrote, both see the later write."""
    configure(**STORES[-1][0])
    first, second = next(words), next(words)
    read_first, read_second = in_cache(first), in_cache(second)
    assert [read_first(), read_second()] == [SEEN_ON_LEADER] * 2
    catch_up(cluster)
    assert [read_first(), read_second()] == [SEEN_ON_FOLLOWER] * 2


def test_from_one_service_to_the_next(configure, cluster):
    """What a unit wrote is seen where it calls."""
    configure(MARK_STORE="header")
    word = next(words)
    with unit_of_work():
        Label.objects.create(word=word)
        sent = headers_to_send()
    assert ":p" in sent[HEADER]
    assert get(Client(), word, **sent) == SEEN_ON_LEADER
    catch_up(cluster)
    assert get(Client(), word, **sent) == SEEN_ON_FOLLOWER

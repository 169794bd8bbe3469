"""What endpoints say, and what is made of it: lists, errors, and lists kept."""

import logging
import os
import socket
import ssl
import time
from contextlib import ExitStack, contextmanager
from itertools import chain, count, repeat
from threading import Barrier, Event, Thread
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_replicas.cache.discovery import Cluster, Source, View, _after_fork, cluster_of
from django_replicas.cache.endpoint import (
    LONGEST_LINE,
    MOST_RECEIVED,
    Conversation,
    Endpoint,
    Span,
    answers,
    ask,
    silent,
)
from django_replicas.cache.replies import (
    COMMAND,
    OLDER_COMMAND,
    Node,
    NodeList,
    command_for,
    payload_size,
    quoted,
    read_nodes,
)
from django_replicas.exceptions import (
    DiscoveryError,
    EndpointUnreachableError,
    MalformedReplyError,
    NoDiscoveryError,
)
from django_replicas.signals import cluster_changed, discovery_failed
from servers.configuration_endpoint import ConfigurationEndpoint, listing
from servers.memcached import Memcached
from servers.ports import free_port
from servers.waiting import wait_until

from . import clusters
from .clusters import address_of

ONE, TWO, THREE = (f"node-{n}.example|10.0.0.{n}|11211" for n in (1, 2, 3))
NODES = tuple(Node(f"node-{n}.example", f"10.0.0.{n}", 11211) for n in (1, 2, 3))
CALLS_ARE_LATE = 5.0

certificate = clusters.certificate


@pytest.fixture
def endpoint():
    with ConfigurationEndpoint() as endpoint:
        endpoint.say(listing(1, [ONE, TWO]))
        yield endpoint


def at(endpoint):
    return Endpoint(*address_of(endpoint.location))


def asked(endpoint, timeout=CALLS_ARE_LATE):
    return ask(at(endpoint), timeout)


def refused(endpoint, kind, timeout=CALLS_ARE_LATE):
    with pytest.raises(kind) as raised:
        asked(endpoint, timeout)
    assert raised.value.endpoint == endpoint.location
    assert endpoint.location in str(raised.value)
    return raised.value


# Lists


def test_list(endpoint):
    """The command's reply, whatever the order in it."""
    endpoint.say(listing(7, [TWO, ONE, TWO]))
    assert asked(endpoint) == NodeList(7, NODES[:2])
    assert endpoint.commands == [b"version", COMMAND.strip()]


@pytest.mark.parametrize("engine", [b"1.4.13", b"1.4.5", b"0.9.99"])
def test_older_engine(endpoint, engine):
    """Engines before 1.4.14 keep the list under a key."""
    endpoint.engine = engine
    endpoint.say(listing(3, [ONE], "VALUE AmazonElastiCache:cluster 0"))
    assert asked(endpoint) == NodeList(3, NODES[:1])
    assert endpoint.commands == [b"version", OLDER_COMMAND.strip()]


@pytest.mark.parametrize("engine", [b"1.4.14", b"1.10.0", b"2.0.0", b"1.6.12-aws", b"unknown"])
def test_newer_engine(endpoint, engine):
    """All others, unknown ones too, have the command."""
    assert command_for(b"VERSION " + engine) == COMMAND
    endpoint.engine = engine
    assert asked(endpoint).version == 1


def test_reply_in_single_bytes(endpoint):
    """Nobody promises that a reply comes in one piece."""
    reply = listing(2, [ONE, THREE])
    endpoint.say(*(reply[i : i + 1] for i in range(len(reply))))
    assert asked(endpoint) == NodeList(2, (NODES[0], NODES[2]))


@pytest.mark.parametrize(
    ("entry", "node", "text"),
    [
        ("name|10.0.0.1|11212", Node("name", "10.0.0.1", 11212), "10.0.0.1:11212"),
        ("name||11212", Node("name", "", 11212), "name:11212"),
        ("name|10.0.0.1|", Node("name", "10.0.0.1", 11211), "10.0.0.1:11211"),
        ("name|10.0.0.1", Node("name", "10.0.0.1", 11211), "10.0.0.1:11211"),
        ("|10.0.0.1|1", Node("", "10.0.0.1", 1), "10.0.0.1:1"),
        ("10.0.0.1|10.0.0.1|1", Node("10.0.0.1", "10.0.0.1", 1), "10.0.0.1:1"),
        ("name|2001:DB8::1|1", Node("name", "2001:db8::1", 1), "[2001:db8::1]:1"),
        ("name|[2001:db8::1]|1", Node("name", "2001:db8::1", 1), "[2001:db8::1]:1"),
        ("[::1]|[::1]|1", Node("::1", "::1", 1), "[::1]:1"),
    ],
)
def test_entries(entry, node, text):
    """Names, addresses of both families, and ports that may be left out."""
    assert read_nodes(f"1\n{entry}\n".encode()) == NodeList(1, (node,))
    assert str(node) == text


def test_what_is_connected_to():
    """The address, but the name where a certificate must match, or where there is no other."""
    plain, secure = Endpoint("e", 1), Endpoint("e", 1, ssl.create_default_context())
    node, nameless = Node("name", "10.0.0.1", 1), Node("", "10.0.0.1", 1)
    assert (plain.host_of(node), secure.host_of(node)) == ("10.0.0.1", "name")
    assert secure.host_of(nameless) == "10.0.0.1"


def test_ipv6_endpoint():
    """An endpoint may have an IPv6 address."""
    with ConfigurationEndpoint(family="::1") as endpoint:
        endpoint.say(listing(1, [ONE]))
        assert asked(endpoint).nodes == NODES[:1]
        assert str(at(endpoint)) == f"[::1]:{endpoint.port}"


def test_tls(certificate):
    """TLS from the first byte, the name verified; without trust there is an error, no list."""
    trusting = certificate.trusting()
    with ConfigurationEndpoint(tls=certificate.serving()) as endpoint:
        endpoint.say(listing(1, [ONE]))
        port = endpoint.port
        assert ask(Endpoint("localhost", port, trusting), CALLS_ARE_LATE).nodes == NODES[:1]
        assert answers("localhost", port, trusting, CALLS_ARE_LATE)
        for host, context in [("127.0.0.1", trusting), ("localhost", ssl.create_default_context())]:
            with pytest.raises(EndpointUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
                ask(Endpoint(host, port, context), CALLS_ARE_LATE)


# Errors


@pytest.mark.parametrize(
    "reply", [b"ERROR\r\n", b"CLIENT_ERROR no\r\n", b"SERVER_ERROR\r\n", b"END\r\n"]
)
def test_no_discovery(endpoint, reply):
    """A refusal is told from a mistake, and quoted."""
    endpoint.say(reply)
    error = refused(endpoint, NoDiscoveryError)
    assert error.received == reply.strip()
    assert str(error) == (
        f"The configuration endpoint {endpoint.location} gave no list of nodes: "
        f"it knows no discovery; it said {reply.strip()!r}."
    )


def test_memcached_itself():
    """A real memcached that is no cluster knows no discovery."""
    with Memcached() as memcached:
        refused(memcached, NoDiscoveryError)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (b"", "'' is not a number"),
        (b"1\n", "it names no node"),
        (b"1\n\n", "it names no node"),
        (b"-1\na|1.2.3.4|1\n", "'-1' is not a number"),
        (b"1_0\na|1.2.3.4|1\n", "'1_0' is not a number"),
        (b"1" * 20 + b"\na|1.2.3.4|1\n", "is not a number up to"),
        (b"1\na\n", "'a' is not hostname|ip|port"),
        (b"1\na|1.2.3.4|1|1\n", "is not hostname|ip|port"),
        (b"1\n||1\n", "neither name nor address"),
        (b"1\na|1.2.3.999|1\n", "'1.2.3.999' does not appear to be an IPv4 or IPv6 address"),
        (b"1\na|1.2.3.4|70000\n", "'70000' is not a number up to 65535"),
        (b"1\na|1.2.3.4|x\n", "'x' is not a number"),
        (b"1\n-a/b||1\n", "'-a/b' does not appear to be"),
        ("1\nnöde|1.2.3.4|1\n".encode(), "'ascii' codec can't decode"),
    ],
)
def test_malformed_payload(endpoint, payload, problem):
    """A list is believed whole or not at all; the error quotes it."""
    endpoint.say(b"CONFIG cluster 0 %d\r\n%b\r\nEND\r\n" % (len(payload), payload))
    error = refused(endpoint, MalformedReplyError)
    assert problem in str(error)
    assert error.received == payload
    assert repr(payload) in str(error)


@pytest.mark.parametrize(
    "header", [b"", b"CONFIG", b"CONFIG cluster 0 x", b"CONFIG cluster 0 -1", b"HTTP/1.1 400"]
)
def test_malformed_header(endpoint, header):
    """What is no header is quoted."""
    endpoint.say(header + b"\r\n")
    error = refused(endpoint, MalformedReplyError)
    assert f"it said {header!r}, no list of nodes" in str(error)


def test_wrong_ending(endpoint):
    """A payload that is longer than it says is not cut off and believed."""
    endpoint.say(b"CONFIG cluster 0 3\r\n1\na|1.2.3.4|1\n\r\nEND\r\n")
    assert "3 bytes of nodes end with" in str(refused(endpoint, MalformedReplyError))


@pytest.mark.parametrize("kept", [0, 5, 25, 40])
def test_truncated(endpoint, kept):
    """An endpoint that says less than it announced, and ends the connection."""
    whole = listing(1, [ONE, TWO])
    ended = EndEarly(endpoint)
    endpoint.reply = ended.after(whole[:kept])
    error = refused(endpoint, EndpointUnreachableError)
    assert "it ended the connection" in str(error)


class EndEarly:
    """Ends the connection that it replies on, by raising what a lost connection raises."""

    def __init__(self, endpoint):
        self.endpoint = endpoint

    def after(self, part):
        def reply(command):
            yield part
            raise ConnectionResetError

        return reply


def test_hanging(endpoint):
    """An endpoint that answers nothing costs the timeout and no more."""
    endpoint.hang()
    assert "timed out" in str(refused(endpoint, EndpointUnreachableError, timeout=0.05))


def test_dripping(endpoint):
    """Bytes that keep coming do not prolong the time for the whole."""

    def drip(command):
        for _ in count():
            time.sleep(0.005)  # as slow as the endpoint is; nobody waits for it
            yield b"C"

    endpoint.reply = drip
    error = refused(endpoint, EndpointUnreachableError, timeout=0.1)
    assert error.received.startswith(b"C")


def test_endless_line(endpoint):
    """A line without an end is read up to a bound."""
    endpoint.reply = lambda command: repeat(b"x" * 4096)
    error = refused(endpoint, MalformedReplyError)
    assert "does not end" in str(error)
    assert LONGEST_LINE < len(error.received) <= LONGEST_LINE + 4096


def test_endless_payload(endpoint):
    """So is a payload that claims to be large."""
    header = b"CONFIG cluster 0 999999999\r\n"
    endpoint.reply = lambda command: chain([header], repeat(b"x" * 4096))
    error = refused(endpoint, MalformedReplyError)
    assert f"more than {MOST_RECEIVED} bytes" in str(error)


def test_nobody_listens():
    """A refused connection is an error of the same kind."""
    with pytest.raises(EndpointUnreachableError, match="cannot be connected to"):
        ask(Endpoint("127.0.0.1", free_port()), CALLS_ARE_LATE)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 70, "a..b"])
def test_no_such_host(host):
    """So is a name that leads nowhere, or cannot be one."""
    with pytest.raises(EndpointUnreachableError, match="cannot be connected to"):
        ask(Endpoint(host, 11211), CALLS_ARE_LATE)


@contextmanager
def never_accepting():
    """An address whose connections are neither accepted nor refused: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        place = full.getsockname()
        with ExitStack() as undo:
            for _ in range(2):
                connection = undo.enter_context(socket.socket())
                connection.setblocking(False)
                connection.connect_ex(place)
            yield place


def named(monkeypatch, *places):
    """Have every name lead to these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_several_addresses(endpoint, monkeypatch):
    """An address that leads nowhere leaves time for the next one."""
    with never_accepting() as nowhere:
        named(monkeypatch, nowhere, ("127.0.0.1", free_port()), ("127.0.0.1", endpoint.port))
        assert ask(Endpoint("name", 1), 0.3).nodes == NODES[:2]


def test_no_address_answers(monkeypatch):
    """Where none of them answers it is the last one's error that is told."""
    with never_accepting() as nowhere:
        named(monkeypatch, ("127.0.0.1", free_port()), nowhere)
        with pytest.raises(EndpointUnreachableError, match="timed out"):
            ask(Endpoint("name", 1), 0.1)


def test_address_of_a_kind_that_is_not_here(endpoint, monkeypatch):
    """An address of a family that this machine has not is no reason to give up."""
    places = [(0, socket.SOCK_STREAM, 999, "", ("::", 1))]
    places += socket.getaddrinfo("127.0.0.1", endpoint.port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    assert asked(endpoint).nodes == NODES[:2]


def test_tls_that_is_not_answered(endpoint):
    """Who accepts a connection and then says nothing in TLS is late as well."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = Endpoint("127.0.0.1", mute.getsockname()[1], ssl.create_default_context())
        with pytest.raises(EndpointUnreachableError, match="timed out"):
            ask(place, 0.05)


def test_late_before_connecting(endpoint):
    """Time that is used up is noticed before anybody is connected to."""
    assert "took too long" in str(refused(endpoint, EndpointUnreachableError, timeout=1e-9))


def test_late_before_sending(endpoint):
    """And before anything is sent."""
    connection = socket.create_connection(("127.0.0.1", endpoint.port))
    with Conversation(connection, Span(0)) as talk, pytest.raises(EndpointUnreachableError):
        talk.send(b"version\r\n")


def test_quoted():
    """Long replies are shortened in messages."""
    assert quoted(b"short\x00") == "b'short\\x00'"
    assert quoted(b"x" * 300) == repr(b"x" * 200) + "..."


def test_silent():
    """All nodes are asked; those that hang or are gone are silent."""
    with Memcached() as alive, ConfigurationEndpoint() as other:
        other.engine = b""
        nodes = [Node("", "127.0.0.1", port) for port in (alive.port, other.port, free_port())]
        assert silent(Endpoint("e", 1), nodes, CALLS_ARE_LATE) == {nodes[2]}
        alive.freeze()
        assert silent(Endpoint("e", 1), nodes, 0.1) == {nodes[0], nodes[2]}


def test_silent_and_stuck(monkeypatch):
    """A node whose name takes for ever to resolve is not waited for."""
    resolved = Event()
    monkeypatch.setattr("django_replicas.cache.endpoint.answers", lambda *_: resolved.wait())
    assert silent(Endpoint("e", 1), NODES, 0.01) == {*NODES}
    resolved.set()


# Anything at all

WHOLE = listing(5, [ONE, TWO])


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except DiscoveryError as error:
        return error


@given(st.binary(max_size=200))
@example(b"1\na|1.2.3.4|1\n")
def test_any_payload(payload):
    """Any bytes are a list that is not empty, or a typed error."""
    found = outcome(read_nodes, payload)
    if isinstance(found, DiscoveryError):
        assert type(found) is MalformedReplyError
        assert found.received == payload
    else:
        assert found.nodes
        assert found.version >= 0


@given(st.binary(max_size=60))
@example(b"CONFIG cluster 0 12 34")
@example(b"VALUE AmazonElastiCache:cluster 0 12")
def test_any_header(header):
    """Any header is a size or a typed error."""
    found = outcome(payload_size, header)
    if isinstance(found, DiscoveryError):
        assert found.received == header
    else:
        assert found >= 0


names = st.text("abcxyz019-", max_size=20).map("a{}z".format)
addresses = st.ip_addresses().map(str)
ports = st.integers(1, 65_535)


@given(st.integers(0, 10**18), st.sets(st.tuples(names, addresses, ports), min_size=1))
def test_any_list(version, nodes):
    """What a cluster says is what is read, in one order."""
    said = [f"{name}|{ip}|{port}" for name, ip, port in nodes]
    reply = listing(version, said)
    header, _, rest = reply.partition(b"\r\n")
    found = read_nodes(rest[: payload_size(header)])
    assert found == NodeList(version, tuple(sorted(Node(*node) for node in nodes)))


@pytest.fixture(scope="module")
def patient():
    with ConfigurationEndpoint() as endpoint:
        yield endpoint


@given(
    cut=st.integers(0, len(WHOLE)), noise=st.binary(max_size=40), rest=st.integers(0, len(WHOLE))
)
def test_any_reply(patient, cut, noise, rest):
    """Replies cut, spoiled and joined: the list as it is, or a typed error; never a hang."""
    reply = EndEarly(patient).after(WHOLE[:cut] + noise + WHOLE[rest:])
    patient.reply = reply
    found = outcome(asked, patient)
    if isinstance(found, DiscoveryError):
        assert found.endpoint == patient.location
    else:
        assert found.nodes


# Clusters


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def longest(low, high):
    return high


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cluster(endpoint, clock):
    return Cluster(Source(at(endpoint), timeout=CALLS_ARE_LATE), clock, longest)


@contextmanager
def heard(signal):
    said = []

    def listen(signal, sender, **told):
        said.append((sender, told))

    signal.connect(listen)
    try:
        yield said
    finally:
        signal.disconnect(listen)


def names_of(cluster):
    return [node.hostname for node in cluster.view().nodes]


def after_a_look(cluster, clock, seconds=60.0):
    """Let time pass, and wait for what that begins beside the calls."""
    clock.now += seconds
    before = cluster.looks
    cluster.view()
    wait_until(lambda: cluster.looks > before, "the cluster was looked at")
    return names_of(cluster)


def test_learned_once(cluster, endpoint, clock):
    """The first call asks; the next ones cost nothing until the interval is over."""
    assert cluster.version == -1
    view = cluster.view()
    assert (view.nodes, view.down, view.alive) == (NODES[:2], frozenset(), NODES[:2])
    clock.now += 59.9
    assert cluster.view() is view
    assert cluster.version == 1
    assert endpoint.commands.count(COMMAND.strip()) == 1


def test_new_list(cluster, endpoint, clock):
    """A changed list is in use after one interval, and told of; an equal one changes nothing."""
    view = cluster.view()
    with heard(cluster_changed) as said:
        after_a_look(cluster, clock)
        assert cluster.view() is view
        assert not said
        endpoint.say(listing(2, [TWO, THREE]))
        assert after_a_look(cluster, clock) == ["node-2.example", "node-3.example"]
        wait_until(lambda: said, "the change was told")
    told = {"added": (NODES[2],), "removed": (NODES[0],), "version": 2}
    assert said == [(cluster, told)]


def test_same_version_other_nodes(cluster, endpoint, clock):
    """A replaced node may keep name and version, while its address moves."""
    cluster.view()
    endpoint.say(listing(1, [ONE, "node-2.example|10.0.0.99|11211"]))
    after_a_look(cluster, clock)
    assert [node.ip for node in cluster.view().nodes] == ["10.0.0.1", "10.0.0.99"]


def test_same_nodes_other_version(cluster, endpoint, clock):
    """A version alone breaks no connections."""
    view = cluster.view()
    endpoint.say(listing(9, [TWO, ONE]))
    after_a_look(cluster, clock)
    assert cluster.view() is view
    assert cluster.version == 9


def test_older_list(cluster, endpoint, clock, caplog):
    """An older list is not taken, and that is said."""
    endpoint.say(listing(5, [ONE, TWO]))
    cluster.view()
    endpoint.say(listing(4, [THREE]))
    assert after_a_look(cluster, clock) == ["node-1.example", "node-2.example"]
    assert "names version 4 of its nodes, older than 5, which is kept. If the" in caplog.text


@pytest.mark.parametrize(
    "reply", [b"ERROR\r\n", b"CONFIG cluster 0 2\r\n9\n\r\nEND\r\n", b"nothing\r\n"]
)
def test_kept_through_errors(cluster, endpoint, clock, caplog, reply):
    """No error, refusal or empty list replaces a list; it is logged once and told each time."""
    caplog.set_level(logging.INFO, "django_replicas")
    view = cluster.view()
    endpoint.say(reply)
    with heard(discovery_failed) as said:
        after_a_look(cluster, clock)
        after_a_look(cluster, clock)
    assert cluster.view() is view
    assert [type(told["error"]).__mro__[1] for _, told in said] == [DiscoveryError] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "The known ones are kept." in caplog.text
    endpoint.say(listing(2, [ONE, TWO]))
    after_a_look(cluster, clock)
    assert "names its nodes again" in caplog.text


def test_no_first_list(endpoint, clock):
    """Without a list each caller gets an error of its own, and nobody asks for a second."""
    cluster = Cluster(Source(at(endpoint), timeout=CALLS_ARE_LATE), clock, longest)
    endpoint.say(b"ERROR\r\n")
    with heard(discovery_failed) as said:
        errors = []
        for _ in range(3):
            with pytest.raises(NoDiscoveryError) as raised:
                cluster.view()
            errors.append(raised.value)
    assert len({id(error) for error in errors}) == 3
    assert len({str(error) for error in errors}) == len(said) == 1
    assert endpoint.commands.count(COMMAND.strip()) == 1
    clock.now += 1
    endpoint.say(listing(1, [ONE]))
    assert names_of(cluster) == ["node-1.example"]


def test_first_callers_wait_together(cluster, endpoint):
    """However many come at first, the endpoint is asked once."""
    together = Barrier(8)
    found = []

    def call():
        together.wait()
        found.append(cluster.view())

    threads = [Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(view) for view in found}) == 1
    assert len(found) == 8
    assert endpoint.commands.count(COMMAND.strip()) == 1


def test_hanging_endpoint(endpoint, clock):
    """An endpoint that hangs at first is an error after the timeout."""
    endpoint.hang()
    cluster = Cluster(Source(at(endpoint), timeout=0.05), clock, longest)
    with pytest.raises(EndpointUnreachableError):
        cluster.view()


def test_single_node(endpoint, clock):
    """An endpoint without discovery may serve as the only node, until it names others."""
    endpoint.say(b"ERROR\r\n")
    cluster = Cluster(Source(at(endpoint), may_be_single=True), clock, longest)
    assert cluster.view().nodes == (Node("127.0.0.1", "", endpoint.port),)
    after_a_look(cluster, clock)
    endpoint.say(listing(0, [ONE]))
    assert after_a_look(cluster, clock) == ["node-1.example"]
    endpoint.say(b"ERROR\r\n")
    assert after_a_look(cluster, clock) == ["node-1.example"]


def test_single_node_needs_an_answer():
    """An endpoint that cannot be reached is no node."""
    cluster = Cluster(Source(Endpoint("127.0.0.1", free_port()), may_be_single=True))
    with pytest.raises(EndpointUnreachableError):
        cluster.view()


def test_jitter(endpoint, clock):
    """Processes that began together do not ask together, and none later than the interval."""
    asked = []

    def chance(low, high):
        asked.append((low, high))
        return low

    cluster = Cluster(Source(at(endpoint), interval=100), clock, chance)
    cluster.view()
    assert asked == [(0.75, 1.0)]
    clock.now += 74
    cluster.view()
    assert endpoint.commands.count(COMMAND.strip()) == 1
    after_a_look(cluster, clock, 1)
    assert endpoint.commands.count(COMMAND.strip()) == 2


def test_one_cluster_per_source(endpoint):
    """Equal sources have one cluster in the whole process."""
    source = Source(at(endpoint))
    assert cluster_of(source) is cluster_of(Source(at(endpoint)))
    assert cluster_of(source) is not cluster_of(Source(at(endpoint), interval=5))


def test_no_thread(cluster, endpoint, clock, monkeypatch):
    """Where no thread can be started the list is kept, and it is told."""
    view = cluster.view()

    def fail(self):
        raise RuntimeError("can't start new thread")

    with heard(discovery_failed) as said, monkeypatch.context() as patch:
        patch.setattr(Thread, "start", fail)
        clock.now += 60
        assert cluster.view() is view
    assert "no thread could ask it: can't start new thread" in str(said[0][1]["error"])


def test_unexpected_errors_are_logged(cluster, endpoint, clock, monkeypatch, caplog):
    """What nobody thought of is in the log, and the next look is made."""
    cluster.view()

    def fail():
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(
            cluster, "source", SimpleNamespace(ask=fail, interval=60.0, endpoint=at(endpoint))
        )
        after_a_look(cluster, clock)
    assert "Looking at the nodes of" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    after_a_look(cluster, clock)


def test_unexpected_errors_at_first(endpoint, clock, monkeypatch, caplog):
    """So is one that keeps the first list away; the caller is sent to the log."""

    def fail():
        raise ZeroDivisionError

    source = SimpleNamespace(ask=fail, interval=60.0, timeout=CALLS_ARE_LATE, endpoint=at(endpoint))
    with pytest.raises(DiscoveryError, match="gave no list of nodes: the log says why"):
        Cluster(source, clock, longest).view()
    assert "ZeroDivisionError" in caplog.text


# Nodes that are down


@pytest.fixture
def nodes():
    with Memcached() as one, Memcached() as two:
        yield [one, two]


@pytest.fixture
def real(nodes, endpoint, clock):
    endpoint.name([node.location for node in nodes])
    return Cluster(Source(at(endpoint), timeout=CALLS_ARE_LATE), clock, longest)


def locations(nodes):
    return sorted(str(node) for node in nodes)


def test_suspect(real, nodes, clock):
    """Who waits learns which node is down; it is tried each second, and taken back."""
    view = real.view()
    nodes[0].kill()
    real.suspect(view, wait=True)
    assert locations(real.view().down) == [nodes[0].location]
    assert locations(real.view().alive) == [nodes[1].location]
    after_a_look(real, clock, 1)
    assert locations(real.view().down) == [nodes[0].location]
    nodes[0].start()
    after_a_look(real, clock, 1)
    assert not real.view().down


def test_suspect_beside(real, nodes):
    """Who does not wait has it looked at nevertheless."""
    view = real.view()
    nodes[0].kill()
    real.suspect(view, wait=False)
    wait_until(lambda: real.view().down, "the dead node was found")


def test_suspect_an_older_view(real, nodes, endpoint):
    """Who failed on nodes that are no longer the cluster's has nothing to wait for."""
    view = real.view()
    nodes[0].kill()
    real.suspect(view, wait=True)
    before = len(endpoint.commands)
    real.suspect(view, wait=True)
    assert len(endpoint.commands) == before


def test_suspect_once_a_second(real, endpoint, clock):
    """Calls that go on failing have healthy nodes tried once a second, not each time."""
    view = real.view()
    before = real.looks
    for _ in range(5):
        real.suspect(view, wait=True)
    assert real.looks == before + 1
    clock.now += 1
    real.suspect(view, wait=True)
    assert real.looks == before + 2


class Held:
    """An endpoint whose lists are held back: wait for `began`, then for `go`, or release all."""

    def __init__(self, endpoint):
        self.began, self.go = Barrier(2), Barrier(2)
        self._endpoint, self._reply = endpoint, endpoint.reply
        endpoint.reply = self._wait

    def _wait(self, command):
        self.began.wait()
        self.go.wait()
        return self._reply(command)

    def release(self):
        self._endpoint.reply = self._reply
        self.go.wait()


@contextmanager
def suspecting(cluster, view, number=1):
    """Threads whose calls failed on a view, waiting within the block for a look."""
    threads = [
        Thread(target=cluster.suspect, args=(view,), kwargs={"wait": True}) for _ in range(number)
    ]
    yield [thread.start for thread in threads]
    for thread in threads:
        thread.join()


def both_wait(cluster):
    wait_until(lambda: len(cluster._looking._current._condition._waiters) == 2, "both wait")


def test_suspect_during_a_look(real, nodes, endpoint, clock):
    """A look that began before the call failed is not believed to have seen why."""
    view = real.view()
    held = Held(endpoint)
    clock.now += 60
    real.view()
    held.began.wait()
    nodes[0].kill()
    with suspecting(real, view) as (begin,):
        begin()
        held.release()
    assert locations(real.view().down) == [nodes[0].location]


def test_suspect_together(real, nodes, endpoint):
    """Those whose calls fail while the cluster is being looked at wait for the same look."""
    view = real.view()
    held = Held(endpoint)
    nodes[0].kill()
    with suspecting(real, view, 2) as (begin_first, begin_second):
        begin_first()
        held.began.wait()
        begin_second()
        both_wait(real)
        held.release()
    assert locations(real.view().down) == [nodes[0].location]
    assert real.looks == 2


def test_suspect_during_the_look_after(real, nodes, endpoint, clock):
    """The end of a look that had begun before is not the end of waiting for the next one."""
    view = real.view()
    held = Held(endpoint)
    clock.now += 60
    real.view()
    held.began.wait()
    nodes[0].kill()
    with suspecting(real, view, 2) as (begin_first, begin_second):
        begin_first()
        wait_until(lambda: real._suspicious, "the first suspects")
        held.go.wait()
        held.began.wait()
        begin_second()
        both_wait(real)
        held.release()
    assert locations(real.view().down) == [nodes[0].location]


def test_all_down(real, nodes):
    """Where no node answers, all of them are as good as any."""
    view = real.view()
    for node in nodes:
        node.kill()
    real.suspect(view, wait=True)
    assert len(real.view().down) == 2
    assert real.view().alive == view.nodes


def test_down_through_a_new_list(real, nodes, endpoint, clock):
    """A new list does not raise the dead."""
    view = real.view()
    nodes[0].kill()
    real.suspect(view, wait=True)
    with Memcached() as third:
        endpoint.name([nodes[0].location, third.location])
        after_a_look(real, clock)
        assert locations(real.view().nodes) == sorted([nodes[0].location, third.location])
        assert locations(real.view().down) == [nodes[0].location]
    endpoint.name([nodes[1].location])
    after_a_look(real, clock)
    assert not real.view().down


def test_stuck_look(real, nodes, endpoint, clock, monkeypatch):
    """A look that is stuck is given up after its time, and told of."""
    view = real.view()
    endpoint.hang()
    monkeypatch.setattr("django_replicas.cache.discovery.GRACE", 0)
    go = Barrier(2)

    def stay():
        go.wait()
        raise NoDiscoveryError("late")

    with heard(discovery_failed) as said, monkeypatch.context() as patch:
        patch.setattr(
            real,
            "source",
            SimpleNamespace(ask=stay, interval=60, timeout=0.01, endpoint=at(endpoint)),
        )
        real.suspect(view, wait=True)
        assert "it took too long" in str(said[0][1]["error"])
        before = real.looks
        go.wait()
        wait_until(lambda: real.looks > before, "the stuck look ended")
    assert real.view() is view


def test_fork(cluster, endpoint, clock):
    """A child goes on with its parent's list, and asks for itself, at a time of its own."""
    cluster.view()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - the child's own life
        try:
            clock.now += 60
            before = cluster.looks
            names = names_of(cluster)
            wait_until(lambda: cluster.looks > before, "the child looked")
            os.write(writing, " ".join([*names, *names_of(cluster)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    said = os.read(reading, 1000).decode().split()
    os.close(reading)
    assert said == ["node-1.example", "node-2.example"] * 2
    assert endpoint.commands.count(COMMAND.strip()) == 2


def test_what_a_child_keeps(cluster, clock):
    """The nodes stay, threads and locks are new, and the next question is planned anew."""
    view = cluster.view()
    lock, looking = cluster._lock, cluster._looking
    lock.acquire()
    clock.now += 30
    _after_fork()
    assert cluster._lock is not lock
    assert cluster._looking is not looking
    assert cluster._due == clock.now + 60
    assert cluster.view() is view
    assert after_a_look(cluster, clock) == ["node-1.example", "node-2.example"]


def test_a_child_tries_what_is_down(real, nodes, clock):
    """Nodes that were down for the parent are tried as soon as they would have been there."""
    view = real.view()
    nodes[0].kill()
    real.suspect(view, wait=True)
    nodes[0].start()
    real.begin_anew()
    after_a_look(real, clock, 1)
    assert not real.view().down


def test_one_of_many_begins_a_look(cluster, clock):
    """Of those who find the list too old, the first begins; the others go on."""
    cluster.view()
    clock.now += 60
    cluster._due = clock.now + 1
    before = cluster.looks
    cluster._look_beside()
    assert cluster.looks == before


def test_clusters_are_forgotten(endpoint, settings):
    """Other CACHES, as tests have them, begin with nothing known."""
    source = Source(at(endpoint))
    cluster = cluster_of(source)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert cluster_of(source) is not cluster
    now = cluster_of(source)
    settings.DEBUG = True
    assert cluster_of(source) is now


def test_view_without_nodes_down():
    """A view is plain data."""
    view = View(NODES, frozenset(NODES[:1]))
    assert view.alive == NODES[1:]
    assert view != View(NODES, frozenset(NODES[:1]))

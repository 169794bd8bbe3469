"""The cookie that carries marks from one request to the next."""

import math
import re
import time
from string import ascii_letters, digits

import pytest
from django.core.signing import Signer
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.cache import has_vary_header
from hypothesis import given, settings
from hypothesis import strategies as st

from django_replicas.marks import Mark
from django_replicas.positions import GtidPosition, WalPosition
from django_replicas.stores import CookieStore, MarkSigner, get_mark_store

NOW = 1_800_000_000.5
PIN_SECONDS = 15.0
SETS = {"default": ["replica1", "replica2"], "other": {"FOLLOWERS": ["other-0"], "PIN_SECONDS": 60}}
STORE = CookieStore(clock=lambda: NOW)
SALT = "django_replicas.marks"

unhurried = settings(deadline=None)


@pytest.fixture(autouse=True, scope="module")
def sets():
    with override_settings(REPLICAS={"SETS": SETS}):
        yield


def request_with(value=None, **attributes):
    request = RequestFactory().get("/", **attributes)
    if value is not None:
        request.COOKIES["replicas_mark"] = value
    return request


def text_of(deadlines):
    return "|".join(f"{alias}:{deadline}" for alias, deadline in deadlines.items())


def signed(deadlines):
    return Signer(salt=SALT).sign(text_of(deadlines))


def load(value):
    return STORE.load(request_with(value))


def saved(marks, **attributes):
    """Save marks, and return the cookie."""
    response = HttpResponse()
    STORE.save(request_with(**attributes), response, marks)
    return response.cookies["replicas_mark"]


# There and back


def test_marks_come_back():
    """What one response carried, the next request brings, to the end of the second."""
    marks = {"default": Mark(NOW + 3.5), "other": Mark(NOW + 50.2)}
    assert load(saved(marks).value) == {"default": Mark(NOW + 3.5), "other": Mark(NOW + 50.5)}


@unhurried
@given(st.dictionaries(st.sampled_from(["default", "other"]), st.floats(0.1, 80), min_size=1))
def test_marks_come_back_not_shortened(lasting):
    """A mark returns and ends no earlier, unless PIN_SECONDS end it."""
    marks = {alias: Mark(NOW + seconds) for alias, seconds in lasting.items()}
    loaded = load(saved(marks).value)
    assert set(loaded) == set(marks)
    for alias, mark in loaded.items():
        longest = NOW + (15 if alias == "default" else 60)
        assert min(marks[alias].deadline, longest) <= mark.deadline
        assert mark.deadline <= min(marks[alias].deadline + 1, longest)


def test_no_cookie_means_no_marks():
    """Who brings nothing has written nothing."""
    assert load(None) == {}


# What a client may send


@pytest.mark.parametrize("forged", ["", ":", "a:b", "e30:x", "{}", "\0", "é:ü", "a" * 5000])
def test_what_nobody_signed_is_dropped(forged):
    """Text that is no signed value is as good as none."""
    assert load(forged) == {}


@unhurried
@given(st.text())
def test_any_text_is_dropped(text):
    """Whatever a client sends, there is no error and no mark."""
    assert load(text) == {}


VALID = {"default": math.ceil(NOW) + 10}


def test_a_signature_of_another_kind_is_dropped():
    """What the same key signed for another purpose is not believed."""
    assert load(signed(VALID))
    assert load(Signer().sign(text_of(VALID))) == {}
    assert load(Signer(salt=SALT, key="another").sign(text_of(VALID))) == {}


@unhurried
@given(st.integers(0, 200))
def test_a_truncated_cookie_is_dropped(length):
    """A value that was cut off is not believed."""
    value = signed(VALID)
    assert load(value[: min(length, len(value) - 1)]) == {}


@unhurried
@given(st.data())
def test_an_altered_cookie_is_dropped(data):
    """A value with one character changed is not believed."""
    value = signed(VALID)
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.sampled_from(sorted({*ascii_letters, *digits, *":_-."} - {value[place]})))
    assert load(value[:place] + other + value[place + 1 :]) == {}


def test_an_oversized_cookie_is_dropped():
    """No browser keeps more than 4096 bytes, so a longer value is nobody's cookie."""
    value = signed({**VALID, "x": "y" * 4096})
    assert len(value) > 4096
    assert load(value) == {}


def test_a_cookie_of_the_greatest_size_is_read():
    """Exactly 4096 characters are still a cookie."""
    value = next(
        value
        for value in (signed({**VALID, "x": "y" * length}) for length in range(4097))
        if len(value) == 4096
    )
    assert load(value) == {"default": Mark(float(VALID["default"]))}


@pytest.mark.parametrize(
    "text",
    ["", "|", ":", "default", "default:", ":1", "default:é", "default:\u0663", "{}", "é", "%ff:9"],
)
def test_what_is_signed_and_is_no_mark_is_dropped(text):
    """A valid signature around what cannot be read is as good as none."""
    assert load(Signer(salt=SALT).sign(text)) == {}


@unhurried
@given(st.text())
def test_any_signed_text_is_dropped(text):
    """Validly signed text of any shape is no error, and no mark either."""
    assert load(Signer(salt=SALT).sign(text)) == {}


@unhurried
@given(
    st.dictionaries(
        st.sampled_from(["default", "other", "replica1", "gone", ""]),
        st.integers() | st.floats() | st.text(st.characters(exclude_characters="|")),
    )
)
def test_only_what_is_believable_is_believed(deadlines):
    """Of what was signed, moments still to come under the alias of a leader are taken."""
    loaded = load(signed(deadlines))
    for alias, mark in loaded.items():
        assert type(mark.deadline) is float
        assert NOW < mark.deadline <= NOW + (15 if alias == "default" else 60)
    assert set(loaded) == {
        alias
        for alias, deadline in deadlines.items()
        if alias in ("default", "other")
        and re.fullmatch("[0-9]{1,12}", str(deadline))
        and int(deadline) > NOW
    }


@pytest.mark.parametrize("alias", ["gone", "lonely", "replica1", ""])
def test_a_mark_on_no_leader_is_dropped(alias):
    """Aliases that lead no set, or no longer, are forgotten; the others stay."""
    later = math.ceil(NOW) + 5
    assert load(signed({alias: later, "default": later})) == {"default": Mark(float(later))}


@pytest.mark.parametrize(
    "deadline",
    [int(NOW), int(NOW) - 1, 0, -1, NOW + 5, "inf", "nan", "", "1e99", "1_900_000_000", 10**400],
)
def test_a_deadline_that_is_past_or_none_is_dropped(deadline):
    """Only a moment still to come is a deadline."""
    assert load(signed({"default": deadline})) == {}


@pytest.mark.parametrize("deadline", [int(NOW) + 61, 999_999_999_999])
def test_no_mark_lasts_longer_than_pin_seconds(deadline):
    """However late a deadline claims to be, the set's own limit holds."""
    assert load(signed({"default": deadline, "other": deadline})) == {
        "default": Mark(NOW + 15),
        "other": Mark(NOW + 60),
    }


def test_an_alias_of_any_letters_travels(settings):
    """What a cookie could not carry, or what parts the marks from each other, is escaped."""
    alias = "east|1: \u00fc;"
    settings.REPLICAS = {"SETS": {alias: ["replica1"]}}
    cookie = saved({alias: Mark(NOW + 10)})
    assert cookie.coded_value == cookie.value
    assert set(load(cookie.value)) == {alias}


def test_it_is_the_signature_of_django():
    """Deriving the key once changes nothing in what is signed."""
    text = "default:1800000010"
    assert MarkSigner(salt=SALT).sign(text) == Signer(salt=SALT).sign(text)
    assert MarkSigner(salt=SALT, key="b").unsign(Signer(salt=SALT, key="b").sign(text)) == text


def test_a_key_that_was_replaced_is_believed_while_it_falls_back(settings):
    """``SECRET_KEY_FALLBACKS`` holds for marks as for everything that Django signs."""
    value = saved(VALID_MARKS).value
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    assert set(load(value)) == {"default"}


# Positions

AT = WalPosition(1, 0x16B374D848)
AT_GTID = GtidPosition({0: 42, 7: 5})


def test_a_position_comes_back():
    """With its fallback, to the end of the second; deadlines beside it as well."""
    marks = {
        "default": Mark(0, AT, NOW + 3.2),
        "other": Mark(NOW + 50.2, AT_GTID, NOW + 3.2),
    }
    value = saved(marks).value
    assert Signer(salt=SALT).unsign(value) == (
        "default:0:1800000004:p1.16B374D848|other:1800000051:1800000004:m0-42+7-5"
    )
    assert load(value) == {
        "default": Mark(0, AT, NOW + 3.5),
        "other": Mark(NOW + 50.5, AT_GTID, NOW + 3.5),
    }


def test_the_cookie_lasts_as_long_as_the_position():
    """``MARK_SECONDS`` from the moment that it was taken, or to a deadline that is later."""
    assert saved({"default": Mark(0, AT, NOW + 15)})["max-age"] == 3601
    assert saved({"default": Mark(NOW + 5000, AT, NOW + 15)})["max-age"] == 5001


@pytest.mark.parametrize(("seconds_ago", "is_loaded"), [(3599, True), (3601, False)])
def test_a_position_is_forgotten_after_mark_seconds(seconds_ago, is_loaded):
    """It was taken ``PIN_SECONDS`` before its fallback."""
    fallback = math.ceil(NOW) - seconds_ago + 15
    assert bool(load(signed({"default": f"0:{fallback}:{AT}"}))) is is_loaded


def test_of_an_old_position_the_deadline_stays():
    """It may be another write's."""
    later = math.ceil(NOW) + 5
    assert load(signed({"default": f"{later}:5:{AT}"})) == {"default": Mark(later)}


def test_no_fallback_is_later_than_pin_seconds():
    """As no deadline is."""
    mark = load(signed({"default": f"999999999999:999999999999:{AT}"}))["default"]
    assert mark == Mark(NOW + 15, AT, NOW + 15)


@pytest.mark.parametrize("text", ["x1.1", "p1.", "m" + "+".join(f"{n}-1" for n in range(101))])
def test_a_position_that_cannot_be_read_is_a_deadline(text):
    """Another version of ours may have written it: the leader answers until its fallback."""
    later = math.ceil(NOW) + 5
    assert load(signed({"default": f"0:{later}:{text}"})) == {"default": Mark(float(later))}


def test_marks_that_no_cookie_could_hold_are_carried_as_deadlines():
    """Browsers drop longer ones, and so should we."""
    domains = {10**9 + domain: 10**19 for domain in range(200)}
    marks = {"default": Mark(0, GtidPosition(domains), NOW + 9)}
    cookie = saved(marks)
    assert len(cookie.value) < 200
    assert load(cookie.value) == {"default": Mark(NOW + 9.5)}


@pytest.mark.parametrize("tail", [":5", ":5:", ":5:p1", ":x:p1.1", ":5:p1.1:", "::p1.1", ":5:x1.1"])
def test_what_is_nearly_a_position_is_dropped(tail):
    """With the whole mark, unless its deadline can be read."""
    later = math.ceil(NOW) + 5
    assert load(signed({"default": f"0{tail}"})) == {}
    assert load(signed({"default": f"{later}{tail}"})) in ({}, {"default": Mark(later)})


# The cookie itself


def test_the_cookie_is_careful_by_default():
    """Not for scripts, not for other sites, for the whole site, and for no longer than needed."""
    cookie = saved({"default": Mark(NOW + 10)})
    assert {key: value for key, value in cookie.items() if value} == {
        "httponly": True,
        "max-age": 11,
        "path": "/",
        "samesite": "Lax",
    }


def test_the_cookie_lasts_as_long_as_its_latest_mark():
    """Marks that are past are left out."""
    cookie = saved({"default": Mark(NOW + 3), "other": Mark(NOW + 30), "gone": Mark(NOW - 1000)})
    assert cookie["max-age"] == 31
    deadlines = {"default": math.ceil(NOW + 3), "other": math.ceil(NOW + 30)}
    assert Signer(salt=SALT).unsign(cookie.value) == text_of(deadlines)


def test_new_key_is_signed_with(settings):
    """Cookies of another key are forgeries from the moment the key is replaced."""
    value = saved(VALID_MARKS).value
    settings.SECRET_KEY = "another"
    assert load(value) == {}
    assert set(load(saved(VALID_MARKS).value)) == {"default"}


def test_only_past_marks_are_no_error():
    """Marks that ended while the response was made are not sent."""
    with pytest.raises(KeyError):
        saved({"default": Mark(NOW - 1)})


@pytest.mark.parametrize("https", [True, False])
def test_the_cookie_is_secure_as_the_request_is(https):
    """Over TLS the cookie stays there; without, it must work as well."""
    assert bool(saved(VALID_MARKS, secure=https)["secure"]) is https


VALID_MARKS = {"default": Mark(NOW + 10)}


@pytest.mark.parametrize(
    ("attribute", "value", "key", "expected"),
    [
        ("PATH", "/shop/", "path", "/shop/"),
        ("DOMAIN", "example.org", "domain", "example.org"),
        ("DOMAIN", None, "domain", ""),
        ("SECURE", True, "secure", True),
        ("HTTPONLY", False, "httponly", ""),
        ("SAMESITE", "Strict", "samesite", "Strict"),
        ("SAMESITE", "None", "samesite", "None"),
        ("SAMESITE", None, "samesite", ""),
    ],
)
def test_each_attribute_can_be_chosen(settings, attribute, value, key, expected):
    """What ``COOKIE`` says is what the browser gets."""
    settings.REPLICAS = {"SETS": SETS, "COOKIE": {attribute: value}}
    assert saved(VALID_MARKS)[key] == expected


def test_a_cookie_may_be_insecure_over_tls(settings):
    """False means no, also where the request is secure."""
    settings.REPLICAS = {"SETS": SETS, "COOKIE": {"SECURE": False}}
    assert saved(VALID_MARKS, secure=True)["secure"] == ""


def test_the_name_can_be_chosen(settings):
    """The cookie is written and read under the name that ``COOKIE`` gives."""
    settings.REPLICAS = {"SETS": SETS, "COOKIE": {"NAME": "seen"}}
    response = HttpResponse()
    STORE.save(request_with(), response, VALID_MARKS)
    assert list(response.cookies) == ["seen"]
    request = request_with()
    request.COOKIES = {"seen": response.cookies["seen"].value}
    assert set(STORE.load(request)) == {"default"}
    assert load(response.cookies["seen"].value) == {}


def test_a_response_with_the_cookie_varies_by_it():
    """No page cache may keep it for other visitors; what it varied by already stays."""
    response = HttpResponse(headers={"Vary": "Accept"})
    STORE.save(request_with(), response, VALID_MARKS)
    assert has_vary_header(response, "Cookie")
    assert has_vary_header(response, "Accept")


def test_time_is_the_wall_clock():
    """By default marks are measured by the clock that all processes share."""
    store = CookieStore()
    response = HttpResponse()
    store.save(request_with(), response, {"default": Mark.lasting(10)})
    assert set(store.load(request_with(response.cookies["replicas_mark"].value))) == {"default"}
    assert store.load(request_with(signed({"default": int(time.time()) - 1}))) == {}


# Which store


class OwnStore:
    """A store that a test names."""


def test_the_cookie_is_the_default_store():
    """Nothing has to be said for it."""
    assert isinstance(get_mark_store(), CookieStore)


def test_a_store_is_named_by_its_path(settings):
    """A project's own store is made from its dotted path."""
    settings.REPLICAS = {"MARK_STORE": "tests.test_stores.OwnStore"}
    assert isinstance(get_mark_store(), OwnStore)

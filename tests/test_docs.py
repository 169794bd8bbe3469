"""The documentation agrees with the package: what there is, is described, and what is shown, works.

Modules, functions and classes are compared by Sphinx (``docs/complete.py``), check ids beside the
checks' own tests.
"""

import ast
import asyncio
import builtins
import importlib
import inspect
import re
import sys
from dataclasses import MISSING, fields
from unittest.mock import MagicMock

import django
import pytest
from django.contrib.auth.signals import user_logged_in
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal
from django.utils.module_loading import import_string

import django_replicas
from django_replicas import conf, exceptions, signals, unit_of_work
from django_replicas.conf import Config, Cookie, read_config
from django_replicas.management import commands
from django_replicas.topology import ReplicaSet

from .pages import DOCS, ROOT, blocks_in, fenced_in, python_of, text_of, without_dots

SOURCE = ROOT / "src" / "django_replicas"
PAGES = sorted(str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.rst"))


# Settings


SETTING = re.compile(r"^``([A-Z_]+)``\n    \*Default:\* ``(.+?)``", re.MULTILINE)
COOKIE_ROW = re.compile(r"^       \* - ``([A-Z]+)``\n         - ``(.+)``$", re.MULTILINE)


def defaults_of(keys, *classes):
    """Return the default of each key, as the class has it that keeps its value."""
    values = {field.name: field.default for each in classes for field in fields(each)}
    return {key: values.get(name, MISSING) for key, (name, _) in keys.items()}


def test_every_setting_is_described_once_with_its_default():
    """The default as code has it, or for a few by words."""
    described = SETTING.findall(text_of("settings"))
    settings = {**conf.PROJECT_KEYS, **conf.SET_KEYS}
    by_words = {"SETS": {}, "REPLICATION_LAG": None}
    expected = defaults_of(settings, Config, ReplicaSet) | {"VIEW_OVERRIDES": {}} | by_words
    del expected["LEADER_MODELS"], expected["REPLICATION_LAG"], expected["COOKIE"]
    shown = {key: text for key, text in described if key in expected}
    assert {key: eval(text) for key, text in shown.items()} == {
        key: [] if value == () else value for key, value in expected.items()
    }
    assert len(shown) == len([key for key, _ in described if key in expected])
    for key in ("LEADER_MODELS", "REPLICATION_LAG", "COOKIE"):
        assert len(re.findall(rf"^``{key}``$", text_of("settings"), re.MULTILINE)) == 1


def test_every_attribute_of_the_cookie_is_described_with_its_default():
    """As the settings are."""
    rows = {key: eval(text) for key, text in COOKIE_ROW.findall(text_of("settings"))}
    assert rows == defaults_of(conf.COOKIE_KEYS, Cookie)


def test_every_older_setting_is_described():
    """What counts where there is no ``REPLICAS`` is named on some page."""
    text = "".join(map(text_of, PAGES))
    assert [name for name in conf.SETTINGS if f"``{name}``" not in text] == []


# Errors, signals and commands


def test_every_error_is_described():
    """With the package's own sentence, and a page that says what to do."""
    ours = {name for name, _ in inspect.getmembers(exceptions, is_error_of_ours)}
    assert set(re.findall(r"^\.\. autoexception:: (\w+)$", text_of("errors"), re.M)) == ours


def is_error_of_ours(value):
    return inspect.isclass(value) and value.__module__ == exceptions.__name__


def test_every_signal_is_described_with_what_it_tells():
    """Each argument that any of them is sent with."""
    terms = re.findall(r"^``(\w+)``\n((?:    .+\n)+)", text_of("signals"), re.MULTILINE)
    described = dict(terms)
    assert set(described) == {name for name, _ in inspect.getmembers(signals, is_signal)}
    sent = list(sendings())
    assert {name for name, _ in sent} == set(described)
    for name, argument in sent:
        assert f"``{argument}``" in described[name], f"{name}: {argument}"


def is_signal(value):
    return isinstance(value, Signal)


def sendings():
    """Yield each signal with each argument that it is sent with, sender aside."""
    names = [name for name, _ in inspect.getmembers(signals, is_signal)]
    call = re.compile(rf"\b({'|'.join(names)})\.send_robust\(([^)]*)\)")
    told = re.compile(r"told: [^=]+= \{(.+)\}")
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        for name, arguments in call.findall(text):
            # Sent with a dict, the session's signal has its arguments there.
            given = arguments if "**" not in arguments else told.search(text)[1]
            for argument in re.findall(r"\b(\w+)=|\"(\w+)\":", given):
                if argument[0] != "sender":
                    yield name, argument[0] or argument[1]


def test_every_command_is_described_with_its_options():
    """Those that are not Django's own."""
    text = text_of("commands")
    folder = ROOT / "src/django_replicas/management/commands"
    of_django = {each for action in options_of(BaseCommand()) for each in action.option_strings}
    for path in folder.glob("[a-z]*.py"):
        assert f"``manage.py {path.stem}" in text
        command = load_command_class("django_replicas", path.stem)
        for action in options_of(command):
            for subject in action.choices or () if not action.option_strings else ():
                assert f"``manage.py {path.stem} {subject}" in text, f"{path.stem} {subject}"
            for option in set(action.option_strings) - of_django:
                assert re.search(rf"^``{option}\b", text, re.MULTILINE), f"{path.stem} {option}"
    assert commands.__name__ == "django_replicas.management.commands"


def options_of(command):
    return command.create_parser("manage.py", "it")._actions


# Public names


def test_every_verb_is_on_its_page():
    """All that is imported from the package itself."""
    described = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)", text_of("api/verbs"), re.MULTILINE)
    assert sorted(set(described) - {"django_replicas"}) == sorted(django_replicas.__all__)


def test_every_module_of_the_api_is_in_its_contents():
    """A page for each; which modules those have is compared by Sphinx."""
    listed = set(re.findall(r"^   (\w+)$", text_of("api/index"), re.MULTILINE))
    assert listed == {path.stem for path in (DOCS / "api").glob("*.rst")} - {"index"}


# Code


HAS_TASKS = django.VERSION >= (6, 0)
OF_TASKS = "django_replicas.integrations.tasks"


def shown():
    """Yield all Python of all pages and of the README, and where it stands."""
    for page in PAGES:
        for number, block in enumerate(blocks_in(text_of(page))):
            if block.language == "python":
                yield pytest.param(without_dots(block.code), id=f"{page}-{number}")
    for number, block in enumerate(fenced_in((ROOT / "README.md").read_text())):
        if block.language == "python":
            yield pytest.param(without_dots(block.code), id=f"README-{number}")


@pytest.mark.parametrize("code", list(shown()))
def test_what_is_shown_is_python_that_names_what_there_is(code):
    """It compiles, the names of ours in it are there, and settings are right."""
    tree = compile(code, "page", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        for name in names_of_ours(node):
            assert is_there(name), name
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REPLICAS":
            assert problems_of(node.value) == ()


def names_of_ours(node):
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django_replicas"):
        yield from (f"{node.module}.{each.name}".removesuffix(".*") for each in node.names)
    elif isinstance(node, ast.Constant) and str(node.value).startswith("django_replicas."):
        yield node.value


def is_there(name):
    """Look a dotted name up; what needs another package, or a later Django, is skipped."""
    if name.startswith(OF_TASKS) and not HAS_TASKS:
        pytest.skip("This Django has no Tasks.")
    try:
        import_string(name)
    except ModuleNotFoundError as error:
        if "django_replicas" not in str(error.name):
            pytest.skip(str(error))
        return False
    except ImportError:
        return is_module(name)
    return True


def is_module(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


class Readers(dict):
    """What a page defines, and stand-ins for what is the reader's own."""

    def __missing__(self, name):
        if hasattr(builtins, name):
            raise KeyError(name)
        return self.setdefault(name, MagicMock(name=name))


# Their tests do more with them than to run them.
TRIED_ELSEWHERE = {"balanced", "cache", "session-pinned", "stores", "testing", "tutorial"}


@pytest.fixture
def readers(monkeypatch):
    """Nothing that a page connects to a signal outlives it, nor what it disconnects."""
    monkeypatch.setitem(sys.modules, "uwsgi", MagicMock())
    monkeypatch.setattr(user_logged_in, "receivers", user_logged_in.receivers[:])
    defined = Readers(__name__="page", __builtins__=builtins, asyncio=asyncio)
    yield defined
    defined.clear()


@pytest.mark.parametrize(
    "page", [each for each in PAGES if each not in TRIED_ELSEWHERE and python_of(each)]
)
def test_what_is_shown_runs(page, readers):
    """All of a page, in its order; what only a worker can show is left to the tests of workers."""
    for code in python_of(page):
        if "install()" not in code and (HAS_TASKS or OF_TASKS not in code):
            run(without_dots(code).replace('"archive"', '"other"'), readers)


def run(code, defined):
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with unit_of_work():
        awaitable = eval(compile(code, "page", "exec", flags), defined)
        if inspect.iscoroutine(awaitable):
            asyncio.run(awaitable)


def problems_of(value):
    try:
        settings = ast.literal_eval(value)
    except ValueError:  # It has what is not written out, such as settings of before.
        return ()
    return read_config(settings).problems

"""Sphinx: the documentation of django-replicas."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parent))

project = "django-replicas"
author = "django-replicas contributors"
copyright = f"2026, {author}"
version = release = version_of("django-replicas")

extensions = ["sphinx.ext.autodoc", "complete"]
exclude_patterns = ["_build", "figures"]
html_theme = "furo"
html_title = f"django-replicas {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_theme_options = {
    "light_css_variables": {
        "picture-leader": "#a3470b",
        "picture-follower": "#14633d",
        "picture-on": "#ffffff",
    },
    "dark_css_variables": {
        "picture-leader": "#f0a35e",
        "picture-follower": "#6fce9f",
        "picture-on": "#10151a",
    },
}

autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # Python's own functions under a shorter name: they bring Python's documentation along.
    "exclude-members": "current_scope_here, running_loop",
}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = ["celery", "crum"]

nitpicky = True
# What is not ours is named without a link: a build must not depend on other sites being up.
nitpick_ignore_regex = [
    (r"py:obj", r"([\w.]+\.)?[JPRT]"),
    (
        r"py:.*",
        r"(abc|asgiref|collections|contextlib|datetime|django|enum|mmap|socket|ssl|typing|types)\..*",
    ),
    (
        r"py:class",
        r"(Exception|LookupError|Protocol|str|object|HttpRequest|Model|([\w.]+\.)?[JPRT])",
    ),
]

settings.configure(
    INSTALLED_APPS=["django_replicas"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="only to import what is documented",
)
django.setup()


def without_field_numbers(app, what, name, obj, options, lines):
    """Empty "Alias for field number 0", which Python gives the fields of named tuples."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def setup(app):
    app.connect("autodoc-process-docstring", without_field_numbers)

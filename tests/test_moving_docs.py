"""The guides for those who move over: what they show works, and no name is left out."""

import pkgutil
import re
from importlib import import_module

import pytest

from django_replicas import compat
from django_replicas.conf import read_config
from django_replicas.dialects import DIALECTS, spoken_in, translated

from .pages import DOCS, python_of

FOLDER = DOCS / "moving"
PAGES = {path.stem: path.read_text() for path in FOLDER.glob("*.rst") if path.stem != "index"}
PACKAGES = {module.name for module in pkgutil.iter_modules(compat.__path__)}
OURS = re.compile(r"``(django_replicas(?:\.\w+)+)``")


def test_every_package_has_its_guide():
    """And the page before them leads there."""
    index = (FOLDER / "index.rst").read_text()
    assert set(PAGES) == PACKAGES
    assert {page for page in PAGES if re.search(rf"^   {page}$", index, re.MULTILINE)} == PACKAGES


@pytest.mark.parametrize("page", sorted(PAGES))
def test_code(page):
    """Each block is Python that runs; settings before and after mean the same."""
    meanings = []
    for block in python_of(f"moving/{page}"):
        module = {}
        exec(block, module)
        project = type("Project", (), {key: each for key, each in module.items() if key.isupper()})
        for dialect in spoken_in(project):
            meanings.append(translated(dialect, project).replicas)
        if hasattr(project, "REPLICAS"):
            meanings.append(project.REPLICAS)
    assert meanings == meanings[:1] * len(meanings)
    assert all(read_config(each).problems == () for each in meanings)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_names(page):
    """Every name of ours exists, and every name of the older package is there and on the page."""
    for path in OURS.findall(PAGES[page]):
        assert pkgutil.resolve_name(path) is not None
    older = set(re.findall(rf"``({page}\.[\w.]+)``", PAGES[page]))
    for path in older:
        assert pkgutil.resolve_name(f"django_replicas.compat.{path}") is not None
    told = {path.rpartition(".")[2] for path in older}
    root = import_module(f"django_replicas.compat.{page}")
    for info in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
        assert set(getattr(import_module(info.name), "__all__", ())) <= told, info.name
    assert set(getattr(root, "__all__", ())) <= told


@pytest.mark.parametrize("page", sorted(PAGES))
def test_settings(page):
    """Every setting of the older package is on the page."""
    (dialect,) = [each for each in DIALECTS if each.module == page]
    missing = [name for name in dialect.own | dialect.shared if f"``{name}``" not in PAGES[page]]
    assert missing == []

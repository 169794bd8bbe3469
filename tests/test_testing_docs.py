"""The examples of the documentation's page about testing are tests, and pass."""

import re
import textwrap
from pathlib import Path

import pytest

from .test_users_suites import SAMPLE, WAYS, run

PAGE = Path(__file__).parent.parent / "docs" / "testing.rst"
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.MULTILINE)


@pytest.fixture
def examples(tmp_path):
    """Write all Python blocks of the page into one module, in their order."""
    module = tmp_path / "test_examples.py"
    module.write_text("\n\n".join(map(textwrap.dedent, BLOCK.findall(PAGE.read_text()))))
    return module


@pytest.mark.parametrize("router", ["LeaderFollowerRouter", "StrictPinRouter", "GreedyPinRouter"])
def test_the_examples_pass(examples, router):
    """What the page promises holds for a project of that kind, with each router."""
    said = run(
        [*WAYS["pytest"], "-c", str(SAMPLE / "pytest.ini"), str(examples)],
        SAMPLE_ROUTER=router,
        SAMPLE_FOLDER=str(examples.parent),
    )
    assert "8 passed" in said, said

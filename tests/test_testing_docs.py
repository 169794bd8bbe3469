"""The examples of the documentation's page about testing are tests, and pass."""

import pytest

from .pages import python_of
from .test_users_suites import SAMPLE, WAYS, run


@pytest.fixture
def examples(tmp_path):
    """Write all Python blocks of the page into one module, in their order."""
    module = tmp_path / "test_examples.py"
    module.write_text("\n\n".join(python_of("testing")))
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

"""The blocks of ``django_replicas.test`` as pytest fixtures, for use beside pytest-django."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from . import test


@pytest.fixture
def shared_followers(db: None) -> Iterator[None]:
    """Let followers see what the test wrote to their leader, and be routed to."""
    with test.shared_followers():
        yield


@pytest.fixture
def assert_reads_from() -> Callable[..., AbstractContextManager[list[test.Read]]]:
    """Make a block that fails unless its reads are answered where the arguments say."""
    return test.assert_reads_from


@pytest.fixture
def frozen_follower() -> Callable[..., AbstractContextManager[Any]]:
    """Make a block inside which followers show what they showed when it began."""
    return test.frozen_follower

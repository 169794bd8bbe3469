"""The same project over servers that replicate, which the test names in the environment."""

import json
import os

from tests.jobs.settings import *  # noqa: F403 - these settings are those, over other databases
from tests.jobs.settings import REPLICAS

VARIABLE = "DJANGO_REPLICAS_TEST_DATABASES"

DATABASES = json.loads(os.environ[VARIABLE])
REPLICAS = {**REPLICAS, "SETS": {"default": ["replica1"]}}

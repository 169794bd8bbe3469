"""A project whose workers run in processes of their own, beside the test that feeds them.

They find its databases in ``DJANGO_REPLICAS_TEST_FOLDER``.
"""

import django

from tests.settings import *  # noqa: F403 - these settings are those, and a queue
from tests.settings import DATABASES, INSTALLED_APPS, REPLICAS, TASKS

for database in DATABASES.values():
    # SQLite has one writer at a time, and is unfair to those who wait.
    database["OPTIONS"] = {"timeout": 60, "transaction_mode": "IMMEDIATE"}

# However long a job waits in the queue: its marks are not past when its turn comes.
REPLICAS = {**REPLICAS, "PIN_SECONDS": 3600}

if django.VERSION >= (6, 0):
    INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
    TASKS = {**TASKS, "default": {"BACKEND": "tests.jobs.backends.DatabaseBackend"}}

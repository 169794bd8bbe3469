"""A leader and two followers, each an SQLite file of its own, and another set beside them."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

SHARED = os.environ.get("DJANGO_REPLICAS_TEST_FOLDER")
FOLDER = Path(SHARED or tempfile.mkdtemp(prefix="django-replicas-"))
if not SHARED:
    # Whoever imports these settings: a test run, its collection alone, or a command.
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def sqlite(alias):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / f"{alias}.sqlite3")}


SECRET_KEY = "not a secret"
DATABASES = {
    alias: sqlite(alias)
    for alias in ("default", "replica1", "replica2", "other", "other-0", "lonely")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_replicas",
    "tests.shop",
]
DATABASE_ROUTERS = ["django_replicas.routers.GreedyPinRouter"]
MIDDLEWARE = [
    "django_replicas.middleware.ReplicasMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
]
REPLICAS = {"SETS": {"default": ["replica1", "replica2"], "other": ["other-0"]}}
for alias, leader in {"replica1": "default", "replica2": "default", "other-0": "other"}.items():
    DATABASES[alias]["TEST"] = {"MIRROR": leader}
ROOT_URLCONF = "tests.urls"
USE_TZ = True
TASKS = {
    "default": {"BACKEND": "django_replicas.integrations.tasks.ImmediateBackend"},
    "kept": {"BACKEND": "tests.jobs.backends.KeepingBackend"},
    "plain": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
}

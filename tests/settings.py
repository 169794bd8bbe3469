"""A leader and two followers, each an SQLite file of its own, and another set beside them."""

import os
import tempfile
from pathlib import Path

FOLDER = Path(
    os.environ.get("DJANGO_REPLICAS_TEST_FOLDER") or tempfile.mkdtemp(prefix="django-replicas-")
)


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
ROOT_URLCONF = "tests.urls"
USE_TZ = True

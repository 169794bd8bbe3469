"""The site's settings, of which everything that differs comes from the environment."""

import json
import os

from .names import VARIABLE

GIVEN = json.loads(os.environ[VARIABLE])

ROUTED = {
    "DATABASE_ROUTERS": ["django_replicas.routers.GreedyPinRouter"],
    "MIDDLEWARE": ["django_replicas.middleware.ReplicasMiddleware"],
}
NAIVE = {
    "DATABASE_ROUTERS": ["tests.naive.EachReadAnother"],
    "MIDDLEWARE": [],
}

SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["*"]
DATABASES = GIVEN["databases"]
INSTALLED_APPS = ["django_replicas", "tests.consistency.site"]
ROOT_URLCONF = "tests.consistency.site.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
REPLICAS = {"SETS": {"default": ["replica1", "replica2"]}, **GIVEN["replicas"]}
globals().update(NAIVE if GIVEN["routing"] == "naive" else ROUTED)

if DATABASES["default"]["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()

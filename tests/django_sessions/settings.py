"""A site of nothing but sessions, for Django's own tests of them."""

import json
import os

SITE = json.loads(os.environ["DJANGO_REPLICAS_TEST_SITE"])

SECRET_KEY = "not a secret"
DATABASES = SITE["DATABASES"]
CACHES = SITE["CACHES"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django_replicas",
    "sessions_tests",
    "tests.django_sessions",
]
SESSION_ENGINE = "django_replicas.sessions.write_behind"
USE_TZ = False
SILENCED_SYSTEM_CHECKS = SITE.get("SILENCED_SYSTEM_CHECKS", [])

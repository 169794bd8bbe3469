"""A project like many others: SQLite files, the admin, sessions, a leader and two followers.

The environment chooses the router, the folder of the files, the session engine, and how long a
user stays on the leader after a write.
"""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("SAMPLE_FOLDER", "."))
ROUTER = os.environ.get("SAMPLE_ROUTER", "GreedyPinRouter")


def sqlite(alias):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / f"{alias}.sqlite3"}


SECRET_KEY = "not a secret"
DEBUG = "SAMPLE_DEBUG" in os.environ
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
DATABASES = {
    "default": sqlite("default"),
    "replica1": {**sqlite("replica1"), "TEST": {"MIRROR": "default"}},
    "replica2": {**sqlite("replica2"), "TEST": {"MIRROR": "default"}},
}
DATABASE_ROUTERS = [ROUTER if "." in ROUTER else f"django_replicas.routers.{ROUTER}"]
REPLICAS = {
    "SETS": {"default": ["replica1", "replica2"]},
    "PIN_SECONDS": float(os.environ.get("SAMPLE_PIN_SECONDS", 15)),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django_replicas",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "library",
]
MIDDLEWARE = [
    "django_replicas.middleware.ReplicasMiddleware",
    *(["sample_site.pins.pin_unsafe_methods"] if ROUTER == "StrictPinRouter" else []),
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SESSION_ENGINE = os.environ.get("SAMPLE_SESSION_ENGINE", "django.contrib.sessions.backends.db")
ROOT_URLCONF = "sample_site.urls"
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
USE_TZ = True

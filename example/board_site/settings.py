"""The board's settings; the demo chooses databases and router through the environment."""

import json
import os
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

ROUTERS = {
    "none": [],
    "naive": ["example.naive.NaiveRouter"],
    "LeaderFollowerRouter": ["django_replicas.routers.LeaderFollowerRouter"],
    "StrictPinRouter": ["django_replicas.routers.StrictPinRouter"],
    "GreedyPinRouter": ["django_replicas.routers.GreedyPinRouter"],
    "clock5": ["django_replicas.routers.GreedyPinRouter"],
    "clock15": ["django_replicas.routers.GreedyPinRouter"],
}
CLOCKS = {"clock5": 5, "clock15": 15}
ONE_FILE = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "board.sqlite3"}}

BOARD_ROUTER = os.environ.get("BOARD_ROUTER", "none")
BOARD_SEED = os.environ.get("BOARD_SEED", "1")

DATABASES = json.loads(os.environ.get("BOARD_DATABASES", "null")) or ONE_FILE
DATABASE_ROUTERS = ROUTERS[BOARD_ROUTER]

INSTALLED_APPS = ["example.board"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "example.board.witness.WitnessMiddleware",
]

if BOARD_ROUTER not in {"none", "naive"}:
    INSTALLED_APPS.insert(0, "django_replicas")
    MIDDLEWARE.insert(0, "django_replicas.middleware.ReplicasMiddleware")
    REPLICAS = {
        "SETS": {"default": ["replica1", "replica2"]},
        "TRACE": True,
    }
    if BOARD_ROUTER in CLOCKS:
        REPLICAS["MARK_STORE"] = "example.clock.ClockStore"
        REPLICAS["PIN_SECONDS"] = CLOCKS[BOARD_ROUTER]

ROOT_URLCONF = "example.board.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "example.board.people.visitor",
                "example.board.witness.what_happened",
            ]
        },
    }
]

# For a demonstration on loopback only.
SECRET_KEY = "the message board of the django-replicas demo"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

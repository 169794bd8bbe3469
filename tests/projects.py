"""Projects of one settings file, each in a process of its own."""

import os
import re
import subprocess
import sys

RIGHT = """
def postgres(host, **own):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "HOST": host,
        "OPTIONS": {"connect_timeout": 2},
        **own,
    }

SECRET_KEY = "not a secret"
DATABASES = {
    "default": postgres("leader.invalid"),
    "replica1": postgres(
        "follower.invalid",
        TEST={"MIRROR": "default"},
        CONN_MAX_AGE=60,
        CONN_HEALTH_CHECKS=True,
    ),
}
DATABASE_ROUTERS = ["django_replicas.routers.GreedyPinRouter"]
INSTALLED_APPS = ["django.contrib.sessions", "django_replicas"]
MIDDLEWARE = [
    "django_replicas.middleware.ReplicasMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
]
REPLICAS = {"SETS": {"default": ["replica1"]}}
"""


class Checked:
    """What ``manage.py check`` has said."""

    def __init__(self, done):
        self.succeeded = done.returncode == 0
        self.text = done.stdout + done.stderr
        assert "Traceback" not in self.text, self.text
        self.ids = re.findall(r"\(django_replicas\.(\w+)\)", self.text)


def begun(folder, settings, code):
    """Return what *code* prints in a project of these settings, whose only warning is compat's."""
    (folder / "project_settings.py").write_text(settings)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:django_replicas.compat", "-c", code],
        env={**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "project_settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def check(folder, changes="", *, databases=()):
    """Check the right settings, with lines of Python behind them that change something."""
    (folder / "shop_settings.py").write_text(RIGHT + changes)
    arguments = [f"--database={alias}" for alias in databases]
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    quietly = [sys.executable, "-W", "error", "-W", "ignore:django_replicas.compat"]
    done = subprocess.run(
        [*quietly, "-m", "django", "check", *arguments],
        env={**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "shop_settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Checked(done)

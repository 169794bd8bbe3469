"""Django's own session tests, from the source distribution of the release that is installed."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

WANTED = ("tests/sessions_tests/", "tests/cache/failing_cache.py", "tests/cache/__init__.py")


def fetch_tests(kept_in):
    """Return the folder with Django's tests, fetched by pip once for each release."""
    folder = Path(kept_in) / f"django-{django.__version__}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=kept_in) as workshop:
            archive = _download(Path(workshop))
            _unpack(archive, Path(workshop) / "tests")
            try:
                (Path(workshop) / "tests").rename(folder)
            except OSError:  # Another environment was faster.
                assert folder.exists()
    return folder


def _download(workshop):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    wanted = ["--no-deps", "--no-binary", "django", f"django=={django.__version__}"]
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONDEVMODE"}
    done = subprocess.run(
        [*pip, *wanted], cwd=workshop, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"pip could not fetch Django's sources:\n{done.stderr}"
    (archive,) = workshop.glob("*.tar.gz")
    return archive


def _unpack(archive, folder):
    with tarfile.open(archive) as packed:
        for member in packed:
            path = member.name.partition("/")[2]
            if path.startswith(WANTED) and member.isfile():
                target = folder / path.removeprefix("tests/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as output:
                    shutil.copyfileobj(packed.extractfile(member), output)

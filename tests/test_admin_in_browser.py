"""Django's admin over followers that receive nothing, in a real browser.

The followers are copies of the leader that are never refreshed; their first author is named after
them. So whatever a page shows of this session's work came from the leader.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import django_replicas
from servers.ports import free_port
from servers.process import ServerProcess
from servers.waiting import wait_until

SAMPLE = Path(__file__).parent / "sample"
MARKING = ["LeaderFollowerRouter", "StrictPinRouter", "GreedyPinRouter"]
ROUTERS = [*MARKING, "SessionPinnedRouter"]
TROUBLES = ["not found", "t exist. perhaps it was deleted", "server error", "exception"]
MAKE_LIBRARY = """
from django.contrib.auth.models import User
from library.models import Author, Book

User.objects.create_superuser("ann", password="secret")
author = Author.objects.create(name="default")
Book.objects.create(title="Always", author=author)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = "needs a browser: apt-get install chromium chromium-driver"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        # Chromium refuses to be root's in its sandbox; it sees nothing here but our own pages.
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1200,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(argument)
    chrome = Chrome(options=options, service=Service(executable_path=driver))
    yield chrome
    chrome.quit()


class Admin:
    """The admin in a browser: each step ends when the next page is there."""

    def __init__(self, chrome, port):
        self.chrome = chrome
        self.site = f"http://127.0.0.1:{port}"
        chrome.get(f"{self.site}/admin/login/")
        chrome.delete_all_cookies()

    def open(self, path):
        self.chrome.get(f"{self.site}{path}")
        return self.text()

    def fill(self, **fields):
        for name, value in fields.items():
            field = self.chrome.find_element(By.NAME, name.replace("__", "-"))
            field.clear()
            field.send_keys(value)

    def follow(self, how, what):
        """Click, wait for the next page, and return its text."""
        element = self.chrome.find_element(how, what)
        old = self.chrome.find_element(By.TAG_NAME, "html")
        element.click()
        WebDriverWait(self.chrome, 20).until(lambda _: has_gone(old) and self.is_loaded())
        return self.text()

    def save(self, button="_save"):
        return self.follow(By.NAME, button)

    def is_loaded(self):
        return self.chrome.execute_script("return document.readyState") == "complete"

    def text(self):
        """Return what the page says, in lower case: the admin's styles change some to upper."""
        text = self.chrome.find_element(By.TAG_NAME, "body").text.lower()
        for trouble in TROUBLES:
            assert trouble not in text
        return text

    def values(self):
        """Return what the fields of the form hold."""
        fields = self.chrome.find_elements(By.CSS_SELECTOR, "input[type=text], input.vTextField")
        return [field.get_attribute("value") for field in fields]

    def log_in(self):
        self.open("/admin/")
        self.fill(username="ann", password="secret")
        return self.follow(By.CSS_SELECTOR, "[type=submit]")


def has_gone(element):
    try:
        element.is_enabled()
    except Exception:  # selenium has several ways to say that it is of another page
        return True
    return False


def python(arguments, environment, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=SAMPLE, env=environment, check=True, **options
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Make the leader's database once, for every site to copy."""
    folder = tmp_path_factory.mktemp("library")
    environment = environment_of(folder, "GreedyPinRouter")
    python(["manage.py", "migrate", "--run-syncdb", "-v0"], environment)
    python(["manage.py", "shell", "-v0", "-c", MAKE_LIBRARY], environment)
    return folder / "default.sqlite3"


def environment_of(folder, router):
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("DJANGO_")},
        "PYTHONPATH": str(Path(django_replicas.__file__).parent.parent),
        "PYTHONWARNINGS": "error",
        "SAMPLE_DEBUG": "1",
        "SAMPLE_FOLDER": str(folder),
        "SAMPLE_PIN_SECONDS": "3600",
        "SAMPLE_ROUTER": router,
    }


@pytest.fixture
def admin(browser, library, tmp_path, request):
    """Serve the sample project with the router that the test asks for."""
    for alias in ("default", "replica1", "replica2"):
        copy = shutil.copy(library, tmp_path / f"{alias}.sqlite3")
        with closing(sqlite3.connect(copy)) as database, database:
            database.execute("UPDATE library_author SET name = ?", [alias])
    port = free_port()
    server = ServerProcess(
        [sys.executable, str(SAMPLE / "manage.py"), "runserver", f"127.0.0.1:{port}", "--noreload"],
        log=tmp_path / "log",
        env=environment_of(tmp_path, request.param),
        as_nobody=False,
    )
    try:
        wait_until(lambda: answers(port) or not server.is_running, "the site answers")
        yield Admin(browser, port)
    finally:
        server.kill()  # Where signals from terminals are ignored, the server ignores them too.
    answered = [line for line in (tmp_path / "log").read_text().splitlines() if '" ' in line]
    assert answered
    assert [line for line in answered if '" 404 ' in line and "favicon" not in line] == []
    assert [line for line in answered if '" 500 ' in line] == []


def answers(port):
    try:
        with urlopen(f"http://127.0.0.1:{port}/admin/login/") as page:
            return page.status == 200
    except URLError:
        return False


@pytest.mark.parametrize("admin", ROUTERS, indirect=True)
def test_the_admin_shows_what_was_saved(admin):
    """Log in, add with inlines, edit, read the history, delete, log out: no page is stale."""
    assert "welcome, ann" in admin.log_in()

    admin.open("/admin/library/author/add/")
    admin.fill(name="Octavia", books__0__title="Seed", books__0__copies="1")
    assert "was added successfully" in admin.save("_continue")
    assert {"Octavia", "Seed"} <= set(admin.values())

    admin.fill(name="Octavia B.", books__0__title="Sower", books__1__title="Talents")
    page = admin.save()
    assert "was changed successfully" in page
    assert "2 authors" in page
    assert "default" in page
    admin.follow(By.LINK_TEXT, "Octavia B.")
    assert {"Octavia B.", "Sower", "Talents"} <= set(admin.values())

    page = admin.follow(By.CSS_SELECTOR, "a.historylink")
    assert "added" in page
    assert "sower" in page
    admin.chrome.back()
    assert "talents" in admin.follow(By.CSS_SELECTOR, "a.deletelink")
    page = admin.follow(By.CSS_SELECTOR, "#content [type=submit]")
    assert "was deleted successfully" in page
    assert "1 author" in page
    assert not admin.chrome.find_elements(By.LINK_TEXT, "Octavia B.")
    assert "octavia b." in admin.open("/admin/"), "the recent actions name it"

    assert "logged out" in admin.follow(By.CSS_SELECTOR, "#logout-form button")
    admin.open("/admin/library/author/")
    assert "/admin/login/" in admin.chrome.current_url


@pytest.mark.parametrize("admin", MARKING, indirect=True)
def test_followers_serve_those_who_have_not_written(admin):
    """The followers of these tests are read, and lag: without the mark of a write they answer."""
    admin.log_in()
    assert "default" in admin.open("/admin/library/author/")

    admin.chrome.delete_cookie("replicas_mark")

    assert "replica" in admin.open("/admin/library/author/")


@pytest.mark.parametrize("admin", ["sample_site.naive.FirstFollower"], indirect=True)
def test_a_naive_router_lets_nobody_in(admin):
    """Nothing about the admin itself makes up for lag: the session of the log-in is not found."""
    admin.log_in()
    assert "/admin/login/" in admin.chrome.current_url

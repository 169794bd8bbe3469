"""Run by tox with the wheel: the tutorial, to the letter, in a virtual environment of its own.

Commands are run and files are written as the page has them. Where it says ``django-replicas`` pip
is told to take the wheel that is installed here, or the package that is named as an argument.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from http.cookiejar import CookieJar
from importlib import metadata
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

sys.path.insert(0, str(Path(__file__).parent))

from pages import blocks_of

FOLLOWED = "1 read from replica1: the unit&#x27;s follower"
MARKED = "1 read from default: an earlier unit wrote"
AT_THE_END = ", at the end"
# Whatever is wrong there ends the shell with an error.
TRY_WHAT_IS_SHOWN = """
import doctest
from pathlib import Path
shown = doctest.DocTestParser().get_doctest(Path("shown").read_text(), {}, "tutorial", None, 0)
results = doctest.DocTestRunner().run(shown)
assert results.attempted and not results.failed, results
"""


class Reader:
    """Does what the page says, in a folder."""

    def __init__(self, folder: Path, package: str) -> None:
        self.folder = folder
        (folder / "constraints").write_text(f"django-replicas @ {package}\n")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DJANGO"))}
        self.environment = {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONSTRAINT": str(folder / "constraints"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.server: subprocess.Popen[bytes] | None = None
        self.shown = ""

    def follow(self) -> None:
        for block in blocks_of("tutorial"):
            if block.language == "console":
                for line in block.code.splitlines():
                    self.do(line.removeprefix("$ "))
            elif block.language == "pycon":
                self.shown += block.code
            else:
                self.write(block.caption, block.code)
        (self.folder / "shown").write_text(self.shown)
        self.run("venv/bin/python manage.py shell -c", TRY_WHAT_IS_SHOWN)

    def do(self, command: str) -> None:
        print(f"$ {command}", flush=True)
        if command.endswith(" runserver"):
            self.serve(command)
        elif not command.endswith(" shell"):  # What is typed there is tried at the end.
            self.run(command)

    def run(self, command: str, *more: str) -> None:
        words = [*command.split(), *more]
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def write(self, caption: str, code: str) -> None:
        path = self.folder / caption.removesuffix(AT_THE_END)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if caption.endswith(AT_THE_END) else ""
        path.write_text(before + code)

    def serve(self, command: str) -> None:
        """Start the server, on a port that is free, and be the two browsers of the page."""
        port = free_port()
        self.server = subprocess.Popen(
            [*command.split(), str(port)],
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.writer, self.stranger = Browser(port), Browser(port)
        wait_for(self.stranger)
        assert FOLLOWED in self.writer.get()
        written = self.writer.write("hello")
        assert "<li>hello</li>" in written, written
        assert MARKED in written, written
        seen = self.stranger.get()
        assert "hello" not in seen, seen
        assert FOLLOWED in seen, seen

    def look_again(self) -> None:
        """The follower has caught up."""
        seen = self.stranger.get()
        assert "<li>hello</li>" in seen, seen
        assert FOLLOWED in seen, seen

    def stop(self) -> None:
        if self.server is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.server.pid, signal.SIGKILL)
            self.server.wait()


class Browser:
    """Keeps its cookies, and follows redirects."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/"
        self.opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self) -> str:
        with self.opener.open(self.address, timeout=10) as page:
            return str(page.read().decode())

    def write(self, text: str) -> str:
        token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', self.get())
        assert token is not None
        form = urlencode({"csrfmiddlewaretoken": token[1], "text": text}).encode()
        with self.opener.open(self.address, form, timeout=10) as page:
            return str(page.read().decode())


def wait_for(browser: Browser) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            browser.get()
        except URLError:
            assert time.monotonic() < deadline, "the site does not answer"
            time.sleep(0.1)
        else:
            return


def free_port() -> int:

    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


def package_here() -> str:
    """Return where the package that is installed here came from."""
    told = metadata.distribution("django-replicas").read_text("direct_url.json")
    assert told is not None, "name the package: a folder, or a wheel"
    return str(json.loads(told)["url"])


def main() -> None:
    package = Path(sys.argv[1]).resolve().as_uri() if len(sys.argv) > 1 else package_here()
    with tempfile.TemporaryDirectory() as name:
        reader = Reader(Path(name), package)
        try:
            reader.follow()
            reader.look_again()
        finally:
            reader.stop()
    print("The tutorial ends in a site that works.")


if __name__ == "__main__":
    main()

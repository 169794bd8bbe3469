"""A process of the site: it does with sessions what requests do, one thread for each of them.

It is told by lines of JSON on a socket, and ends as the line on its standard input says.
"""

import json
import os
import signal
import socketserver
import sys
import threading

import django
from django.conf import settings
from django.contrib.sessions.backends.base import UpdateError
from django.core.cache import cache, caches
from django.core.management import execute_from_command_line
from django.db import connections
from django.utils.module_loading import import_string


def set_up(site):
    settings.configure(
        SECRET_KEY="not a secret",
        DATABASES=site["DATABASES"],
        CACHES=site["CACHES"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.sessions", *site["APPS"]],
        SESSION_ENGINE=site["ENGINE"],
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()


class Requests(socketserver.StreamRequestHandler):
    """One client; what it holds between two lines is a request that has not ended."""

    def handle(self):
        held = {}
        for line in self.rfile:
            asked = json.loads(line)
            try:
                answer = answers[asked.pop("do")](held, **asked)
            except UpdateError:
                answer = {"refused": True}
            except Exception as error:
                answer = {"failed": repr(error)}
            caches.close_all()
            connections.close_all()
            try:
                self.wfile.write(json.dumps(answer).encode() + b"\n")
            except OSError:
                return


def begin(held, number):
    session = Store()
    session["number"] = number
    session.save()
    return {"key": session.session_key}


def save(held, key, number):
    session = Store(key)
    seen = session.get("number")
    session["number"] = number
    session.save()
    return {"seen": seen, "key": session.session_key}


def log_in(held, key, number):
    session = Store(key)
    seen = session.get("number")
    session.cycle_key()
    session["number"] = number
    session.save()
    return {"seen": seen, "key": session.session_key}


def log_out(held, key):
    session = Store(key)
    seen = session.get("number")
    session.flush()
    return {"seen": seen}


def read(held, key):
    return {"seen": Store(key).get("number")}


def hold(held, key):
    session = held["session"] = Store(key)
    return {"seen": session.get("number")}


def save_held(held, number):
    session = held.pop("session")
    session["number"] = number
    session.save()
    return {"key": session.session_key}


def empty_cache(held):
    cache.clear()
    return {}


def count_threads(held):
    pool = [each for each in threading.enumerate() if each.name.startswith("django_replicas")]
    others = [each for each in threading.enumerate() if "_save_db" in each.name]
    return {"threads": len(pool) + len(others)}


answers = {
    each.__name__: each
    for each in (
        begin,
        save,
        log_in,
        log_out,
        read,
        hold,
        save_held,
        empty_cache,
        count_threads,
    )
}


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    global Store
    site = json.loads(os.environ["DJANGO_REPLICAS_RACES_SITE"])
    set_up(site)
    Store = import_string(f"{site['ENGINE']}.SessionStore")
    if sys.argv[1:]:
        execute_from_command_line(["manage.py", *sys.argv[1:]])
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(("127.0.0.1", 0), Requests)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    # An end of the input is the owner's end.
    sys.stdin.readline()


if __name__ == "__main__":
    main()

"""A process of the site: ``python -m tests.consistency.serve wsgi|asgi|jobs SOCKET``.

Requests and responses are lines of JSON through a Unix socket, a connection for each client, so
that a real handler of Django's answers them and no web server has to be there.
"""

import asyncio
import json
import os
import socket
import socketserver
import sys
import threading
from http.cookies import SimpleCookie
from io import BytesIO

import django
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import AsyncRequestFactory, RequestFactory

JOB_THREADS = 3


def answer_of(status, cookies, body):
    """Return a response as a line of JSON; only JSON has a body that somebody reads."""
    cookie = SimpleCookie()
    for each in cookies:
        cookie.load(each)
    content = json.loads(body) if status == 200 else None
    sent = {name: morsel.value for name, morsel in cookie.items()}
    return json.dumps({"status": status, "cookies": sent, "body": content}).encode() + b"\n"


def made_by(factory, asked):
    """Return the request as one of Django's factories makes it."""
    factory.cookies.load(asked["cookies"])
    return getattr(factory, asked["method"].lower())(asked["path"])


class WsgiHandler(socketserver.StreamRequestHandler):
    """One thread for each client, as servers with threads and persistent connections have it."""

    application = None

    def handle(self):
        for line in self.rfile:
            asked = json.loads(line)
            environ = made_by(RequestFactory(), asked).environ
            self.wfile.write(self.ask({**environ, "wsgi.input": BytesIO()}))

    def ask(self, environ):
        started = []
        body = self.application(environ, lambda status, headers: started.extend((status, headers)))
        try:
            content = b"".join(body)
        finally:
            body.close()
        cookies = [value for name, value in started[1] if name == "Set-Cookie"]
        return answer_of(int(started[0].split()[0]), cookies, content)


class ThreadedUnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def serve_wsgi(path):
    WsgiHandler.application = staticmethod(get_wsgi_application())
    with ThreadedUnixServer(path, WsgiHandler) as server:
        server.serve_forever()


async def ask_asgi(application, asked):
    scope = made_by(AsyncRequestFactory(), asked).scope
    requested = [{"type": "http.request"}]
    sent = []

    async def receive():
        if requested:
            return requested.pop()
        return await asyncio.get_running_loop().create_future()  # Nobody goes away.

    async def send(message):
        sent.append(message)

    await application(scope, receive, send)
    cookies = [value.decode() for name, value in sent[0]["headers"] if name == b"Set-Cookie"]
    return answer_of(sent[0]["status"], cookies, b"".join(part["body"] for part in sent[1:]))


async def serve_asgi(path):
    application = get_asgi_application()

    async def converse(reader, writer):
        while line := await reader.readline():
            writer.write(await ask_asgi(application, json.loads(line)))
        writer.close()

    async with await asyncio.start_unix_server(converse, path) as server:
        await server.serve_forever()


def serve_jobs(path):
    django.setup()
    own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    own.bind(path)
    threads = [threading.Thread(target=work, args=(own,)) for _ in range(JOB_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(own):
    """Do jobs, one after another, as a worker of Celery does them in this thread."""
    from tests.consistency.site.jobs import do  # noqa: PLC0415 - after django.setup()
    from tests.consistency.site.queue import receive  # noqa: PLC0415 - as well

    while True:
        message = receive(own)
        close_old_connections()
        do(**message)


def main(kind, path):
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.consistency.site.settings"
    if kind == "asgi":
        asyncio.run(serve_asgi(path))
    else:
        {"wsgi": serve_wsgi, "jobs": serve_jobs}[kind](path)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Serve the board over threads and persistent HTTP connections: `python -m example.serve PORT`."""

import os
import signal
import sys

import django
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

HOST = "127.0.0.1"


class QuietHandler(WSGIRequestHandler):
    """The handler of `runserver`, without a line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(port: int) -> None:
    """Answer requests until interrupted."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example.board_site.settings")
    django.setup()
    server = ThreadedWSGIServer((HOST, port), QuietHandler, allow_reuse_address=True)
    server.set_app(get_wsgi_application())
    server.daemon_threads = True
    # Ignored by what a shell starts in the background; it also tells us that our owner died.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server.request_queue_size = 128
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))

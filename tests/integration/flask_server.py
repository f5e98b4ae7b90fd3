"""Serves examples/flask_app.py on threads, and stops at SIGTERM once what is open has ended, as gunicorn does."""

import signal
import sys
from threading import Thread
from types import FrameType

from werkzeug.serving import ThreadedWSGIServer


class Server(ThreadedWSGIServer):
    daemon_threads = False


server: Server | None = None


def stop(_: int, __: FrameType | None) -> None:
    if server is not None:
        Thread(target=server.shutdown).start()  # which waits for the loop that this interrupts


signal.signal(signal.SIGTERM, stop)  # before the application's, which calls it
from flask_app import app  # noqa: E402

server = Server("127.0.0.1", int(sys.argv[1]), app)
server.serve_forever()
server.server_close()

"""What the tests of the example programs share: the programs as processes, and a small HTTP server."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def program(start):
    """Return a function that starts a program of the folder `examples` as a process.

    It writes bytecode: otherwise the import of a large client takes seconds each time.
    """

    def program(name, *words, environ=(), **more):
        environ = {"PYTHONDONTWRITEBYTECODE": "", "CI": "1", **dict(environ)}
        return start(EXAMPLES / name, *words, environ=environ, **more)

    return program


@pytest.fixture
def finished(program):
    """Return a function that runs a program to its end, and returns its stdout. The program must succeed."""

    def finished(name, *words, **more):
        process = program(name, *words, **more)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out

    return finished


@pytest.fixture
def serve():
    """Return a function that starts an HTTP server on a free port and returns its address.

    It is given a function of a request, which returns a status, headers and a body.
    """
    with contextlib.ExitStack() as stack:

        def serve(answer):
            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_GET(self):
                    status, headers, body = answer(self)
                    with contextlib.suppress(ConnectionError):
                        self.send_response(status)
                        for name, value in {**headers, "Content-Length": len(body)}.items():
                            self.send_header(name, str(value))
                        self.end_headers()
                        self.wfile.write(body)

                def do_POST(self):
                    self.do_GET()

                def log_message(self, *args):
                    pass

            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield serve

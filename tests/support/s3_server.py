"""An S3 server on loopback, as a process of its own, and a proxy before it that makes requests fail."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[[int, str, str], str | None]
"""Number of the request (from 1), method, path with query → what happens to it, or None.

``500`` and ``503`` are answered instead; ``cut`` closes the connection before the request is passed on, ``lost`` after
it, so that it was done and nobody hears; ``hang`` does not answer.
"""

READY_S = 30.0


@contextmanager
def s3_server() -> Iterator[int]:
    """Run moto's server and give its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        patience = time.monotonic() + READY_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < patience, "the server does not answer"
                time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


class Proxy:
    """Passes requests on to a port, but for those that :attr:`fault` has something else in mind for."""

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.fault: Fault = lambda number, method, path: None
        self.requests = 0
        self.faults = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def reset(self, fault: Fault = lambda number, method, path: None) -> None:
        with self.lock:
            self.fault, self.requests, self.faults = fault, 0, 0

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def _decide(self, method: str, path: str) -> str | None:
        with self.lock:
            self.requests += 1
            what = self.fault(self.requests, method, path)
            self.faults += what is not None
            return what

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                what = proxy._decide(self.command, self.path)
                if what == "hang":
                    proxy.released.wait(60)
                if what in ("cut", "hang"):
                    return self.cut()
                if what in ("500", "503"):
                    return self.answer(int(what), {}, b"")
                upstream = http.client.HTTPConnection("127.0.0.1", proxy.behind, timeout=60)
                try:
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    found = upstream.getresponse()
                    data = found.read()
                finally:
                    upstream.close()
                if what == "lost":
                    return self.cut()
                return self.answer(found.status, dict(found.headers), data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

            def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def cut(self) -> None:
                self.close_connection = True
                self.connection.close()

            def log_message(self, *args: Any) -> None:
                pass

        return Handler

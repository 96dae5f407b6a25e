"""A server on the loopback interface that misbehaves on demand, as a fixture, and downloads that do not wait for it."""

import http.server
import re
import threading
import time

import pytest

from igc_gluon import downloads

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes: several pieces


@pytest.fixture
def quick_and_direct(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server():  # noqa: C901 (a case for each kind)
    """A server whose behavior is set by attributes; it records the Range header of every request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.headers.get("Range"))
            if server.gate is not None:
                server.gate.wait(10)
            if server.leads_to:
                self.send_response(302)
                self.send_header("Location", server.leads_to)
                self.end_headers()
                return
            if self.path in server.status:
                self.send_error(server.status[self.path])
                return
            start = 0
            wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if wanted and server.ranges:
                start = int(wanted.group(1))
                if start >= len(server.content):
                    self.send_error(416)
                    return
                self.send_response(206)
                first = start + server.shift_range
                size = len(server.content)
                self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", server.says or str(len(server.content) - start))
            self.end_headers()
            body = server.content[start:]
            if server.cuts > 0:
                server.cuts -= 1
                body = body[: len(body) // 2]
            if server.trickles:
                for byte in body:  # until nobody listens
                    self.wfile.write(bytes([byte]))
                    time.sleep(server.trickles)
            self.wfile.write(body[: server.stops_at])
            if server.stops_at is not None:
                server.released.wait(10)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # clients that hang up are part of the tests
    server.content, server.status, server.requests = CONTENT, {}, []
    server.cuts, server.ranges, server.shift_range, server.gate = 0, True, 0, None
    server.says, server.trickles, server.stops_at, server.released = None, 0, None, threading.Event()
    server.leads_to = None
    server.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()

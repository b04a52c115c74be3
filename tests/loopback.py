"""A web server on this machine that can be told to behave badly."""

import hashlib
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from labeldistill.data.downloads import Download


class Handler(BaseHTTPRequestHandler):
    "Serves `server.files`, from the place asked for if `server.ranges`, and hangs up after `server.patience` bytes."

    def do_GET(self):
        server = self.server
        content = server.files.get(self.path.lstrip("/"))
        asked = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        server.asked.append(asked)
        begin = asked if server.ranges else 0
        if content is None:
            return self.send_error(404)
        if server.ranges and begin >= len(content):
            return self.send_error(416)
        self.send_response(206 if server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : begin + server.patience])

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}  # content by name
        self.asked = []  # the places from which files were asked for
        self.ranges = True  # whether it can begin anywhere
        self.patience = 1 << 30  # bytes, after which it hangs up
        self.address = f"http://127.0.0.1:{self.server_port}"

    def publish(self, name, content, algorithm="md5", **changes):
        "Serves a file; returns what is published about it."
        self.files[name] = content
        checksum = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        return Download(f"{self.address}/{name}", name, len(content), checksum)._replace(**changes)


@contextmanager
def running(server):
    "A server that answers in a thread of its own."
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(monkeypatch):
    "A running server, reached without a proxy."
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies of its first use
    with running(Server()) as server:
        yield server

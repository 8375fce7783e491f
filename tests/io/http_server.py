"""A small HTTP server for tests: files with ranges and tags, broken connections, redirects, errors."""

from __future__ import annotations

import http.server
import json
import re
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-")


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` by path. What it does wrong, and what it was asked, is kept in its attributes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.break_after: list[int] = []  # bytes after which the next answers break off
        self.statuses: list[int] = []  # statuses of the next answers, before any is good
        self.ignore_ranges = False
        self.etag = '"one"'
        self.lie_about_length = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add_json(self, path: str, content: Any) -> None:
        self.files[path] = json.dumps(content).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        if server.statuses:
            self.send_error(server.statuses.pop(0))
        elif self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
        elif self.path in server.files:
            self._send(server.files[self.path])
        else:
            self.send_error(404)

    def _send(self, content: bytes) -> None:
        server = self.server
        wanted = _RANGE.match(self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not server.ignore_ranges else 0
        if self.headers.get("If-Range", server.etag) != server.etag:
            start = 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start + server.lie_about_length))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        body = content[start:]
        if server.break_after:
            self.wfile.write(body[: server.break_after.pop(0)])
            self.wfile.flush()
            self.connection.close()
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass

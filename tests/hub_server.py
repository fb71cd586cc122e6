"""A server on this machine that answers as the Hugging Face Hub does, for one repository: someone/alexnet."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def etag(name: str, body: bytes) -> str:
    """As the Hub has it: of a large file its SHA-256, of a small one git's hash."""
    return (hashlib.sha1(b"blob %d\0" % len(body) + body) if name == "a b.txt" else hashlib.sha256(body)).hexdigest()


class Hub:
    """One repository: paths -> bytes; what was asked is remembered."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.lie = files, list[str](), b""
        self.may_send = threading.Event()
        self.may_send.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, *, with_body: bool) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                owner, _, rest = self.path.strip("/").partition("/resolve/")
                revision, _, name = unquote(rest).partition("/")
                problem = (
                    "RepoNotFound"
                    if owner != "someone/alexnet"
                    else "RevisionNotFound"
                    if revision not in ("main", "v1", COMMIT)
                    else "EntryNotFound"
                    if name not in outer.files
                    else ""
                )
                body = b"" if problem else outer.files[name]
                self.send_response(404 if problem else 200)
                self.send_header("Content-Length", str(len(body)))
                if problem:
                    self.send_header("X-Error-Code", problem)
                else:
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.send_header("ETag", f'"{etag(name, body)}"')
                self.end_headers()
                if with_body and outer.may_send.wait(60):
                    self.wfile.write(outer.lie or body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=lambda: self.http.serve_forever(0.01), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"

    def stop(self) -> None:
        self.may_send.set()
        self.http.shutdown()
        self.http.server_close()

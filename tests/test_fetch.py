"""Downloads from a server on this machine that truncates, lies, stalls, redirects and breaks."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from converters import manifest
from converters.fetch import Line, _RefusedError, check_address, fetch  # pyright: ignore[reportPrivateUsage]
from converters.manifest import ManifestEntry
from zoo.errors import CheckFailedError, ZooError

DATA = bytes(range(256)) * 4096  # 1 MiB
# For servers that answer; a slow machine is no slow server.
LINE = Line(connect=60.0, patience=60.0, attempts=3, pause=0.01, loopback=True)
# For servers that never do.
HASTY = replace(LINE, connect=0.2, patience=0.3, attempts=2, whole=60.0)


class Server:
    """Serves DATA under paths that misbehave; remembers what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers.get("Range")))
                getattr(outer, "do_" + self.path.strip("/").split("/")[0])(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=lambda: self.http.serve_forever(0.01), daemon=True)
        self.thread.start()
        self.root = f"http://127.0.0.1:{self.http.server_address[1]}"

    @staticmethod
    def head(handler: BaseHTTPRequestHandler, status: int, length: int, **headers: str) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    @staticmethod
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    def rest(self, handler: BaseHTTPRequestHandler, most: int | None = None) -> None:
        """What is asked for, by Range if there is one, but no more than `most` bytes before the line breaks."""
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        content = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if asked else {}
        self.head(handler, 206 if asked else 200, len(DATA) - start, **content)
        end = len(DATA) if most is None else min(len(DATA), start + most)
        handler.wfile.write(DATA[start:end])
        if end < len(DATA):
            self.cut(handler)

    def do_good(self, handler: BaseHTTPRequestHandler) -> None:
        self.rest(handler)

    def do_breaks(self, handler: BaseHTTPRequestHandler) -> None:
        self.rest(handler, most=200_000)

    def do_truncates(self, handler: BaseHTTPRequestHandler) -> None:
        """Never gets further than half, and knows no Range."""
        self.head(handler, 200, len(DATA))
        handler.wfile.write(DATA[: len(DATA) // 2])
        self.cut(handler)

    def do_norange(self, handler: BaseHTTPRequestHandler) -> None:
        """Breaks once, then sends everything from the start whatever was asked."""
        self.head(handler, 200, len(DATA))
        if sum(path == "/norange" for path, _ in self.requests) == 1:
            handler.wfile.write(DATA[:1000])
            self.cut(handler)
        else:
            handler.wfile.write(DATA)

    def do_elsewhere(self, handler: BaseHTTPRequestHandler) -> None:
        """Answers a Range with another one, once."""
        if handler.headers.get("Range"):
            self.head(handler, 206, len(DATA) - 5, Content_Range=f"bytes 5-{len(DATA) - 1}/{len(DATA)}")
            handler.wfile.write(DATA[5:])
        else:
            self.rest(handler, most=None if len(self.requests) > 2 else 1000)

    def do_lies(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 200, len(DATA))
        handler.wfile.write(DATA[:-1] + b"!")

    def do_short(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 200, 100)
        handler.wfile.write(DATA[:100])

    def do_endless(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(8):
            handler.wfile.write(DATA)
        handler.close_connection = True

    def do_stalls(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 200, len(DATA))
        handler.wfile.write(DATA[:1000])
        handler.wfile.flush()
        self.over.wait()
        handler.close_connection = True

    def do_drips(self, handler: BaseHTTPRequestHandler) -> None:
        """One byte now and then: never silent, never done."""
        self._trickle(handler, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DATA))

    def do_header(self, handler: BaseHTTPRequestHandler) -> None:
        """One header without end: every byte comes in time."""
        self._trickle(handler, b"HTTP/1.1 200 OK\r\nX-Header: ")

    def do_chunk(self, handler: BaseHTTPRequestHandler) -> None:
        """The size of a chunk without end."""
        self._trickle(handler, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")

    def _trickle(self, handler: BaseHTTPRequestHandler, begin: bytes) -> None:
        with suppress(OSError):  # whoever asked has left
            handler.wfile.write(begin)
            while not self.over.wait(0.02):
                handler.wfile.write(b"0")
                handler.wfile.flush()
        handler.close_connection = True

    def do_slowly(self, handler: BaseHTTPRequestHandler) -> None:
        """Fast enough never to be called dead, too slow ever to end."""
        self.head(handler, 200, len(DATA))
        with suppress(OSError):
            for at in range(0, len(DATA), 400):
                handler.wfile.write(DATA[at : at + 400])
                self.over.wait(0.02)

    def do_missing(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 404, 0)

    def do_busy(self, handler: BaseHTTPRequestHandler) -> None:
        if len(self.requests) < 3:
            self.head(handler, 503, 0)
        else:
            self.rest(handler)

    def do_moved(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 302, 0, Location="/good")

    def do_loop(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 302, 0, Location="/loop")

    def do_out(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 301, 0, Location="http://example.invalid/weights")

    def do_nowhere(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 302, 0, Location="https://[weights")

    def do_uncountable(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
        handler.close_connection = True

    def do_tofile(self, handler: BaseHTTPRequestHandler) -> None:
        self.head(handler, 302, 0, Location="file:///etc/hostname")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.over.set()
    server.http.shutdown()
    server.http.server_close()


def make_entry(*urls: str, **changes: object) -> ManifestEntry:
    fields = {
        "id": "test",
        "model": "alexnet",
        "framework": "caffe",
        "format": "caffemodel",
        "file": "test.caffemodel",
        "urls": ["https://127.0.0.1/"],
        "hash": "sha256:" + hashlib.sha256(DATA).hexdigest(),
        "size": len(DATA),
        "licence": "none",
        "source": "this test",
    }
    # The schema refuses http; the flag of `Line` is what lets a loopback address through.
    return ManifestEntry.model_validate(fields | changes).model_copy(update={"urls": urls})


def silent(have: int, size: int) -> None:
    pass


def get(entry: ManifestEntry, directory: Path, line: Line = LINE) -> Path:
    return fetch(entry, directory, progress=silent, line=line)


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_good_server(server: Server, tmp_path: Path) -> None:
    seen = list[tuple[int, int]]()
    path = fetch(make_entry(server.root + "/good"), tmp_path / "new", progress=lambda *x: seen.append(x), line=LINE)
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA)) and [x for x, _ in seen] == sorted(x for x, _ in seen)
    assert leftovers(tmp_path / "new") == ["test.caffemodel"]


def test_what_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    entry = make_entry(server.root + "/good")
    assert get(entry, tmp_path) == get(entry, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["breaks", "norange", "elsewhere", "busy", "moved"])
def test_a_broken_line_is_taken_up_again(server: Server, tmp_path: Path, way: str) -> None:
    assert get(make_entry(f"{server.root}/{way}"), tmp_path).read_bytes() == DATA
    assert leftovers(tmp_path) == ["test.caffemodel"]


def test_only_what_is_missing_is_asked_for(server: Server, tmp_path: Path) -> None:
    get(make_entry(server.root + "/breaks"), tmp_path)
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for _, asked in server.requests if asked]
    assert len(starts) == 5 and starts == sorted(set(starts)) and starts[0] > 0


def test_another_run_goes_on_where_the_last_one_stopped(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="broke"):
        get(make_entry(server.root + "/truncates"), tmp_path)
    assert not (tmp_path / "test.caffemodel").exists()
    server.requests.clear()
    assert get(make_entry(server.root + "/good"), tmp_path).read_bytes() == DATA
    assert server.requests[0][1] is not None
    assert leftovers(tmp_path) == ["test.caffemodel"]


def test_a_part_of_another_file_is_no_fault_of_the_mirror(server: Server, tmp_path: Path) -> None:
    work = tmp_path / ".test.caffemodel.zoo-download-1"
    work.mkdir(mode=0o700)
    (work / "part").write_bytes(b"something else")
    (work / "tmp123").write_bytes(b"of a killed run")
    assert get(make_entry(server.root + "/good"), tmp_path).read_bytes() == DATA
    assert leftovers(tmp_path) == ["test.caffemodel"]


@pytest.mark.parametrize("way", ["lies", "short", "endless"])
def test_another_file_is_refused_and_not_kept(server: Server, tmp_path: Path, way: str) -> None:
    with pytest.raises(CheckFailedError, match="another file") as caught:
        get(make_entry(f"{server.root}/{way}"), tmp_path)
    assert caught.value.exit_status == 1 and "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("way", "word"),
    [
        ("missing", "404"),
        ("stalls", "does not answer"),
        ("drips", "stalls|does not answer"),  # as a slow machine sees it
        ("header", "stalls|does not answer"),
        ("chunk", "stalls|does not answer"),
        ("truncates", "broke"),
        ("loop", "redirects"),
        ("out", "not https"),
        ("tofile", "not https"),
        ("nowhere", "answers nonsense: Invalid IPv6"),
        ("uncountable", "answers nonsense: Exceeds the limit"),
    ],
)
def test_trouble_is_one_line(server: Server, tmp_path: Path, way: str, word: str) -> None:
    with pytest.raises(ZooError, match=word) as caught:
        get(make_entry(f"{server.root}/{way}"), tmp_path, HASTY if "answer" in word else LINE)
    assert caught.value.exit_status == 2 and "\n" not in str(caught.value)
    assert not (tmp_path / "test.caffemodel").exists()


def test_a_download_has_a_deadline_as_a_whole(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, come = [0.0], list[int]()
    monkeypatch.setattr("converters.fetch.time", SimpleNamespace(monotonic=lambda: now[0]))

    def progress(have: int, size: int) -> None:
        come.append(have)
        now[0] += 3600  # a piece an hour

    entry = make_entry(server.root + "/slowly", server.root + "/good")
    with pytest.raises(ZooError, match=r"127\.0\.0\.1 took more than 2\.5 hours; the same command goes on") as caught:
        fetch(entry, tmp_path, progress=progress, line=replace(LINE, patience=1e5, whole=9000.0))
    assert len(come) == 3 and caught.value.exit_status == 2
    monkeypatch.undo()
    assert not (tmp_path / "test.caffemodel").exists()
    assert get(make_entry(server.root + "/good"), tmp_path).read_bytes() == DATA
    assert server.requests[-1][1] is not None, "what had come was not asked for again"


def test_a_link_in_the_place_of_a_work_folder_is_not_followed(server: Server, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "shared"
    mine.mkdir(mode=0o700)
    out.mkdir()
    for name in ("part", "precious"):
        (mine / name).write_bytes(b"mine")
    for suffix in ("", "-", "-1"):
        (out / f".test.caffemodel.zoo-download{suffix}").symlink_to(mine)
    for _ in range(2):  # downloaded, then found there
        assert get(make_entry(server.root + "/good"), out).read_bytes() == DATA
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == {"part": b"mine", "precious": b"mine"}


@pytest.mark.parametrize("bad", ["missing", "lies", "truncates", "stalls", "out"])
def test_the_next_mirror_helps(server: Server, tmp_path: Path, bad: str) -> None:
    entry = make_entry(f"{server.root}/{bad}", server.root + "/good")
    for patience in (0.3, 3.0, 30.0) if bad == "stalls" else ():  # a machine may be too slow for the first
        with suppress(ZooError):
            get(entry, tmp_path, replace(HASTY, patience=patience, attempts=1))
            break
    assert get(entry, tmp_path).read_bytes() == DATA
    assert server.requests[-1][0] == "/good" and len(server.requests) > 1


def test_offline(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/x"
        with pytest.raises(ZooError, match="no connection") as caught:
            get(make_entry(address), tmp_path)
    assert caught.value.exit_status == 2 and "\n" not in str(caught.value)


def test_plain_http_needs_the_flag_and_loopback(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="not https"):
        get(make_entry(server.root + "/good"), tmp_path, Line())
    assert not server.requests
    check_address("https://example.org/x", loopback=False)
    # A redirect from https to http meets the same check.
    for url in ("http://example.org/x", "http://10.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd"):
        with pytest.raises(_RefusedError):
            check_address(url, loopback=True)


def test_file_addresses(tmp_path: Path) -> None:
    source = tmp_path / "a file.bin"
    source.write_bytes(DATA)
    assert get(make_entry(source.as_uri()), tmp_path / "out").read_bytes() == DATA
    with pytest.raises(ZooError, match="no such file"):
        get(make_entry((tmp_path / "none").as_uri()), tmp_path / "other")
    source.write_bytes(DATA[1:] + b"x")
    with pytest.raises(CheckFailedError):
        get(make_entry(source.as_uri()), tmp_path / "other")


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha384"])
def test_the_strongest_hash_there_is(server: Server, tmp_path: Path, algorithm: str) -> None:
    digest = hashlib.new(algorithm, DATA).hexdigest()
    get(make_entry(server.root + "/good", hash=f"{algorithm}:{digest}"), tmp_path / "a")
    with pytest.raises(CheckFailedError):
        get(make_entry(server.root + "/lies", hash=f"{algorithm}:{digest}"), tmp_path / "b")


def test_the_cache_heals_and_the_users_folder_is_respected(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(manifest.CACHE_VARIABLE, str(tmp_path))
    entry, target = make_entry(server.root + "/good"), tmp_path / "test.caffemodel"
    target.write_bytes(b"damaged")
    assert not manifest.is_cached(entry)
    with pytest.raises(ZooError, match="already exists"):
        get(entry, tmp_path)
    assert target.read_bytes() == b"damaged"
    assert fetch(entry, progress=silent, line=LINE).read_bytes() == DATA
    assert manifest.is_cached(entry)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot be written"):
        get(make_entry(server.root + "/good"), tmp_path / "file" / "sub")


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_fetch as t
t.get(t.make_entry({url!r}), Path({folder!r}))
"""


def _child(url: str, folder: Path) -> subprocess.Popen[bytes]:
    code = _CHILD.format(tests=str(Path(__file__).parent), url=url, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent)


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.01)


def test_killed_in_the_middle(server: Server, tmp_path: Path) -> None:
    process = _child(server.root + "/stalls", tmp_path)
    _wait_for(lambda: bool(list(tmp_path.glob("*/part"))), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "test.caffemodel").exists()
    assert get(make_entry(server.root + "/good"), tmp_path).read_bytes() == DATA
    assert leftovers(tmp_path) == ["test.caffemodel"]


@pytest.mark.parametrize("left", ["part", "other", None])
def test_a_run_that_was_killed_at_its_very_end_is_cleaned_up_after(server: Server, tmp_path: Path, left: str) -> None:
    (tmp_path / "test.caffemodel").write_bytes(DATA)
    (tmp_path / ".test.caffemodel.zoo-download-1").mkdir(mode=0o700)
    if left:
        (tmp_path / ".test.caffemodel.zoo-download-1" / left).write_bytes(b"half")
    get(make_entry(server.root + "/good"), tmp_path)
    assert leftovers(tmp_path) == ["test.caffemodel"] and not server.requests


def test_what_somebody_put_there_meanwhile_is_not_replaced(server: Server, tmp_path: Path) -> None:
    def progress(have: int, size: int) -> None:
        (tmp_path / "test.caffemodel").write_bytes(b"mine")

    with pytest.raises(ZooError, match="already exists"):
        fetch(make_entry(server.root + "/good"), tmp_path, progress=progress, line=LINE)
    assert (tmp_path / "test.caffemodel").read_bytes() == b"mine"


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    process = _child(server.root + "/stalls", tmp_path)
    _wait_for(lambda: bool(server.requests), process)
    with pytest.raises(ZooError, match="another process"):
        get(make_entry(server.root + "/good"), tmp_path)
    process.kill()
    process.communicate()


def test_progress_goes_to_stderr(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(make_entry(server.root + "/good"), tmp_path, line=LINE)
    out, err = capsys.readouterr()
    assert out == "" and "test.caffemodel: 1.0 of 1.0 MB (100%)" in err

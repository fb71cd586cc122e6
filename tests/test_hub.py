"""``hf:`` addresses, from a server on this machine that answers as the Hugging Face Hub does."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import constants

from converters.cli import main
from converters.convert import save
from converters.hub import HubFile, fetch_hub, parse
from tests.small import small_weights
from zoo.errors import CheckFailedError, ZooError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ADDRESS = "hf:someone/alexnet/weights/model.safetensors"


def etag(name: str, body: bytes) -> str:
    """As the Hub has it: of a large file its SHA-256, of a small one git's hash."""
    return (hashlib.sha1(b"blob %d\0" % len(body) + body) if name == "a b.txt" else hashlib.sha256(body)).hexdigest()


class Hub:
    """One repository: paths -> bytes; what was asked is remembered."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked, self.lie = files, list[str](), b""
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
                if with_body:
                    self.wfile.write(outer.lie or body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=lambda: self.http.serve_forever(0.01), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, in the place of the Hub, and a cache of its own."""
    save(small_weights("alexnet_owt"), tmp_path / "model.safetensors")
    server = Hub({"weights/model.safetensors": (tmp_path / "model.safetensors").read_bytes(), "a b.txt": b"text"})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_an_address_has_parts() -> None:
    assert parse("hf:a/b/c.onnx") == HubFile(repo="a/b", file="c.onnx", revision="main")
    assert parse("hf:a/b/c/d.onnx@refs/pr/1") == HubFile(repo="a/b", file="c/d.onnx", revision="refs/pr/1")


@pytest.mark.parametrize("address", ["hf:a/b", "hf:a", "hf:", "hf:a/b/", "hf:a/b/c@", "hf:a/b/../c", "hf:a/b/c@d@e"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ZooError, match="expected hf:OWNER/REPO/FILE"):
        parse(address)


def test_a_file_is_fetched_once_and_is_in_the_hubs_own_cache(repository: Hub, tmp_path: Path) -> None:
    path = fetch_hub(ADDRESS)
    assert path.read_bytes() == repository.files["weights/model.safetensors"]
    assert path.name == "model.safetensors" and path.is_relative_to(tmp_path / "cache")
    assert fetch_hub(f"{ADDRESS}@v1") == path
    assert [asked.split()[0] for asked in repository.asked] == ["HEAD", "GET", "HEAD"]
    assert "/resolve/v1/" in repository.asked[-1]


def test_an_address_is_a_source_of_every_command(
    repository: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", ADDRESS]) == 0
    assert "describes: alexnet_owt" in capsys.readouterr().out
    assert main(["convert", ADDRESS, "-o", str(tmp_path / "here.npz")]) == 0
    assert main(["show", f"{ADDRESS}@{COMMIT}"]) == 0
    capsys.readouterr()
    assert main(["fetch", ADDRESS, "-o", str(tmp_path / "new")]) == 0
    copy = tmp_path / "new" / "model.safetensors"
    assert capsys.readouterr().out.strip() == str(copy) and not copy.is_symlink()
    assert copy.read_bytes() == repository.files["weights/model.safetensors"]


def test_no_file_of_the_users_is_replaced(repository: Hub, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    mine = tmp_path / "mine" / "model.safetensors"
    mine.write_text("mine")
    with pytest.raises(ZooError, match="already exists"):
        fetch_hub(ADDRESS, mine.parent)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf:someone/alexnet/absent.onnx", "the repository has no such file"),
        (f"{ADDRESS}@v9", "the repository has no such revision"),
        ("hf:nobody/nothing/a.onnx", "there is no such repository"),
        ("hf:-bad-/x/a.onnx", "Repo id must"),
    ],
)
def test_what_is_not_there_is_one_line(
    address: str, said: str, repository: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", address]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"zoo: {address}: ") and said in err and err.count("\n") == 1


def test_another_file_than_the_hub_names_is_not_kept(repository: Hub, tmp_path: Path) -> None:
    body = repository.files["weights/model.safetensors"]
    repository.lie = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(CheckFailedError, match="the Hub says"):
        fetch_hub(ADDRESS)
    repository.lie = b""
    assert fetch_hub(ADDRESS).read_bytes() == body


def test_a_small_file_is_held_against_gits_hash(repository: Hub) -> None:
    repository.lie = b"TEXT"
    with pytest.raises(CheckFailedError, match="the Hub says"):
        fetch_hub("hf:someone/alexnet/a b.txt")
    repository.lie = b""
    assert fetch_hub("hf:someone/alexnet/a b.txt").read_bytes() == b"text"


def test_a_hub_that_does_not_answer_is_one_line(repository: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the client's own attempts
    repository.http.shutdown()
    repository.http.server_close()
    with pytest.raises(ZooError, match="the Hub cannot be reached"):
        fetch_hub(ADDRESS)

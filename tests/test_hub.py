"""``hf:`` addresses, from a server on this machine that answers as the Hugging Face Hub does."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from converters import hub
from converters.cli import main
from converters.convert import save
from converters.hub import HubFile, fetch_hub, parse
from tests.hub_server import COMMIT, Hub
from tests.small import small_weights
from zoo.errors import CheckFailedError, ZooError

ADDRESS = "hf:someone/alexnet/weights/model.safetensors"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server, in the place of the Hub, and a cache of its own."""
    save(small_weights("alexnet_owt"), tmp_path / "model.safetensors")
    server = Hub({"weights/model.safetensors": (tmp_path / "model.safetensors").read_bytes(), "a b.txt": b"text"})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    yield server
    server.stop()


def test_an_address_has_parts() -> None:
    assert parse("hf:a/b/c.onnx") == HubFile(repo="a/b", file="c.onnx", revision="main")
    assert parse("hf:a/b/c/d.onnx@refs/pr/1") == HubFile(repo="a/b", file="c/d.onnx", revision="refs/pr/1")


@pytest.mark.parametrize(
    "address",
    [
        "hf:a/b",
        "hf:a",
        "hf:",
        "hf:a/b/",
        "hf:a/b/c@",
        "hf:a/b/../c",
        "hf:a/b/c@d@e",
        "hf:a/b/c\nd",
        "hf:a/b/c@m\x1b[2J",
    ],
)
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
    repository.stop()
    with pytest.raises(ZooError, match="the Hub cannot be reached"):
        fetch_hub(ADDRESS)


def test_the_clients_own_remarks_are_dropped_though_it_sets_its_loggers_as_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("huggingface_hub")

    def download(*_: object, **__: object) -> str:
        logger.warning("Retrying in 1s")
        raise OSError("no way")

    class Client:
        @property
        def hf_hub_download(self) -> object:
            logger.setLevel(logging.WARNING)
            return download

    monkeypatch.setattr(hub, "huggingface_hub", Client())
    with pytest.raises(ZooError, match="cannot be downloaded: no way"):
        fetch_hub(ADDRESS)
    assert not caplog.records


def test_a_hub_that_sends_without_end_is_given_up(repository: Hub) -> None:
    repository.may_send.clear()
    with pytest.raises(ZooError, match=r"took more than [\d.e-]+ hours; the same command goes on"):
        fetch_hub(ADDRESS, whole=0.2)
    repository.may_send.set()
    assert fetch_hub(ADDRESS).read_bytes() == repository.files["weights/model.safetensors"]

"""Completion scripts name everything the command line has; where a shell is installed, it is asked itself.

What bash offers is tested in `tests.test_cli`. For zsh and fish: their packages are `zsh` and `fish`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from converters.cli import build_parser
from converters.completion import script
from zoo import registry


def _commands() -> dict[str, argparse.ArgumentParser]:
    parser = build_parser()
    return next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_flag_and_model_is_in_the_script(shell: str) -> None:
    text = script(build_parser(), shell)
    words = set(re.findall(r"[\w-]+", text))
    for name, parser in _commands().items():
        flags = {flag for action in parser._actions for flag in action.option_strings}  # pyright: ignore
        long = {flag if shell != "fish" else flag.removeprefix("--") for flag in flags if flag.startswith("--")}
        assert name in words and long <= words, (name, long - words)
    assert set(registry.models()) <= words


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_reads_its_script(shell: str, tmp_path: Path) -> None:
    text = script(build_parser(), shell)
    (tmp_path / "script").write_text(text)
    done = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("zoo e", {"eval", "export"}),
        ("zoo list ", {"models", "frameworks", "weights"}),
        ("zoo show alexnet_", {name for name in registry.models() if name.startswith("alexnet_")}),
        ("zoo convert --fo", {"--force"}),
        ("zoo generate alexnet --framework ", set(registry.frameworks())),
    ],
)
def test_what_fish_offers(line: str, offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script(build_parser(), "fish"))
    code = f"source {tmp_path}/script; complete -C '{line}'"
    done = subprocess.run(["fish", "-c", code], capture_output=True, text=True, check=True)
    assert {row.partition("\t")[0] for row in done.stdout.splitlines()} == offered


@pytest.mark.slow
def test_zsh_knows_whom_to_ask(tmp_path: Path) -> None:
    """As the README has it: through eval, after compinit."""
    (tmp_path / "script").write_text(script(build_parser(), "zsh"))
    code = f'autoload -Uz compinit; compinit -u -D; eval "$(<{tmp_path}/script)"; whence -w $_comps[zoo]'
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(": function") and not done.stderr

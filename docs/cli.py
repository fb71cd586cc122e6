"""Writes cli.md, every command with its flags, from the parser itself: ``python docs/cli.py``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from converters.cli import build_parser
from converters.cli.helping import EXAMPLES

PAGE = Path(__file__).parent / "cli.md"

HEAD = """# The command line

Every command, as `zoo COMMAND --help` tells it. The page is written by `python docs/cli.py`.

Exit status 0: done. 1: a check failed, such as a proof or a hash. 2: trouble, in one line on stderr that begins with
`zoo:`. 130: interrupted. Results are on stdout, remarks and progress on stderr. Flags are written in full. `-v` says
more, and shows tracebacks. `--version` tells the version, `--print-completion bash`, `zsh` or `fish` the script for a
shell.

What is required is in bold. SRC is a file, an id of `zoo list weights`, or [a file of the Hugging Face Hub](hub.md).
"""


def page() -> str:
    """The text of the page."""
    (commands,) = (
        action
        for action in build_parser()._actions  # pyright: ignore[reportPrivateUsage]  # argparse offers no other way
        if isinstance(action, argparse._SubParsersAction)  # pyright: ignore[reportPrivateUsage]
    )
    parsers = cast("dict[str, argparse.ArgumentParser]", commands.choices)
    return HEAD + "".join(_command(name, parser) for name, parser in parsers.items())


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [
        f"| {_name(action)} | {_cell(action.help or '')} | {_default(action)} |"
        for action in parser._actions  # pyright: ignore[reportPrivateUsage]
        if not isinstance(action, argparse._HelpAction)  # pyright: ignore[reportPrivateUsage]
    ]
    examples = "\n".join(f"$ {line}" for line in EXAMPLES[name])
    table = "\n".join(("| | | default |", "|---|---|---|", *rows))
    return f"\n## zoo {name}\n\n{parser.description}\n\n{table}\n\n```console\n{examples}\n```\n"


def _name(action: argparse.Action) -> str:
    """``-o DIR, --output DIR``, as code; what may be left out in brackets."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest)
    if not action.option_strings:
        word = str(value)
        return f"`{_cell(f'[{word}]' if action.nargs == '?' else f'{word} ...' if action.nargs == '+' else word)}`"
    takes = "" if action.nargs == 0 else f" [{value}]" if action.nargs == "?" else f" {value}"
    required = "**" if action.required else ""
    return f"{required}`{_cell(', '.join(action.option_strings) + takes)}`{required}"


def _default(action: argparse.Action) -> str:
    if action.nargs == 0 or action.default is None or action.default in ("", argparse.SUPPRESS) or action.default == []:
        return ""
    return f"`{action.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

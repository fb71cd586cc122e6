"""The report in every form, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters.report import html, json_text, markdown, render, report_form, text, verdict_sentence
from converters.verdicts import Agreement, Diagnosis, FileFact, LayerVerdict, Report, SubjectVerdict
from zoo.errors import ZooError

EVIL = '<script>alert(1)</script>|"&'


def subject(name: str, errors: dict[str, float | None], **more: object) -> SubjectVerdict:
    layers = tuple(
        LayerVerdict(
            name=layer,
            error=error,
            peak=100.0,
            ok=(error is not None and error <= 1e-5) or layer == "prob",
            gated=layer != "prob",
            reason="the subject has no such activation" if error is None else None,
        )
        for layer, error in errors.items()
    )
    status = "passed" if all(layer.ok for layer in layers) else "failed"
    return SubjectVerdict(name=name, status=status, layers=layers, top1=1.0, seconds=1.5, **more)  # type: ignore[arg-type]


PASSED = subject("pytorch", {"conv1": 3e-7, "norm1": 0.0, "fc8": 1e-6, "prob": 2e-4})
FAILED = subject(
    "/a/rather/long/path/to/theirs.onnx",
    {"conv1": 3e-7, "norm1": 5.5e-1, "fc8": None, "prob": 1e-3},
    diagnosis=Diagnosis(
        fault="lrn_alpha_not_divided",
        layer="norm1",
        message="norm1: alpha was not divided by size",
        remedy="divide it",
        error=2e-7,
    ),
    further=(
        Diagnosis(fault="bias_lost", layer="conv2", message="conv2: the bias is missing", remedy="carry it"),
        Diagnosis(fault="bias_lost", layer="fc8", message="fc8: the bias is missing", remedy="carry it"),
    ),
    notes=("its layers have other names",),
    agreement=Agreement(images=40, top1=0.975, top5=1.0, otherwise=("a.png: cat, by the reference dog",)),
)
ABSENT = SubjectVerdict(name=EVIL, status="unavailable", reason=f"not installed {EVIL}")


def report(*subjects: SubjectVerdict) -> Report:
    return Report(
        model="alexnet",
        budget=1e-5,
        noise=(3e-7, 2e-6),
        subjects=subjects,
        weights="probe weights, seed 0",
        samples=("probe N(0, 60^2)", "probe N(0, 1^2)"),
        versions={"numpy": "2.4.6", "platform": EVIL},
        files=(FileFact(path=EVIL, sha256="ab" * 32),),
        command="zoo verify alexnet --seed 0",
        seconds=12.3,
    )


GOOD, BAD = report(PASSED), report(PASSED, FAILED, ABSENT)


# Words


def test_the_verdict_is_one_sentence() -> None:
    assert verdict_sentence(GOOD) == "alexnet: PASSED, the subject computes the same function, worst error 1.0e-06"
    both = report(PASSED, PASSED)
    assert verdict_sentence(both).startswith("alexnet: PASSED, all 2 subjects compute the same function")
    told = verdict_sentence(BAD)
    assert told.startswith("alexnet: FAILED, /a/rather/long/path/to/theirs.onnx of 3 differ, first in norm1; not run: ")
    told = verdict_sentence(report(PASSED, ABSENT))
    assert told.startswith("alexnet: NOT PROVED BY ALL, 1 of 2 subjects compute the same function")


def test_the_terminal_table_lines_up_and_has_colour_only_when_asked() -> None:
    plain = text(BAD)
    assert "\033" not in plain
    lines = plain.splitlines()
    rows = {line.split()[0]: line for line in lines if line and line.split()[0] in ("conv1", "norm1", "fc8", "worst")}
    assert rows["conv1"].split() == ["conv1", "3.0e-07", "3.0e-07"]
    assert rows["norm1"].split() == ["norm1", "0", "5.5e-01!"]
    assert rows["fc8"].split() == ["fc8", "1.0e-06", "-!"]
    assert rows["norm1"].index("5.5e-01!") + 8 == rows["fc8"].index("-!") + 2
    assert "(b) /a/rather/long/path/to/theirs.onnx" in plain
    assert "  > norm1: alpha was not divided by size\n    divide it" in plain
    assert "conv2: the bias is missing; likewise fc8" in plain
    assert "top-1 agreement 97.5%, top-5 100.0% of 40 images\n    a.png: cat, by the reference dog" in plain
    coloured = text(BAD, colour=True)
    assert "\033[31m" in coloured
    assert re.sub(r"\033\[\d+m", "", coloured) == plain


def test_a_failure_says_the_budget_that_would_have_passed() -> None:
    off = subject("onnx", {"conv1": 3e-5, "fc8": 8e-5})
    assert "first differs in conv1 (error 3.0e-05); a budget of 8.0e-05 would have passed" in text(report(off))


def test_json_is_one_strict_object() -> None:
    told = json.loads(json_text(BAD), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told["schema"] == 1 and told["passed"] is False
    assert [s["status"] for s in told["subjects"]] == ["passed", "failed", "unavailable"]
    assert told["subjects"][1]["max_error"] is None
    assert told["subjects"][1]["first_failure"] == "norm1"
    assert told["subjects"][1]["diagnosis"]["fault"] == "lrn_alpha_not_divided"
    assert told["subjects"][1]["layers"][2]["error"] is None
    assert told["subjects"][2]["reason"].startswith("not installed")
    assert told["files"] == [{"path": EVIL, "sha256": "ab" * 32}]


def test_markdown_is_a_table_of_one_width_with_nothing_alive_in_it() -> None:
    told = markdown(BAD)
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "| norm1 | 0 | **5.5e-01** |  |" in told
    assert "<script" not in told
    assert "`zoo verify alexnet --seed 0`" in told


def test_the_form_follows_the_suffix() -> None:
    assert render(GOOD, "html").startswith("<!doctype html>")
    assert render(GOOD, "md").startswith("**alexnet: PASSED")
    assert json.loads(render(GOOD, "json"))["schema"] == 1
    with pytest.raises(ZooError, match=r"\.html, \.md, \.json"):
        report_form(Path("x.pdf"))


# The page


class Page(HTMLParser):
    """Checks that what is opened is closed, and gathers what a test asks for."""

    VOID = frozenset({"meta", "wbr", "br", "path", "rect", "line"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("shown", [GOOD, BAD, report(ABSENT), report()])
def test_the_page_is_well_formed_and_needs_nothing_from_anywhere(shown: Report) -> None:
    source = html(shown)
    page = Page(source)
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"(https?:)?//|url\(|@import", source.split("</title>")[1])
    assert not any({"src", "href", "onload", "onerror"} & attributes.keys() for _, attributes in page.tags)
    assert "default-src 'none'" in source
    assert verdict_sentence(shown) in page.words


def test_the_page_tells_the_whole_proof() -> None:
    page = Page(html(BAD))
    for told in (
        "norm1: alpha was not divided by size",
        "What to do: divide it",
        "zoo verify alexnet --seed 0",
        "ab" * 32,
        "2.4.6",
        "probe N(0, 60^2)",
        "top-1 agreement 97.5%",
        EVIL,
        "budget 1e-05",
        "noise of a right model",
    ):
        assert told in page.words, told


def test_behind_every_picture_there_is_a_table() -> None:
    page = Page(html(BAD))
    captions = [a.get("aria-label") for tag, a in page.tags if tag == "div" and a.get("class") == "scroll"]
    assert {"Heat map", "Errors", "Subjects", "Files", "Versions"} <= set(captions)
    pictures = [a for tag, a in page.tags if tag == "svg" and a.get("role") == "img"]
    assert len(pictures) == 1 and "table below" in str(pictures[0]["aria-label"])
    heads = [a for tag, a in page.tags if tag == "th"]
    assert heads and all(a.get("scope") in ("row", "col") for a in heads)
    # Not by colour alone: what fails carries a cross in the heat map and in the table of errors.
    assert page.words.count("✗") == 2 * 2


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def _contrast(a: str, b: str) -> float:
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_words_can_be_read_in_both_colour_schemes() -> None:
    style = html(GOOD).split("<style>")[1]
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    for scheme, ink, inverse in ((light, "#10141c", "#ffffff"), (dark, "#f2f4f8", "#10141c")):
        for colour in ("ink", "soft", "good", "bad", "warn"):
            assert _contrast(scheme[colour], scheme["card"]) >= 4.5, colour
        for level in range(7):
            words = inverse if level in (0, 6) else ink
            assert _contrast(scheme[f"h{level}"], words) >= 4.5, f"h{level}"
        for line in range(7):
            assert _contrast(scheme[f"c{line}"], scheme["card"]) >= 3, f"c{line}"


def _browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.fail("no browser: install chromium (Debian: apt-get install chromium) to open the report in")


def _shot(page: Path, size: str, *options: str) -> Image.Image:
    picture = page.with_suffix(".png")
    command = [
        _browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ]
    command += [f"--user-data-dir={page.parent / 'profile'}", f"--window-size={size}", f"--screenshot={picture}"]
    subprocess.run([*command, *options, page.as_uri()], check=True, capture_output=True)
    with Image.open(picture) as image:
        return image.convert("RGB")


@pytest.mark.slow
def test_a_real_browser_draws_the_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html(BAD), encoding="utf-8")
    for size, options, background in (
        ("1200,2600", (), (251, 250, 247)),
        ("1200,2600", ("--blink-settings=preferredColorScheme=0",), (18, 21, 28)),
        ("390,2600", (), (251, 250, 247)),
    ):
        image = _shot(page, size, *options)
        pixels = np.asarray(image)
        colours = {tuple(int(v) for v in c) for c in pixels[::2, ::2].reshape(-1, 3)}
        assert background in colours
        red = (166, 30, 46) if background[0] > 128 else (255, 139, 147)
        assert red in colours, "the failing cells of the heat map"
        assert len(colours) > 50
        # Nothing sticks out: the outermost columns are page, or the border of a card, from top to bottom.
        assert len({tuple(int(v) for v in c) for c in pixels[:, -2]}) <= 3

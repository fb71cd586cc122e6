"""A `Report` for people: terminal table, Markdown, JSON and one self-contained HTML page."""

from converters.report.html_page import html
from converters.report.render import json_text, markdown, render, text
from converters.report.wording import verdict_sentence

__all__ = ["html", "json_text", "markdown", "render", "text", "verdict_sentence"]

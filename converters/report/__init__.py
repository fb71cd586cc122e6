"""A `Report` for people: terminal table, Markdown, JSON and one self-contained HTML page."""

from converters.report.html_page import html
from converters.report.render import FORMS, json_text, markdown, render, report_form, text
from converters.report.wording import in_markdown, verdict_sentence

__all__ = ["FORMS", "html", "in_markdown", "json_text", "markdown", "render", "report_form", "text", "verdict_sentence"]

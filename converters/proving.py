"""The commands that prove: ``zoo verify``, and ``zoo card``, whose table is a proof."""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.answers import networks, print_as_it_is, print_text
from converters.host import colours
from converters.said import check_network, is_member, listed, retold
from zoo import registry
from zoo.errors import CheckFailedError, ZooError
from zoo.wire.atomic import check_target, write_text

_LOG = logging.getLogger(__name__)


def verify(options: argparse.Namespace) -> int:
    """``zoo verify``."""
    from converters import report
    from converters.parity import DEFAULT_BUDGET

    form = options.report_format
    if options.json and form and not options.report:
        raise ZooError("--json and --report-format both print the report; leave one of them out")
    if options.report:
        _check_not_read(options.report, options)
        check_target(options.report, force=options.force)
        form = report.report_form(options.report, form)
    how: dict[str, Any] = {
        "images": options.images,
        "data": options.data,
        "runtimes": [] if options.runtimes is None else listed("--runtimes", options.runtimes),
        "seed": options.seed,
        "budget": DEFAULT_BUDGET if options.budget is None else options.budget,
        "progress": _progress,
        "command": "zoo " + shlex.join(options.arguments),
    }
    frameworks = _frameworks(options)
    if frameworks and len(options.subjects) > 1:
        raise ZooError("--frameworks goes with one subject; several files are each run as they are")
    result = _proof(options, frameworks, how)
    if options.report:
        write_text(options.report, report.render(result, form), force=options.force)
    if form and not options.report:
        print_as_it_is(report.render(result, form))
    else:
        print_as_it_is(report.json_text(result) if options.json else report.text(result, colour=colours()))
    return result.exit_status


def _frameworks(options: argparse.Namespace) -> list[str] | None:
    return None if options.frameworks is None else listed("--frameworks", options.frameworks)


def _progress(what: str) -> None:
    _LOG.info("verify: %s", what)


def card(options: argparse.Namespace) -> int:
    """``zoo card``: the file is proved in every framework; what fails gets no card."""
    from converters import report
    from converters.card import Card, card_text
    from converters.convert import load
    from converters.lineage import lineage
    from converters.parity import verify_file
    from converters.source import find, told

    check_target(options.output, force=options.force)
    path, said = find(options.source)
    network, how = told(options)
    weights = load(path, spec=network or said, how=how)
    result = verify_file(
        path,
        network or weights.spec,
        _frameworks(options),
        prototxt=options.prototxt,
        how=replace(how, map_out=None),  # it is written
        progress=_progress,
        command="zoo " + shlex.join(options.arguments),
    )
    if result.exit_status == 1:
        raise CheckFailedError(f"{report.verdict_sentence(result)}; no card is written; see: zoo verify {path}")
    told = Card(
        spec=weights.spec,
        file=path.name,
        reading=shlex.join(retold(options)),
        licence=options.licence or "",
        lineage=lineage(path, weights.tensors),
        files={Path(fact.path).name: fact.sha256 for fact in result.files},
        report=result,
    )
    write_text(options.output, card_text(told), force=options.force)
    if result.exit_status:
        _LOG.warning("%s: %s", options.output, report.verdict_sentence(result))
    print_text(str(options.output))
    return result.exit_status


def _proof(options: argparse.Namespace, frameworks: list[str] | None, how: Mapping[str, Any]) -> Any:
    """The report of what the subjects are: a family member, one file, or several."""
    from converters.parity import verify_file, verify_files, verify_model
    from converters.source import find, load_source, told

    one, others = options.subjects[0], options.subjects[1:]
    if is_member(one) and not others:
        check_network(options, one, has_weights=bool(options.weights))
        if options.weights is None:
            return verify_model(networks(options, one)[0], None, frameworks, **how)
        weights = load_source(options, options.weights, registry.model(one))
        return verify_model(weights.spec, weights, frameworks, **how)
    if options.weights:
        raise ZooError("--weights goes with a family member; a file has its own; see: zoo verify --help")
    (spec, read), files = told(options), [find(subject)[0] for subject in options.subjects]
    how = {**how, "how": read, "hashes": bool(options.report or options.report_format or options.json)}
    if others:
        return verify_files(files, spec, **how)
    return verify_file(files[0], spec, frameworks, prototxt=options.prototxt, **how)


def _check_not_read(target: Path, options: argparse.Namespace) -> None:
    """Refuse a report in the place of what is judged; not even --force is meant so."""
    read = [*options.subjects, options.prototxt, options.weights, *options.images]
    read += [options.names, options.mean, options.labels]
    if any(path and Path(path).exists() and target.exists() and target.samefile(path) for path in read):
        raise ZooError(f"{target}: --report would replace a file that is read here; write the report elsewhere")

"""What each command of the command line does; every function returns the exit status."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.answers import networks, print_as_it_is, print_json, print_text
from converters.host import colours, columns, fitted, memory_kept
from converters.proving import card, verify
from converters.said import HUB, check_network, is_member, listed
from zoo import registry
from zoo.errors import ZooError, shown
from zoo.layers import ModelSpec
from zoo.shapes import check_cost
from zoo.wire.atomic import check_target, publish, staging, write_text

_LOG = logging.getLogger(__name__)


def _list(options: argparse.Namespace) -> int:
    from converters.listing import rows as listed_rows

    rows = listed_rows(options.kind, options.pattern)
    if options.json:
        print_json({options.kind: rows})
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print_text(fitted(f"{row['name']:{width}}  {row['summary']}", width + 2))
    return 0


def _show(options: argparse.Namespace) -> int:
    from zoo import show

    if options.svg and options.svg.suffix != ".svg":
        raise ZooError(f"{options.svg}: a picture is drawn as .svg; choose this suffix")
    if options.recipe and options.json:
        raise ZooError("--recipe prints a file for zoo train, which is YAML; leave --json out")
    (spec,) = networks(options, options.source)
    if options.svg:
        from zoo.svg import svg

        write_text(options.svg, svg(spec), force=options.force)
    if options.recipe:
        print_text(registry.imported("zoo.recipe_file", "train").dumps(registry.recipe(spec)))
    elif options.json:
        print_json(show.show_dict(spec))
    elif options.svg:
        print_text(str(options.svg))
    else:
        remark = registry.remark(spec.name) if is_member(options.source) else ""
        print_text("\n".join(filter(None, (show.show_text(spec, columns()), fitted(remark)))))
    return 0


def _info(options: argparse.Namespace) -> int:
    from converters.convert import Reading
    from converters.info import info, info_text
    from converters.source import find

    told = info(find(options.source)[0], Reading(from_format=options.from_format, ema=options.ema))
    if options.json:
        print_json(told)
    else:
        print_text(fitted(info_text(told), 4))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from zoo.show import diff_text

    given = options.source, options.other
    named = (replace(spec, name=str(name)) for spec, name in zip(networks(options, *given), given, strict=True))
    print_text(diff_text(*named, width=columns()))
    return 0


def _generate(options: argparse.Namespace) -> int:
    if (options.source is None) == (options.prototxt is None):
        raise ZooError("name a family member, or give --prototxt FILE; one of the two; see: zoo generate --help")
    if options.source:
        (spec,) = networks(options, options.source)
    else:
        from converters.source import prototxt

        spec = prototxt(options, options.prototxt)
    if options.num_classes:
        spec = spec.with_num_classes(options.num_classes)
    check_cost(spec)
    framework = registry.framework(options.framework)
    if options.output.exists() and not options.output.is_dir():
        raise ZooError(f"{options.output}: is a file, expected a folder for the source; choose another -o")
    is_new = not options.output.exists()
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        with staging(options.output / spec.file_name) as folder:
            main = framework.generate(spec, folder)[0]
            written = publish(folder, options.output / main.name, force=options.force)
    except ZooError:
        if is_new:
            with suppress(OSError):  # somebody else may have put something there meanwhile
                options.output.rmdir()
        raise
    for path in written:
        print_text(str(path))
    return 0


def _fetch(options: argparse.Namespace) -> int:
    if options.weights_id.startswith(HUB):
        with registry.optional():
            from converters.hub import fetch_hub
        print_text(str(fetch_hub(options.weights_id, options.output)))
        return 0
    from converters import manifest
    from converters.fetch import fetch

    print_text(str(fetch(manifest.entry(options.weights_id), options.output)))
    return 0


def _convert(options: argparse.Namespace) -> int:
    from converters.convert import save, with_num_classes
    from converters.formats import holds_network, target_format, weights_format
    from converters.source import load_source

    to_format = target_format(options.output, options.to_format)
    check_target(weights_format(to_format).main_file(options.output), force=options.force)
    weights = load_source(options, options.source)
    if options.num_classes:
        weights = with_num_classes(weights, options.num_classes)
    for path in save(weights, options.output, to_format=to_format, force=options.force):
        print_text(str(path))
    if weights.spec.preprocessing and not holds_network(to_format, options.output):
        from zoo.show import images_text

        _LOG.info("%s: this format cannot carry the preprocessing; %s", options.output, images_text(weights.spec))
    return 0


def _export(options: argparse.Namespace) -> int:
    from converters.export import ExportOptions, check_export, export
    from converters.source import load_source

    how = ExportOptions(
        framework=options.framework,
        opset=options.opset,
        fast_lrn=options.fast_lrn,
        fold_preprocessing=options.fold_preprocessing,
        precision=options.precision,
        calibrate=options.calibrate,
        verify=not options.no_verify,
        force=options.force,
    )
    check_export(options.output, how)
    with memory_kept():
        written = export(load_source(options, options.source), options.output, how)
    for path in written:
        print_text(str(path))
    return 0


def _run(options: argparse.Namespace) -> int:
    from converters.run import RunOptions, run
    from converters.source import load_source

    how = RunOptions(
        framework=options.framework,
        top=options.top,
        layers=() if options.layers is None else tuple(listed("--layers", options.layers)),
        save=options.save,
        batch_size=options.batch_size,
        force=options.force,
    )
    weights = load_source(options, options.source)
    result = run(weights, options.images, how)
    if options.json:
        images = [
            {"image": str(seen.image)} | {"top": [{"index": i, "class": c, "value": v} for i, c, v in seen.top]}
            for seen in result.seen
        ]
        print_json(
            {
                "model": weights.spec.name,
                "class_names": list(weights.spec.classes),
                "framework": result.framework,
                "output": result.output,
                "images": images,
            }
        )
        return 0
    for seen in result.seen:
        print_text(f"{seen.image}: {result.output}, by {result.framework}")
        for index, name, value in seen.top:
            print_text(shown(f"  {value:10.4f}  {index:4}  {name}".rstrip()))
    if options.save:
        print_text(str(options.save))
    return 0


def _train(options: argparse.Namespace) -> int:
    registry.imported("zoo.training.launch", "train")
    from zoo.recipe_file import read_recipe
    from zoo.training.job import TrainOptions
    from zoo.training.launch import train

    model, begin = _to_train(options)
    model_file = train(
        TrainOptions(
            model=model,
            data=options.data,
            out=options.output,
            begin=begin,
            framework=options.framework,
            devices=options.devices,
            parallel=options.parallel,
            device=options.device,
            precision=options.precision,
            deterministic=options.deterministic,
            compiled=options.compile,
            epochs=options.epochs,
            steps=options.steps,
            batch_size=options.batch_size,
            seed=options.seed,
            resume=options.resume or False,
            checkpoint_every=options.checkpoint_every,
            workers=_workers(options),
            on_broken_image=options.on_broken_image,
            recipe=read_recipe(options.recipe) if options.recipe else None,
            rate=options.lr,
            weight_decay=options.weight_decay,
            freeze=tuple(options.freeze),
            head_rate=options.head_rate,
            profile=options.profile,
        )
    )
    print_text(str(model_file))
    return 0


def _workers(options: argparse.Namespace) -> int:
    # The digits are in memory already; processes to read them would take longer to start than to be of use.
    return (0 if options.data == "digits" else 2) if options.workers is None else options.workers


def _to_train(options: argparse.Namespace) -> tuple[ModelSpec, Any]:
    """The network that is to be trained, and the weights it begins with, if there are any."""
    import numpy as np

    from converters.lineage import lineage
    from converters.source import find, is_prototxt, load_source
    from zoo.training.job import Begin

    member, network = is_member(options.source), None
    if member:
        check_network(options, options.source, has_weights=options.weights is not None)
    if member or is_prototxt(options, Path(options.source)):
        network = registry.model(options.source) if member and options.weights else networks(options, options.source)[0]
        if options.weights is None:
            if options.new_head:
                raise ZooError("--new-head goes with weights to begin with; a network without --weights is drawn anew")
            return network, None
    elif options.weights is not None:
        raise ZooError(f"--weights goes with a member or a prototxt; {options.source} has its own")
    source = str(options.weights if network else options.source)
    weights = load_source(options, source, network)
    tensors = {name: np.array(weights.tensors[name]) for name in weights.tensors}  # the file is held no longer
    about = lineage(find(source)[0], tensors)
    return weights.spec, Begin(weights=tensors, lineage=about, new_head=options.new_head)


def _eval(options: argparse.Namespace) -> int:
    registry.imported("zoo.training.evaluate", "train")
    from converters.source import load_source
    from zoo.training.datasets import open_to_judge
    from zoo.training.judge import Judging, judge, places

    how = Judging(
        data=options.data,
        device=options.device,
        devices=options.devices,
        precision=options.precision,
        compiled=options.compile,
        ten_crop=options.ten_crop,
        batch_size=options.batch_size,
        workers=_workers(options),
    )
    if options.confusion:
        check_target(options.confusion, force=options.force)
    devices, said = places(how)
    classes = open_to_judge(options.data).classes
    weights = load_source(options, options.source)
    spec = weights.spec
    _check_classes(options.source, spec.classes, classes)
    _LOG.info("device: %s; %s", said, options.precision)
    scores = judge(spec, weights.tensors, how, devices)
    means, rows = scores.means(), scores.by_class(classes) if options.per_class else []
    if options.confusion:
        write_text(options.confusion, scores.confusion_csv(classes), force=options.force)
    if options.json:
        told = {"model": spec.name, "class_names": list(spec.classes or classes), **means}
        print_json(told | ({"classes": rows} if options.per_class else {}))
        return 0
    count = f"images {means['images']}" + (f"  broken {means['broken']}" if means["broken"] else "")
    print_text(f"top-1 {means['top1']:.2%}  top-5 {means['top5']:.2%}  loss {means['loss']:.4f}  {count}")
    for row in rows:
        print_text(shown(f"{row['top1']:8.2%} {row['top5']:8.2%} {row['images']:8,}  {row['class']}"))
    return 0


def _check_classes(source: str, known: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Refuse images whose classes are others than those the weights were trained for, as far as is known."""
    for index, name in enumerate(classes if known else ()):
        theirs = known[index] if index < len(known) else "nothing"
        # ImageNet's folders are called by the first word of a line of synset_words.txt.
        if name not in (theirs, theirs.partition(" ")[0]):
            raise ZooError(f"{source} was trained for other classes: output {index} is {theirs!r}, here {name!r}")


def _pack(options: argparse.Namespace) -> int:
    registry.imported("converters.packing", "train")
    from converters.packing import pack_folder

    written = pack_folder(
        options.data, options.output, side=options.side, on_broken=options.on_broken_image, force=options.force
    )
    for folder, packed in written.items():
        for message in packed.broken:
            _LOG.warning("%s; left out", message)
        left_out = f", {len(packed.broken):,} broken ones left out" if packed.broken else ""
        print_text(f"{folder}: {packed.images:,} images in {packed.shards:,} shards{left_out}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    registry.imported("zoo.training.launch", "all")
    from converters import report
    from converters.demo import demo_full, demo_trained

    result = (demo_full if options.full else demo_trained)(options.output)
    print_as_it_is(report.text(result, colour=colours()))
    print_text(f"everything is in {options.output}/, the proof in {options.output / 'report.html'}")
    return result.exit_status


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "info": _info,
    "show": _show,
    "diff": _diff,
    "generate": _generate,
    "fetch": _fetch,
    "convert": _convert,
    "export": _export,
    "verify": verify,
    "card": card,
    "train": _train,
    "eval": _eval,
    "run": _run,
    "pack": _pack,
    "demo": _demo,
}

"""The process in which Keras runs: its backend is chosen once, when it is imported.

``python process.py BACKEND`` answers jobs on stdin with pickles on stdout, until stdin ends. A job is one of `_JOBS`
and what it needs: the source of a network, the numbers of its layers' variables, the layers whose output is wanted, a
batch for each input. It is started by `zoo.frameworks.keras.live`, from which both ends come; nothing of this project
is imported.
"""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import nullcontext
from importlib import import_module
from typing import Any, BinaryIO, cast


def run(keras: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The outputs of layers by name, as Keras has them."""
    model = built(keras, job)
    found = keras.Model(model.inputs, [model.get_layer(name).output for name in job["wanted"]])
    inputs = [job["inputs"][value.name] for value in model.inputs]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    # What is as long as what is found has no shape that JAX could compile.
    compiled = keras.backend.backend() == "jax" and not any(None in value.shape[1:] for value in found.outputs)
    outputs = _jitted(found, inputs) if compiled else found(inputs, training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return {name: keras.ops.convert_to_numpy(value) for name, value in zip(job["wanted"], outputs, strict=True)}


def _jitted(model: Any, inputs: Any) -> Any:
    """The outputs on JAX, which compiles one function in less time than its operations one by one."""

    def call(trainable: Any, other: Any, given: Any) -> Any:
        return model.stateless_call(trainable, other, given, training=False)[0]

    numbers = ([one.value for one in of] for of in (model.trainable_variables, model.non_trainable_variables))
    return import_module("jax").jit(call)(*numbers, inputs)


def export(keras: Any, job: dict[str, Any]) -> None:
    """Write the model by Keras' own exporter."""
    model, onnx = built(keras, job), job["form"] == "onnx"
    given = {name: model.get_layer(layer).output for name, layer in job["outputs"].items()}
    model = keras.Model(model.inputs, [*given.values()] if onnx else given)  # to ONNX it takes no outputs by name
    model([keras.ops.zeros((1, *value.shape[1:])) for value in model.inputs])  # it exports what has been called
    model.export(job["target"], format=job["form"], verbose=False, **job["options"])


def serve(keras: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a SavedModel's only signature."""
    loaded = import_module("tensorflow").saved_model.load(job["folder"])
    found = loaded.signatures["serving_default"](**job["inputs"])
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


_JOBS = {"run": run, "export": export, "serve": serve}


def built(keras: Any, job: dict[str, Any]) -> Any:
    """The model that the source builds, with the variables of the job."""
    names = dict[str, Any]()
    exec(compile(job["source"], "<generated>", "exec"), names)  # written by this project, a line before
    model = names["build"](data_format=job["data_format"])
    for layer, values in job["variables"].items():
        model.get_layer(layer).set_weights(values)
    return model


def uninitialised(keras: Any) -> None:
    """Every initial value is 0: a job brings its own, and JAX compiles seconds for each shape that is drawn."""

    def zeros(_: Any, shape: tuple[int, ...], dtype: str | None = None, **__: Any) -> Any:
        return keras.ops.zeros(shape, dtype)

    for kind in vars(keras.initializers).values():
        if isinstance(kind, type) and issubclass(kind, keras.initializers.Initializer):
            kind.__call__ = zeros


def answer(keras: Any, what: str, job: dict[str, Any]) -> tuple[bool, Any]:
    """Whether the job went well, and what came of it."""
    try:
        return True, _JOBS[what](keras, job)
    except Exception as trouble:  # noqa: BLE001 - backends raise anything; the other end tells it
        return False, f"{type(trouble).__name__}: {trouble}"


def main(backend: str) -> None:
    """Answer jobs; what libraries print goes nowhere near the answers."""
    answers = cast(BinaryIO, os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    os.environ["KERAS_BACKEND"] = backend
    if backend != "tensorflow":
        sys.modules["tensorflow"] = cast(Any, None)  # Keras would import it beside any backend, for seconds
    keras: Any = import_module("keras")
    keras.config.set_floatx("float32")
    uninitialised(keras)
    quiet: Any = nullcontext
    if backend == "torch":
        quiet = import_module("torch").inference_mode
    while True:
        try:
            what, job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        with quiet():
            done = answer(keras, what, job)
        pickle.dump(done, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])

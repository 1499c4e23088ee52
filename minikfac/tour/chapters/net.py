"""The net that was studied, its data, and how it was trained."""

from __future__ import annotations

import math
from html import escape

from ...network import Network
from ..parts import Chapter, Part, Section, count, listing, number, percent
from ..studied import Run
from .maps import conv_layers


def compute(run: Run) -> Chapter:
    """What was studied, and sizes of data and net; nothing else is computed."""
    settings, data, net, F = run.settings, run.dataset, run.net, run.study.F
    size = " × ".join(map(str, data.x_train.shape[1:]))
    classes = f"{data.n_classes} classes" if data.n_classes else f"{data.y_train.shape[1]} numbers to predict"
    parts: list[Part] = [
        f"The data: <b>{escape(data.name)}</b>, {count(len(data.x_train))} training and "
        f"{count(len(data.x_test))} test examples of {size} numbers each, {classes}. The net: "
        f"{settings.net_name}, {settings.activation} units, {settings.output} output, "
        f"<b>{count(net.n_params)} parameters</b>. Its layers are {layers(net)}.",
        trained(run),
        f"Everything below is a mean over the first {count(len(run.x))} training examples, with damping "
        f"λ = {number(settings.damping)} where a matrix is inverted. The study is of "
        f"{listing(run.study.signals.names)}.",
    ]
    record = {
        "data": {
            "name": data.name,
            "training_examples": len(data.x_train),
            "test_examples": len(data.x_test),
            "inputs": math.prod(data.x_train.shape[1:]),
            "classes": data.n_classes,
        },
        "net": {
            "parameters": net.n_params,
            "layers": {name: list(shape) for name, shape in zip(net.names, net.shapes, strict=True)},
            "studied_parameters": F.shape[0],
            "studied_layers": list(F.names),
        },
        "training": run.history.records,
        "damping": run.study.damping,
    }
    return Chapter([Section("net", "The net and its data", parts)], record=record)


def trained(run: Run) -> str:
    """What training came to."""
    settings, last = run.settings, run.history.records[-1]
    if not settings.steps:
        return "It was not trained: this is the net as it was initialized."
    error = f", with {percent(last['test_error'])} of the test examples wrong" if "test_error" in last else ""
    return (
        f"It was trained by {settings.steps} steps of stochastic gradient descent with momentum on batches "
        f"of {min(settings.batch_size, len(run.dataset.x_train))}. It ended at a training loss of "
        f"{number(last['loss'])} and a test loss of {number(last['test_loss'])} nats per example{error}."
    )


def layers(net: Network) -> str:
    """The layers in words."""
    words = []
    convolutions = conv_layers(net)
    for layer, (name, (i, o)) in enumerate(zip(net.names, net.shapes, strict=True)):
        if conv := convolutions.get(layer):
            kh, kw = conv.windows.kernel
            words.append(f"{name} ({kh}×{kw}, {conv.c_in} → {o} maps)")
        else:
            words.append(f"{name} ({i - 1} → {o})")
    return listing(words)

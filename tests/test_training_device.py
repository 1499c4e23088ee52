"""Training on a device, with the stand-in: batches go there, and checkpoints move between devices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standin
from oracles import EXACT, close
from resumable import problem

import minikfac as mk
from minikfac import experiments, optim
from minikfac.experiments import Keep, checkpoint

OPTIMIZERS = {
    "SGD": lambda net: optim.SGD(net, 0.1, 0.9, averaging=0.9),
    "KFAC": lambda net: optim.KFAC(net, T1=2, T2=4, T3=3),
    "KFCPre": lambda net: optim.KFCPre(net, 0.1, Tf=3),
}


@pytest.fixture(autouse=True)
def cupy() -> Iterator[Any]:
    with standin.installed() as module:
        yield module


def go(name: str, device: bool, steps: int = 8, **options: Any) -> experiments.History:
    net, theta, data = problem()
    theta = mk.to_device(theta) if device else theta
    opt = OPTIMIZERS[name](net)
    return experiments.train(net, theta, opt, data, steps, 16, 0, 4, progress=False, **options)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_batches_go_where_the_parameters_are(name: str) -> None:
    host, device = go(name, False), go(name, True)
    assert isinstance(device.theta, standin.ndarray)
    close(mk.to_host(device.theta), host.theta, **EXACT)
    for key in ("loss", "test_loss", "test_error", "loss_average"):
        close(device[key], host[key], **EXACT)
    assert all(isinstance(value, float | int) for record in device.records for value in record.values())


def test_data_may_be_on_the_device_too() -> None:
    net, theta, data = problem()
    for part in ("x_train", "y_train", "x_test", "y_test"):
        object.__setattr__(data, part, mk.to_device(getattr(data, part)))
    opt = OPTIMIZERS["KFAC"](net)
    history = experiments.train(net, mk.to_device(theta), opt, data, 8, 16, 0, 4, progress=False)
    close(mk.to_host(history.theta), go("KFAC", False).theta, **EXACT)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_on_a_device_is_resumed_there_in_the_same_bits(tmp_path: Path, name: str) -> None:
    keep = Keep(tmp_path, existing="resume")
    go(name, True, 4, keep=keep)
    found, expected = go(name, True, 8, keep=keep), go(name, True, 8)
    assert isinstance(found.theta, standin.ndarray)
    assert found.theta.get().tobytes() == expected.theta.get().tobytes()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("first", [True, False])
def test_a_checkpoint_moves_between_devices(tmp_path: Path, name: str, first: bool) -> None:
    keep = Keep(tmp_path, existing="resume")
    go(name, first, 4, keep=keep)
    found = go(name, not first, 8, keep=keep)
    assert isinstance(found.theta, standin.ndarray) != first
    close(mk.to_host(found.theta), go(name, False).theta, **EXACT)


def test_a_checkpoint_of_a_device_is_read_where_there_is_none(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    history = go("KFAC", True, 4, keep=keep)
    found = checkpoint.load(keep.checkpoint)
    assert isinstance(found.theta, np.ndarray)
    assert found.theta.tobytes() == history.theta.get().tobytes()
    assert isinstance(found.state["factors"][0][0], np.ndarray)

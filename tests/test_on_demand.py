"""Packages whose names are imported when they are first used."""

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

NAMES = "linalg datasets fisher optim plots quality invariance reparam races interop tour"
PACKAGES = ["minikfac", *(f"minikfac.{name}" for name in NAMES.split())]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_is_there_and_listed(package):
    module = import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        value = getattr(module, name)
        assert getattr(value, "__name__", name).split(".")[-1] in (name, name.lower())
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("file", ["plots.memory", "datasets.mnist", "fisher.diagonal"])
def test_a_file_does_not_hide_the_function_of_its_name(file):
    package, name = file.split(".")
    for first in (f"import minikfac.{file}", f"from minikfac.{file} import {name}", ""):
        code = f"{first}\nfrom minikfac import {package}\nassert callable({package}.{name})"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(import_module(f"minikfac.{file}"), ModuleType)


def test_importing_the_package_loads_no_optimizer_and_no_matrix():
    code = "import minikfac, sys; print([name for name in sys.modules if name.startswith('minikfac.')])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "minikfac.network" in loaded
    assert not any(
        f"minikfac.{name}" in loaded for name in ("fisher", "optim", "plots", "datasets", "interop")
    )

"""The list of commands: what --help says of each, and that a command is imported when it is called."""

import subprocess
import sys
from importlib import import_module

import pytest

from minikfac import cli


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_says_of_a_command_how_its_help_begins(name):
    module = import_module(f"minikfac.cli.{name}")
    assert getattr(module, name).__doc__.splitlines()[0] == cli.first_line(name)


def loaded(arguments, folder):
    """Modules of the package that are loaded after a command, in a fresh interpreter."""
    code = f"""
import sys
from minikfac import cli
assert cli.run({arguments}) == 0
print("loaded", *(name for name in sys.modules if name.split(".")[0] == "minikfac"))"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder
    )
    return done.stdout.splitlines()[-1].split()[1:]


def test_help_imports_no_command(tmp_path):
    modules = loaded(["--help"], tmp_path)
    assert not {f"minikfac.cli.{name}" for name in cli.COMMANDS} & set(modules)


def test_training_loads_a_part_of_the_package(tmp_path):
    modules = loaded(["train", "--steps", "1"], tmp_path)
    assert "minikfac.optim.kfac" in modules and "minikfac.optim.adam" not in modules
    assert len(modules) <= 93


@pytest.mark.parametrize("module", ["minikfac", "minikfac.cli"])
def test_the_command_line_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("minikfac ")

"""Layers and output distributions can be imported from where a user looks for them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "line",
    [
        "from minikfac.layers import Dense",
        "from minikfac.outputs import Categorical",
        "import minikfac.layers; minikfac.layers.Dense",
        "from minikfac import layers, outputs; layers.Dense, outputs.Categorical",
    ],
)
def test_import_in_a_fresh_interpreter(line):
    assert subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stderr == ""


def test_both_paths_lead_to_one_class():
    from minikfac.layers import Dense

    from minikfac.network.layers import Dense as Same

    assert Dense is Same

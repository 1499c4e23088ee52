"""Execute notebooks and save what they print and draw: the only way in which their outputs are made.

    python tools/run_notebooks.py                          # all of tutorials/
    python tools/run_notebooks.py tutorials/02-backprop.ipynb

Each runs top to bottom in a kernel of its own, in the notebook's folder. One that raises is not saved.
What differs from run to run without meaning anything (times of execution, versions, ids) is left out.
"""

import argparse
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from a clean start and return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # Figures go into the notebook whatever backend the caller draws with, as tests do.
    client.execute(env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"})
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        **{key: value for key, value in notebook.metadata.items() if key == "widgets"},
    }
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of tutorials/ by default")
    for path in parser.parse_args().notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        started = time.perf_counter()
        nbformat.write(execute(path.resolve()), path)
        print(f"{path.name}: {time.perf_counter() - started:.0f} s, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

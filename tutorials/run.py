"""Execute notebooks and save what they print and draw: the only way in which their outputs are made.

    python tutorials/run.py                          # all of tutorials/
    python tutorials/run.py tutorials/02-backprop.ipynb

Each runs top to bottom in a kernel of its own, in the notebook's folder. One that raises is not saved.
What differs from run to run without meaning anything (times of execution, versions, ids) is left out, and
pictures are kept small: 256 colours each.
"""

import argparse
import base64
import io
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from a clean start and return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # Figures go into the notebook whatever backend the caller draws with, as tests do; sliders, which a
    # saved copy could not move, leave their place to a picture. On a busy machine BLAS on several threads
    # is ruinous for small products, and sums come out in another order.
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    client.execute(env=kept | threads | {"MINIKFAC_SAVED_RUN": "1"})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = tidied(cell.outputs)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def tidied(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join what was printed in pieces, and make pictures small."""
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        if merged and output.output_type == "stream" and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
            continue
        data = output.get("data", {})
        if "image/png" in data:
            data["image/png"] = small(data["image/png"])
        merged.append(output)
    return merged


def small(png: str) -> str:
    """A picture in base64 with a palette of its own, or as it is where that is no smaller."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        shrunk = io.BytesIO()
        flat = Image.new("RGB", picture.size, "white")
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
        flat.quantize(256, dither=Image.Dither.NONE).save(shrunk, "PNG", optimize=True)
    made = base64.b64encode(shrunk.getvalue()).decode()
    return made if len(made) < len(png) else png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of tutorials/ by default")
    for path in parser.parse_args().notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        started = time.perf_counter()
        nbformat.write(execute(path.resolve()), path)
        print(f"{path.name}: {time.perf_counter() - started:.0f} s, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

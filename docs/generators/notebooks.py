"""Run the notebooks and store what their cells show.

    python docs/generators/notebooks.py

From the project's folder, once `results/demo` is finished. Cells are run by this process, so that
nothing of Jupyter is needed.
"""

import ast
import base64
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import nbformat
from matplotlib.figure import Figure

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
DPI = 80
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def run_notebook(path: Path) -> Any:
    """Return a notebook with the outputs of its code cells, run in order in one name space.

    Raises whatever a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    names: dict[str, Any] = {"__name__": "__main__"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count, cell.outputs = number, _run_cell(cell.source, names, number)
    return notebook


def _run_cell(source: str, names: dict[str, Any], number: int) -> list[Any]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs = []
    if printed.getvalue():
        outputs.append(nbformat.v4.new_output("stream", name="stdout", text=printed.getvalue()))
    if value is not None:
        shown = {"data": _shown(value), "execution_count": number}
        outputs.append(nbformat.v4.new_output("execute_result", **shown))
    return outputs


def _shown(value: Any) -> dict[str, str]:
    """What Jupyter would show: a picture of a figure, a table of a frame, or the text."""
    found = {"text/plain": _ADDRESS.sub("", repr(value))}
    if isinstance(value, Figure):
        picture = io.BytesIO()
        value.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
        found["image/png"] = base64.b64encode(picture.getvalue()).decode("ascii")
    elif hasattr(value, "_repr_html_"):
        found["text/html"] = value._repr_html_()
    return found


def main() -> None:
    """Run all and write them."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(run_notebook(path), path)
        print(path.relative_to(NOTEBOOKS.parent))


if __name__ == "__main__":
    main()

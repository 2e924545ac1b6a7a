"""Executes notebooks, and stores what they show: `make notebooks`."""

import os
import pathlib
import re
import sys
from typing import Any

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def executed(path: pathlib.Path) -> Any:
    """A notebook with its outputs: without progress bars, warnings and times."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    settings = {"resources": {"metadata": {"path": str(path.parent)}}, "record_timing": False}
    nbclient.NotebookClient(notebook, timeout=600, **settings).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    return notebook


def shown(cell: Any) -> list[tuple[str, ...]]:
    """What a cell shows, as far as it is the same on every machine: kinds, and text without its numbers."""
    found = []
    for out in cell.get("outputs", []):
        if out.output_type == "stream":
            found.append(("text", _plain(out.text)))
        elif out.output_type in ("display_data", "execute_result"):
            kinds = sorted(out.data)
            text = "" if "image/png" in kinds else _plain(out.data.get("text/plain", ""))
            found.append((*kinds, text))
    return found


def _plain(text: str) -> str:
    """Words alone: numbers, folders and the widths of columns differ."""
    text = re.sub(r"/\S+", "PATH", text)
    return " ".join(re.findall(r"[A-Za-zα-ωΑ-Ω_]{2,}", re.sub(r"[-+]?\d[\d.,e+-]*", "#", text)))


def main() -> None:
    import nbformat

    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for path in [pathlib.Path(word) for word in sys.argv[1:]] or NOTEBOOKS:
        print(path.name, flush=True)
        notebook = executed(path)
        temporary = path.with_suffix(".tmp")
        nbformat.write(notebook, temporary)
        os.replace(temporary, path)


if __name__ == "__main__":
    main()

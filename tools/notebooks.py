"""Write a notebook for each example in percent format; with --check say which are out of date.

The notebooks hold no outputs: they are made from scripts that the tests run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples/notebooks"


def scripts() -> list[Path]:
    """Return the examples in percent format that need no arguments."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py"))}
    return [path for path, text in texts.items() if text.startswith("# %%") and "sys.argv" not in text]


def notebook(script: Path) -> str:
    """Return a script as a notebook, the same at every call."""
    made = jupytext.read(script, fmt="py:percent")
    made.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
    return str(jupytext.writes(made, fmt="ipynb")) + "\n"


def main() -> None:
    """Write the notebooks, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    wanted = {FOLDER / f"{script.stem}.ipynb": notebook(script) for script in scripts()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    stale += [path for path in FOLDER.glob("*.ipynb") if path not in wanted]
    if asked.check and stale:
        raise SystemExit(f"out of date: {', '.join(path.name for path in stale)}; run python tools/notebooks.py")
    if not asked.check:
        FOLDER.mkdir(exist_ok=True)
        for path in stale:
            path.write_text(wanted[path], encoding="utf-8") if path in wanted else path.unlink()


if __name__ == "__main__":
    main()

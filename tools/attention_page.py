"""Write docs/attention.*: the pages that explain attention, in Markdown and live, English and Chinese.

Run it from the root of a checkout: ``python tools/attention_page.py``; with ``--check`` it only says whether the pages
are out of date. Everything is made from ``tools/attention``: its texts, and the arrays of a trained detector, which
``--arrays`` computes anew from the checkpoint of the tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.attention import arrays, facts, figures, pages  # noqa: E402


def files() -> dict[str, str]:
    """Return every file below docs by its path."""
    kept = arrays.load()
    values, drawn = facts.facts(kept), figures.figures(kept)
    made = {f"images/attention-{name}.svg": svg for name, svg in drawn.items()}
    for language in pages.LANGUAGES:
        made[pages.name(language, ".md")] = pages.markdown(language, values)
        made[pages.name(language, ".html")] = pages.page(language, values, kept, drawn)
    return made


def main(given: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with status 1 if a page is out of date"
    )
    parser.add_argument("--arrays", action="store_true", help="compute the arrays anew from the detector of the tests")
    asked = parser.parse_args(given)
    if asked.arrays:
        np.savez_compressed(arrays.FILE, **arrays.make())
    late = []
    for name, text in files().items():
        path = root / "docs" / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            late.append(name)
            if not asked.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
    for name in late:
        print(f"docs/{name}", "is out of date: run python tools/attention_page.py" if asked.check else "written")
    return int(asked.check and bool(late))


if __name__ == "__main__":
    raise SystemExit(main())

"""What importing the package loads, and what it says where an extra is missing; seen from fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST = "import sys; loaded = lambda: {name.partition('.')[0] for name in sys.modules}; "


def run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_loads_nothing_and_its_core_no_model_library() -> None:
    core = "import attngraft.retrieve.index, attngraft.retrieve.stores.arrays"
    heavy = "print(sorted(loaded() & {'torch', 'transformers', 'lancedb', 'ultralytics', 'ir_measures', 'cv2'}))"
    assert run(f"{FIRST}import attngraft.retrieve; {heavy}") == "[]"
    assert run(f"{FIRST}{core}; {heavy}") == "['torch']"
    assert run(f"{FIRST}import attngraft.cli.retrieve; {heavy}") == "[]"
    assert run(f"{FIRST}import attngraft.retrieve.text; {heavy}") == "['torch']"


@pytest.mark.parametrize(
    ("package", "work", "extra"),
    [
        ("transformers", "retrieve.TextEncoder('folder')", "retrieve"),
        ("safetensors", "retrieve.Index.build(['x'], model=Letters(), path='my.index')", "retrieve"),
        ("lancedb", "retrieve.Index.build(['x'], model=Letters(), path='my.index', store='lance')", "retrieve-db"),
        ("gguf", "retrieve.TextEncoder('.', gguf_file='a.gguf')", "retrieve-gguf"),
    ],
)
def test_a_missing_extra_is_said_with_its_pip_line(tmp_path: Path, package: str, work: str, extra: str) -> None:
    letters = "from tests.retrieve.toy import Letters; " if "Letters" in work else ""
    code = (
        f"import os, sys; sys.modules['{package}'] = None; sys.path.insert(0, {str(ROOT)!r}); {letters}"
        f"os.chdir({str(tmp_path)!r}); from attngraft import retrieve\ntry: {work}\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    said = run(code)
    assert said.startswith("MissingExtraError this needs " + package)
    assert said.endswith(f"run: pip install 'attngraft[{extra}]'")

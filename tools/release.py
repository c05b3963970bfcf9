"""Build the wheel and the sdist, and try both in clean environments as a user would.

Needs `pip install build twine uv`. With --check only the version is compared in the four places where it stands.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from email import message_from_string
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = {
    "pyproject.toml": r'^version = "(.+)"$',
    "src/attngraft/__init__.py": r'^__version__ = "(.+)"$',
    "CITATION.cff": r"^version: (.+)$",
    "CHANGELOG.md": r"^## (\d+\.\d+\.\d+)",
}
NEEDED = (
    "look/page.html",
    "study/monitor.html",
    "study/reporting/templates/report.html.j2",
    "yolo/cfg/may.yaml",
    "py.typed",
)
"""Files beside the modules without which a command would fail."""
RUNS = ("--version", "list", "show mhsa", "train --help", "study --help", "graft yolo11n.yaml mhsa@P5 -o grafted.pt")
"""Commands that work without any extra."""
LACKS = {
    "study judge runs.csv baseline=a": "attngraft[study]",
    "diff a.pt base=b.pt": "attngraft[share]",
    "export model=yolo11n.yaml format=onnx": "attngraft[export]",
    "fit model=botnet50 data=flowers": "attngraft[fit]",
    "retrieve index docs.jsonl model=m": "attngraft[retrieve]",
}
"""Commands that need an extra, and the one that they have to name."""
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""Releases of Python that everything has to be installable with, from the oldest that is allowed."""
PINNED = ("--constraint", "constraints.txt")
OLDEST = ("--resolution", "lowest-direct")


def versions() -> dict[str, str]:
    """Return the version in each file that has it."""
    found = {}
    for file, pattern in VERSIONS.items():
        match = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        if match is None:
            raise SystemExit(f"{file} has no version")
        found[file] = match[1]
    return found


def relative_links(wheel: Path) -> list[str]:
    """Return the links of the README, as the package index would show it, that lead nowhere there."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = str(message_from_string(archive.read(name).decode()).get_payload())
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [link for link in re.findall(r"\]\(([^)]+)\)", prose) if not re.match(r"https?:|#", link)]


def missing(wheel: Path) -> list[str]:
    """Return the files beside the modules that a wheel lacks."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    return [file for file in NEEDED if f"attngraft/{file}" not in names]


def uninstallable() -> list[str]:
    """Return what cannot be resolved: what `make` installs on any Python, and the oldest versions on the oldest."""
    wrong = []
    tries = [(python, extra, PINNED) for python in PYTHONS for extra in ("study", "dev")]
    for python, extra, how in [*tries, (PYTHONS[0], "dev", OLDEST)]:
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", python, *how]
        done = subprocess.run(
            [*command, "--extra", extra, "pyproject.toml"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            wrong.append(f"[{extra}] with {how[1]} cannot be installed with Python {python}: {done.stderr}")
    return wrong


def attempt(python: Path, words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the package in an environment."""
    with tempfile.TemporaryDirectory() as empty:
        Path(empty, "runs.csv").write_text("arm,seed,AP\na,0,1\na,1,2\na,2,1\nb,0,2\nb,1,3\nb,2,2\n")
        Path(empty, "docs.jsonl").write_text('{"_id": "1", "text": "a"}\n')
        command = [str(python), "-m", "attngraft", *words.split()]
        return subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False)


def smoke(file: Path, extra: str = "") -> list[str]:
    """Install a file into a clean environment, and return what does not work there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin/python")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, f"{file}{extra}"], check=True)
        wrong = [f"{words}: {done.stderr}" for words in RUNS if (done := attempt(python, words)).returncode]
        for words, named in () if extra else LACKS.items():
            done = attempt(python, words)
            if not done.returncode or named not in done.stderr or "Traceback" in done.stderr:
                wrong.append(f"{words} should name {named}: {done.stdout}{done.stderr}")
        if extra and (done := attempt(python, "study judge runs.csv baseline=a")).returncode:
            wrong.append(f"study judge: {done.stderr}")
    return wrong


def main() -> None:
    """Compare versions, build, and try what was built."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare the versions")
    asked = parser.parse_args()
    found = versions()
    if len(set(found.values())) > 1:
        raise SystemExit(f"the version differs: {found}")
    if asked.check:
        return
    if wrong := uninstallable():
        raise SystemExit("\n".join(wrong))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "build", "--outdir", folder, str(ROOT)], check=True)
        wheel, sdist = next(Path(folder).glob("*.whl")), next(Path(folder).glob("*.tar.gz"))
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)], check=True)
        wrong = [f"the wheel lacks {file}" for file in missing(wheel)]
        wrong += [f"the README's link {link} leads nowhere on the index" for link in relative_links(wheel)]
        wrong += smoke(wheel) + smoke(sdist) + smoke(wheel, "[study]")
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(f"{', '.join(sorted({*found.values()}))} can be released")


if __name__ == "__main__":
    main()

"""Use an accelerator that is at hand for a few minutes only: tests, kernels, detectors, and probes for what is left.

    python tools/gpu.py --minutes 12
    python tools/gpu.py --device cpu --quick      the same in a small setting, under a minute; CI runs it

Stages stand in order of worth. Each has its share of the time, and what one leaves goes to the next; a stage that
overruns is stopped, and keeps what it wrote. What is found lands in benchmarks/results and studies with the device in
its name, and gpu-DEVICE.json says how each stage ended. CONTRIBUTING says how to bring packages without a network.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = "attngraft.gpu/1"
PACKAGES = Path(__file__).with_suffix(".txt")
GRACE = 5.0
"""Seconds from being told to end to being ended."""

SHOWN = 300


@dataclass(frozen=True)
class Stage:
    """One part of the work.

    Attributes:
        name: What the summary calls it.
        share: Of the time that is left, by the shares of the stages that are left.
        command: Words after ``python``.
    """

    name: str
    share: float
    command: list[str]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        name: The stage.
        ended: ``"finished"``, ``"failed"``, ``"stopped"`` where it overran, or ``"not started"``.
        seconds: Time that it took.
        budget: Seconds that it had.
        command: What ran.
        last_line: The last that it printed, its first `SHOWN` signs.
    """

    name: str
    ended: str
    seconds: float
    budget: float
    command: list[str]
    last_line: str


def stages(device: str, output: Path, processor: str, *, quick: bool) -> list[Stage]:
    """Return the stages in order of worth.

    Args:
        device: What is measured.
        output: Where to.
        processor: In names, what trains the probes: so small a detector is trained on the processor's cores.
        quick: Whether the setting is small.
    """
    results, probes = str(output / "benchmarks" / "results"), str(output / "studies" / f"probes-{processor}")
    some = ["--quick"] if quick else []
    # Another release of PyTorch may warn of other things, which is no failure here.
    tests = ["-m", "pytest", "-m", "cuda", "tests/cuda", "-W", "default"] + (
        ["-k", "(kernel and 7) or training"] if quick else []
    )
    mhsa = ["benchmarks/mhsa.py", "--device", device, "--dtype", "bfloat16", "--results", results, *some]
    detectors = ["benchmarks/detectors.py", "--device", device, "--backends", "eager", "--results", results, *some]
    small = ["se", "probes=reach", "epochs=1", "images=16", "parallel=1"]
    whole = ["mhsa", "coord_attention", "se", "ema", "probes=relation,reach", f"parallel={os.cpu_count()}"]
    return [
        Stage("tests", 4, tests),
        Stage("kernels", 3, [*mhsa, "--seconds", "0.3" if quick else "2"]),
        Stage("detectors", 2.5, detectors),
        Stage("probes", 2.5, ["-m", "attngraft", "probe", *(small if quick else whole), "seeds=1", "-o", probes]),
    ]


def run(stage: Stage, budget: float, device: str, logs: Path) -> Outcome:
    """Run a stage in a process group of its own, which ends with its time."""
    start = time.monotonic()
    log = logs / f"{stage.name}.log"
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "YOLO_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    environment |= {"ATTNGRAFT_TEST_DEVICE": device}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *stage.command],
            cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            ended = "failed" if process.wait(budget) else "finished"
        except subprocess.TimeoutExpired:
            ended = "stopped"
        finally:
            end(process)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    seconds = round(time.monotonic() - start, 1)
    return Outcome(stage.name, ended, seconds, round(budget, 1), stage.command, lines[-1][:SHOWN] if lines else "")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started: in peace at first, so that records are closed."""
    for number, grace in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            continue


def install(wheels: Path) -> None:
    """Install the packages of gpu.txt that are missing from a folder of wheels; what is there stays as it is.

    Raises:
        SystemExit: If there is no such folder, or pip does not install them.
    """
    if not wheels.is_dir():
        sys.exit(f"gpu.py needs --wheels to be a folder of wheels, and there is no folder {wheels}")
    lines = (line.split("#")[0].strip() for line in PACKAGES.read_text(encoding="utf-8").splitlines())
    missing = [line for line in lines if line and not installed(re.split(r"[=<>!]", line)[0])]
    if missing:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--find-links", wheels]
        if subprocess.run([*pip, *missing], check=False).returncode:
            sys.exit(
                f"pip did not install from {wheels}; what it says is above. The wheels must be those of "
                f"{PACKAGES.name}, downloaded for Python {sys.version_info[0]}.{sys.version_info[1]}"
            )


def installed(package: str) -> bool:
    """Return whether a distribution is there."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def work(options: argparse.Namespace, output: Path) -> list[Outcome]:
    """Run the stages within the time, and write the summary after each."""
    sys.path.insert(0, str(ROOT / "src"))
    from attngraft.measure import environment

    try:
        where = environment(options.device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        said = str(error).splitlines()[0]
        sys.exit(f"gpu.py cannot use the device {options.device}: {said} (--device cpu --quick tries the script)")
    slug = in_names(where.device)
    results, logs = output / "benchmarks" / "results", output / "runs" / f"gpu-{slug}"
    try:
        for folder in (results, logs):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"gpu.py cannot write in {output} ({error.strerror}); name another folder with --output")
    finish = time.monotonic() + 60 * options.minutes
    waiting = stages(options.device, output, in_names(environment().device), quick=options.quick)
    outcomes: list[Outcome] = []
    while waiting:
        left = finish - time.monotonic()
        budget = left * waiting[0].share / sum(stage.share for stage in waiting)
        stage = waiting.pop(0)
        tried = budget > GRACE
        outcomes.append(
            run(stage, budget - GRACE, options.device, logs)
            if tried
            else Outcome(stage.name, "not started", 0.0, max(0.0, round(budget, 1)), stage.command, "")
        )
        print(
            f"{stage.name}: {outcomes[-1].ended} after {outcomes[-1].seconds} s: {outcomes[-1].last_line}", flush=True
        )
        record = {"schema": SCHEMA, "quick": options.quick, "minutes": options.minutes, "environment": asdict(where)}
        record["stages"] = [asdict(outcome) for outcome in outcomes]
        (results / f"gpu-{slug}.json").write_text(json.dumps(record, indent=1, default=dict) + "\n", encoding="utf-8")
    return outcomes


def in_names(device: str) -> str:
    """Return the name of a device as it stands in names of files."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def positive(text: str) -> float:
    """Read a number of minutes.

    Raises:
        ValueError: If it is none above 0.
    """
    if not 0 < (number := float(text)) < math.inf:
        raise ValueError
    return number


def main() -> int:
    """Run what the words say, and exit with status 1 if a stage failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=positive, default=12.0, help="for everything (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="a torch device (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a small setting, which writes to runs/gpu")
    parser.add_argument(
        "--output", type=Path, help="folder for benchmarks/, studies/ and runs/ (default: the repository)"
    )
    parser.add_argument("--wheels", type=Path, help="folder of wheels that missing packages are installed from")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stage ends with us
    if options.wheels:
        install(options.wheels)
    output = options.output or (ROOT / "runs" / "gpu" if options.quick else ROOT)
    return int(any(outcome.ended == "failed" for outcome in work(options, output.resolve())))


if __name__ == "__main__":
    sys.exit(main())

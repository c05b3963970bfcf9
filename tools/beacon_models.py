"""Train the two small detectors whose maps the tests look into, and write their weights to ``tests/maps/fixtures``.

    python tools/beacon_models.py [--device cpu]

On beacons it is known where the cue of a class is: under the rule ``global`` in a corner far away, under ``local`` on
the object itself. A map that is true must show it. The weights are written as plain tensors in half precision, about
310 KB each; `tests.maps.beacons` builds the model from its recipe and loads them. Two minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from attngraft.cli.demo import ARM, BASE, EPOCHS, TRAINING
from attngraft.data import beacons
from attngraft.yolo import YOLO

FIXTURES = Path(__file__).resolve().parents[1] / "tests" / "maps" / "fixtures"
SEED = 0


def train(rule: str, folder: Path, device: str) -> dict[str, torch.Tensor]:
    """Train on one rule and return the weights of the last epoch's average, as Ultralytics saves them."""
    data = beacons(folder / rule, rule=rule)  # type: ignore[arg-type]
    model = YOLO(f"{BASE}+{ARM}")
    model.train(
        data=str(data), project=str(folder), name=f"run-{rule}", epochs=EPOCHS, seed=SEED, device=device, plots=False,
        **TRAINING,
    )  # fmt: skip
    trained = YOLO(folder / f"run-{rule}" / "weights" / "last.pt")
    return {name: tensor.half().cpu() for name, tensor in trained.model.state_dict().items()}


def main() -> None:
    """Train both and write their files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="Ultralytics' device, such as cpu or 0")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for rule in ("global", "local"):
            torch.save(train(rule, Path(folder), arguments.device), FIXTURES / f"beacons-{rule}.pt")


if __name__ == "__main__":
    main()

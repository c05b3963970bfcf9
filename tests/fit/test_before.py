"""Files that an earlier version wrote load, predict and continue as they did with it.

``before/`` was written at 74c5ded: ``tiny_classifier`` of width 2 on the data of the fixture ``colours``, four epochs,
interrupted in the third. The expected numbers are those of the same version.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from attngraft.fit import Fit, load

BEFORE = Path(__file__).parent / "before"


def test_a_checkpoint_of_before_gives_the_logits_that_it_gave() -> None:
    trained = load(BEFORE / "last.ckpt")
    assert trained.classes == ("blue", "green", "red")
    logits = trained.learner.network(torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16))[0]
    assert logits.tolist() == pytest.approx([0.48539987206459045, 0.5549403429031372, -0.4556851387023926], abs=1e-6)


def test_a_run_of_before_resumes_to_the_weights_that_it_would_have_had(colours: Path) -> None:
    shutil.copytree(BEFORE, "run")
    result = Fit.resume("run", data=str(colours)).run()
    assert result.last["epoch"] == 4
    assert result.best["epoch"] == 1  # the folder has another name now; its best weights are still known
    assert not (result.folder / "best.ckpt").exists()
    bias = torch.load(result.folder / "last.ckpt", weights_only=True)["state_dict"]["network.fc.bias"]
    assert bias.tolist() == pytest.approx([0.6647966504096985, 0.4758438467979431, -0.3077351450920105], abs=1e-6)

"""What W&B and the other loggers that Ultralytics speaks to call a training run.

Ultralytics hands them the folder of the run, split in two, as the names of the project and of the run, and these go
before W&B's own environment variables. So the names are exchanged for those of the study while loggers start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class LoggerNames:
    """Names of a run in loggers.

    Args:
        project: The project; None leaves what Ultralytics says.
        name: The run; None leaves what Ultralytics says.
    """

    project: str | None = None
    name: str | None = None
    _before: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> LoggerNames:
        """Read the variables by which W&B takes them, ``WANDB_PROJECT`` and ``WANDB_NAME``."""
        return cls(environment.get("WANDB_PROJECT"), environment.get("WANDB_NAME"))

    def callbacks(self) -> dict[str, Any]:
        """Return what to hang on Ultralytics' events: loggers start between these two."""
        return {"on_pretrain_routine_start": self._exchange, "on_train_start": self._restore}

    def _exchange(self, trainer: Any) -> None:
        for key in ("project", "name"):
            if (wanted := getattr(self, key)) is not None:
                self._before[key] = getattr(trainer.args, key)
                setattr(trainer.args, key, wanted)

    def _restore(self, trainer: Any) -> None:
        """Put the folder's names back, which checkpoints keep."""
        for key, value in self._before.items():
            setattr(trainer.args, key, value)
        self._before.clear()

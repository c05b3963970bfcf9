"""The random problems that evaluation is tried on."""

from tests.coco.problems import problem as problem

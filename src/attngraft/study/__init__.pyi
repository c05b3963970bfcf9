from .plan import Plan as Plan
from .study import Study as Study

__all__ = ["Plan", "Study"]

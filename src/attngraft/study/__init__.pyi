from .bootstrap import METRICS as METRICS
from .bootstrap import Resampled as Resampled
from .bootstrap import average_precision as average_precision
from .bootstrap import resample as resample
from .bootstrap import resample_breakdown as resample_breakdown
from .bootstrap import two_level as two_level
from .error_types import ErrorTypes as ErrorTypes
from .evaluator import Evaluation as Evaluation
from .evaluator import evaluate as evaluate
from .evaluator import summarize as summarize
from .matches import Matches as Matches
from .plan import Plan as Plan
from .search import Search as Search
from .sequential import Looks as Looks
from .statistics import Estimate as Estimate
from .statistics import estimate as estimate
from .statistics import power as power
from .statistics import seeds_for as seeds_for
from .study import Study as Study
from .verdict import Criterion as Criterion
from .verdict import Verdict as Verdict
from .verdict import breakdown as breakdown
from .verdict import compare as compare
from .verdict import judge as judge

__all__ = [
    "METRICS",
    "Criterion",
    "ErrorTypes",
    "Estimate",
    "Evaluation",
    "Looks",
    "Matches",
    "Plan",
    "Resampled",
    "Search",
    "Study",
    "Verdict",
    "average_precision",
    "breakdown",
    "compare",
    "estimate",
    "evaluate",
    "judge",
    "power",
    "resample",
    "resample_breakdown",
    "seeds_for",
    "summarize",
    "two_level",
]

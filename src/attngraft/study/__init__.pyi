from ._coco import METRICS as METRICS
from ._coco import ErrorTypes as ErrorTypes
from ._coco import Evaluation as Evaluation
from ._coco import Matches as Matches
from ._coco import average_precision as average_precision
from ._coco import evaluate as evaluate
from ._coco import summarize as summarize
from .judging.bootstrap import Resampled as Resampled
from .judging.bootstrap import resample as resample
from .judging.bootstrap import resample_breakdown as resample_breakdown
from .judging.bootstrap import two_level as two_level
from .judging.criterion import Criterion as Criterion
from .judging.judge import Paired as Paired
from .judging.judge import breakdown as breakdown
from .judging.judge import compare as compare
from .judging.judge import judge as judge
from .judging.sequential import Looks as Looks
from .judging.statistics import Estimate as Estimate
from .judging.statistics import estimate as estimate
from .judging.statistics import power as power
from .judging.statistics import seeds_for as seeds_for
from .judging.verdict import Verdict as Verdict
from .plan import Plan as Plan
from .search import Search as Search
from .study import Study as Study

__all__ = [
    "METRICS",
    "Criterion",
    "ErrorTypes",
    "Estimate",
    "Evaluation",
    "Looks",
    "Matches",
    "Paired",
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

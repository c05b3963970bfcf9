from .lightning import Stopped as Stopped
from .options import Options as Options
from .options import schema as schema
from .predicting import predict as predict
from .trained import Trained as Trained
from .trained import load as load
from .training import Fit as Fit
from .training import Result as Result
from .training import validate as validate

__all__ = ["Fit", "Options", "Result", "Stopped", "Trained", "load", "predict", "schema", "validate"]

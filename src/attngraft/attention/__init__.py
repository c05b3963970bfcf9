"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention.eca import ECA
from attngraft.attention.ema import EMA
from attngraft.attention.focused_linear import FocusedLinearAttention
from attngraft.attention.mlca import MLCA
from attngraft.attention.msda import MSDA
from attngraft.attention.polarized import PolarizedSelfAttention
from attngraft.attention.se import SE

__all__ = [
    "ECA",
    "EMA",
    "MLCA",
    "MSDA",
    "SE",
    "Attention",
    "FocusedLinearAttention",
    "Mechanism",
    "PolarizedSelfAttention",
    "mechanism",
    "mechanisms",
    "names",
    "register",
]

"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, info, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention._kernels import kernel
from attngraft.attention.eca import ECA
from attngraft.attention.mhsa import MHSA
from attngraft.attention.se import SE

__all__ = [
    "ECA",
    "MHSA",
    "SE",
    "Attention",
    "Mechanism",
    "info",
    "kernel",
    "mechanism",
    "mechanisms",
    "names",
    "register",
]

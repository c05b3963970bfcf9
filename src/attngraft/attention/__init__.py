"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, info, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention._kernels import kernel
from attngraft.attention.aifi import AIFIEncoder
from attngraft.attention.area_attention import AreaAttention
from attngraft.attention.eca import ECA
from attngraft.attention.mha import MHA
from attngraft.attention.mhsa import MHSA
from attngraft.attention.psa_attention import PSAAttention
from attngraft.attention.psa_block import PositionSensitiveBlock
from attngraft.attention.se import SE

__all__ = [
    "ECA",
    "MHA",
    "MHSA",
    "SE",
    "AIFIEncoder",
    "AreaAttention",
    "Attention",
    "Mechanism",
    "PSAAttention",
    "PositionSensitiveBlock",
    "info",
    "kernel",
    "mechanism",
    "mechanisms",
    "names",
    "register",
]

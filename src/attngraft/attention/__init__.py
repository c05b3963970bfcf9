"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, info, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention._kernels import kernel
from attngraft.attention.aifi import AIFIEncoder
from attngraft.attention.area_attention import AreaAttention
from attngraft.attention.bra import BRA
from attngraft.attention.cab import CAB
from attngraft.attention.dat import DAT
from attngraft.attention.eca import ECA
from attngraft.attention.hab import HAB
from attngraft.attention.irmb import IRMB
from attngraft.attention.mha import MHA
from attngraft.attention.mhsa import MHSA
from attngraft.attention.noop import Noop
from attngraft.attention.ocab import OCAB
from attngraft.attention.plain_conv import PlainConv
from attngraft.attention.psa_attention import PSAAttention
from attngraft.attention.psa_block import PositionSensitiveBlock
from attngraft.attention.se import SE

__all__ = [
    "BRA",
    "CAB",
    "DAT",
    "ECA",
    "HAB",
    "IRMB",
    "MHA",
    "MHSA",
    "OCAB",
    "SE",
    "AIFIEncoder",
    "AreaAttention",
    "Attention",
    "Mechanism",
    "Noop",
    "PSAAttention",
    "PlainConv",
    "PositionSensitiveBlock",
    "info",
    "kernel",
    "mechanism",
    "mechanisms",
    "names",
    "register",
]

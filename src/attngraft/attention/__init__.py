"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention.bra import BRA
from attngraft.attention.cab import CAB
from attngraft.attention.dat import DAT
from attngraft.attention.eca import ECA
from attngraft.attention.hab import HAB
from attngraft.attention.irmb import IRMB
from attngraft.attention.ocab import OCAB
from attngraft.attention.se import SE

__all__ = [
    "BRA",
    "CAB",
    "DAT",
    "ECA",
    "HAB",
    "IRMB",
    "OCAB",
    "SE",
    "Attention",
    "Mechanism",
    "mechanism",
    "mechanisms",
    "names",
    "register",
]

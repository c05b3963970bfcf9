"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention.caa import CAA
from attngraft.attention.cbam import CBAM
from attngraft.attention.coord_attention import CoordAttention
from attngraft.attention.cpca import CPCA
from attngraft.attention.eca import ECA
from attngraft.attention.ela import ELA
from attngraft.attention.epsa import EPSA
from attngraft.attention.gam import GAM
from attngraft.attention.global_context import GlobalContext
from attngraft.attention.lsk import LSK
from attngraft.attention.lska import LSKA
from attngraft.attention.nam import NAM
from attngraft.attention.non_local import NonLocal
from attngraft.attention.scsa import SCSA
from attngraft.attention.se import SE
from attngraft.attention.shuffle_attention import ShuffleAttention
from attngraft.attention.simam import SimAM
from attngraft.attention.triplet import TripletAttention

__all__ = [
    "CAA",
    "CBAM",
    "CPCA",
    "ECA",
    "ELA",
    "EPSA",
    "GAM",
    "LSK",
    "LSKA",
    "NAM",
    "SCSA",
    "SE",
    "Attention",
    "CoordAttention",
    "GlobalContext",
    "Mechanism",
    "NonLocal",
    "ShuffleAttention",
    "SimAM",
    "TripletAttention",
    "mechanism",
    "mechanisms",
    "names",
    "register",
]

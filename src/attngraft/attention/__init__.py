"""The zoo: one mechanism a file, each a plain `torch.nn.Module` that knows no detector."""

from attngraft._core.registry import Mechanism, info, mechanism, mechanisms, names, register
from attngraft.attention._base import Attention
from attngraft.attention._kernels import KernelChoice, chosen_kernel, kernel, taken_kernels
from attngraft.attention._rows import Mixture
from attngraft.attention.aifi import AIFIEncoder
from attngraft.attention.area_attention import AreaAttention
from attngraft.attention.bam import BAM
from attngraft.attention.bra import BRA
from attngraft.attention.caa import CAA
from attngraft.attention.cab import CAB
from attngraft.attention.cafm import CAFM
from attngraft.attention.cascaded_group import CascadedGroupAttention
from attngraft.attention.cbam import CBAM
from attngraft.attention.coord_attention import CoordAttention
from attngraft.attention.cpca import CPCA
from attngraft.attention.criss_cross import CrissCrossAttention
from attngraft.attention.dat import DAT
from attngraft.attention.eca import ECA
from attngraft.attention.ela import ELA
from attngraft.attention.ema import EMA
from attngraft.attention.epsa import EPSA
from attngraft.attention.focused_linear import FocusedLinearAttention
from attngraft.attention.gam import GAM
from attngraft.attention.global_context import GlobalContext
from attngraft.attention.grn import GRN
from attngraft.attention.hab import HAB
from attngraft.attention.halo import HaloAttention
from attngraft.attention.irmb import IRMB
from attngraft.attention.lsk import LSK
from attngraft.attention.lska import LSKA
from attngraft.attention.mala import MALA
from attngraft.attention.mha import MHA
from attngraft.attention.mhsa import MHSA
from attngraft.attention.mlca import MLCA
from attngraft.attention.msda import MSDA
from attngraft.attention.msla import MSLA
from attngraft.attention.nam import NAM
from attngraft.attention.non_local import NonLocal
from attngraft.attention.noop import Noop
from attngraft.attention.ocab import OCAB
from attngraft.attention.plain_conv import PlainConv
from attngraft.attention.pola import PolaLinearAttention
from attngraft.attention.polarized import PolarizedSelfAttention
from attngraft.attention.psa_attention import PSAAttention
from attngraft.attention.psa_block import PositionSensitiveBlock
from attngraft.attention.rfa import RFAConv
from attngraft.attention.rfcbam import RFCBAMConv
from attngraft.attention.scsa import SCSA
from attngraft.attention.se import SE
from attngraft.attention.shsa import SHSA
from attngraft.attention.shuffle_attention import ShuffleAttention
from attngraft.attention.simam import SimAM
from attngraft.attention.sk import SelectiveKernel
from attngraft.attention.triplet import TripletAttention
from attngraft.attention.tssa import TSSA

__all__ = [
    "BAM",
    "BRA",
    "CAA",
    "CAB",
    "CAFM",
    "CBAM",
    "CPCA",
    "DAT",
    "ECA",
    "ELA",
    "EMA",
    "EPSA",
    "GAM",
    "GRN",
    "HAB",
    "IRMB",
    "LSK",
    "LSKA",
    "MALA",
    "MHA",
    "MHSA",
    "MLCA",
    "MSDA",
    "MSLA",
    "NAM",
    "OCAB",
    "SCSA",
    "SE",
    "SHSA",
    "TSSA",
    "AIFIEncoder",
    "AreaAttention",
    "Attention",
    "CascadedGroupAttention",
    "CoordAttention",
    "CrissCrossAttention",
    "FocusedLinearAttention",
    "GlobalContext",
    "HaloAttention",
    "KernelChoice",
    "Mechanism",
    "Mixture",
    "NonLocal",
    "Noop",
    "PSAAttention",
    "PlainConv",
    "PolaLinearAttention",
    "PolarizedSelfAttention",
    "PositionSensitiveBlock",
    "RFAConv",
    "RFCBAMConv",
    "SelectiveKernel",
    "ShuffleAttention",
    "SimAM",
    "TripletAttention",
    "chosen_kernel",
    "info",
    "kernel",
    "mechanism",
    "mechanisms",
    "names",
    "register",
    "taken_kernels",
]

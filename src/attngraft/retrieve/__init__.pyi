from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .images import ImageEncoder as ImageEncoder
from .index import Hit as Hit
from .index import Index as Index
from .items import Item as Item
from .items import read_items as read_items
from .keys import Encoder as Encoder
from .keys import Keys as Keys
from .mining import Mined as Mined
from .mining import Mining as Mining
from .mining import mine as mine
from .rank import HeadVote as HeadVote
from .rank import Neighbours as Neighbours
from .rank import Ranked as Ranked
from .rank import fuse as fuse
from .rank import vote as vote
from .spaces import HeadSpaces as HeadSpaces
from .stores import Store as Store
from .text import TextEncoder as TextEncoder

__all__ = [
    "Encoder",
    "Evaluation",
    "HeadSpaces",
    "HeadVote",
    "Hit",
    "ImageEncoder",
    "Index",
    "Item",
    "Keys",
    "Mined",
    "Mining",
    "Neighbours",
    "Ranked",
    "Store",
    "TextEncoder",
    "evaluate",
    "fuse",
    "mine",
    "read_items",
    "vote",
]

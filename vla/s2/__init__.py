"""The slow system: it looks, reads and speaks, and leaves latents behind for the fast one.

Importing this package registers the conv tower with the Auto classes of `transformers`, so that
`AutoModelForImageTextToText.from_pretrained` loads a saved small S2 like any other model.
"""

from vla.s2 import tower as _tower
from vla.s2.thought import Thought

_tower.register()

__all__ = ["Thought"]

"""Action heads: how tokens of the trunk become a chunk of actions. All share the interface of `base.ActionHead`."""

from vla.s1.heads.base import ActionHead, Decode
from vla.s1.heads.flow import FlowHead
from vla.s1.heads.l1 import L1Head

HEADS: dict[str, type[ActionHead]] = {"l1": L1Head, "flow": FlowHead}

__all__ = ["HEADS", "ActionHead", "Decode", "FlowHead", "L1Head"]

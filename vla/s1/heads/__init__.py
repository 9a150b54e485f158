"""Action heads: how tokens of the trunk become a chunk of actions. All share the interface of `base.ActionHead`."""

from __future__ import annotations

from vla.actions.fast import FastTokens
from vla.errors import UserError
from vla.s1.heads.base import ActionHead, Decode
from vla.s1.heads.bins import BinsHead
from vla.s1.heads.fast import FastHead
from vla.s1.heads.flow import FlowHead
from vla.s1.heads.l1 import L1Head

HEADS: dict[str, type[ActionHead]] = {"l1": L1Head, "flow": FlowHead, "bins": BinsHead, "fast": FastHead}


def make_head(
    name: str,
    action_size: int,
    horizon: int,
    width: int,
    action_tokens: FastTokens | None = None,
    flow_steps: int = 5,
) -> ActionHead:
    """The head of that name. flow_steps: for head flow.

    Raises UserError if action tokens are missing, of other chunks, or not for this head.
    """
    if HEADS[name] is not FastHead:
        if action_tokens is not None:
            raise UserError(f"S1: action tokens are for head fast, this one has head {name}")
        if HEADS[name] is FlowHead:
            return FlowHead(action_size, horizon, width, flow_steps)
        return HEADS[name](action_size, horizon, width)
    if action_tokens is None:
        raise UserError("S1: head fast needs action tokens, fitted to the actions it is trained on")
    fitted, wanted = (action_tokens.horizon, action_tokens.action_size), (horizon, action_size)
    if fitted != wanted:
        raise UserError(f"S1: the action tokens are fitted to chunks of shape {fitted}, S1 makes {wanted}")
    return FastHead(action_size, horizon, width, action_tokens)


__all__ = ["HEADS", "ActionHead", "BinsHead", "Decode", "FastHead", "FlowHead", "L1Head", "make_head"]

"""A VLM asked about a picture in its own way: its template, its crops, its generation, and none of our queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from vla.errors import UserError
from vla.s2.adapters import family_of
from vla.s2.hub import load_vlm, version_of
from vla.s2.prompting import Prompter


class Chat:
    """where: a hub id or a folder. version: of its weights. UserError as `load_vlm` has it, and for the small S2 of a
    policy, which knows no JSON and few words.
    """

    def __init__(self, where: str, device: str = "cpu") -> None:
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        model, processor = load_vlm(where, dtype)
        family = family_of(model.config, where)
        if family.bare:
            raise UserError(f"VLM {where}: this is the small S2 of a policy; give the policy with --policy")
        local = Path(where).expanduser()
        commit = getattr(model.config, "_commit_hash", None)
        self.version = version_of(local) if local.is_dir() else str(commit or "unknown")
        self._model: Any = model.to(device).eval()
        self._prompter = Prompter(processor, family, where)

    @torch.inference_mode()
    def ask(self, picture: UInt8[np.ndarray, "H W 3"], question: str, most: int = 512) -> str:
        """The answer, greedily decoded, of at most so many tokens."""
        inputs = self._prompter.whole(torch.from_numpy(picture), question)
        inputs = {name: value.to(self._model.device) for name, value in inputs.items()}
        for name, value in inputs.items():
            if value.is_floating_point():
                inputs[name] = value.to(self._model.dtype)
        tokenizer = self._prompter.tokenizer
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        said = self._model.generate(**inputs, max_new_tokens=most, do_sample=False, pad_token_id=padding)
        return str(tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

"""`vla quantize`: the same policy, with S2's weights in int8 whenever it is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from vla.errors import UserError
from vla.tandem import ENGINE_FILE, TandemPolicy, weights_digest


def quantize(policy: str | Path, out: Path) -> str:
    """Write the policy to `out`; says how large S2's weights are in memory before and after.

    The files stay as they are (bfloat16): rounding them to int8 is done anew at every load, always the same.
    Raises UserError if it is an int8 policy already, cannot be read or written, or torchao is not installed.
    """
    tandem = TandemPolicy.from_pretrained(policy, engine=False)
    if tandem.s2.config.int8:
        raise UserError(f"quantize: the S2 of {policy} is an int8 one already")
    before = weight_bytes(tandem.s2)
    tandem.s2.config = replace(tandem.s2.config, int8=True)
    engine, of = Path(policy) / ENGINE_FILE, weights_digest(Path(policy))
    made = engine.read_bytes() if engine.is_file() else None
    tandem.save_pretrained(out)
    after = weight_bytes(TandemPolicy.from_pretrained(out).s2)
    said = f"S2's weights: {before / 1e6:.1f} MB in float32, {after / 1e6:.1f} MB in int8 ({after / before:.0%})"
    if made is None:
        return said
    if weights_digest(out) != of:
        return f"{said}; S1 was rounded to bfloat16, so make its {ENGINE_FILE} anew with vla export"
    (out / ENGINE_FILE).write_bytes(made)
    return said


def weight_bytes(model: nn.Module) -> int:
    """Of all weights in memory, scales of quantised ones included."""
    total = 0
    for parameter in model.parameters():
        parts = [value for value in vars(parameter).values() if hasattr(value, "nbytes")]
        total += sum(part.nbytes for part in parts) if parts else parameter.nbytes
    return total

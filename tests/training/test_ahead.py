"""Batches that other processes make: the same ones, in the same order."""

import os
from itertools import islice

import pytest
import torch

from vla.errors import UserError
from vla.training.ahead import made_ahead


def batch(step: int) -> dict:
    if step == 13:
        raise UserError("frame 13 is damaged")
    x = torch.randn(3, generator=torch.Generator().manual_seed(step))
    return {"x": x, "words": [f"step {step}"], "maker": os.getpid()}


def test_they_are_what_one_process_makes_in_order():
    made = list(made_ahead(batch, range(3, 12), workers=2))
    assert [one["words"] for one in made] == [[f"step {step}"] for step in range(3, 12)]
    assert all(one["x"].equal(batch(step)["x"]) for step, one in zip(range(3, 12), made, strict=True))
    makers = {one["maker"] for one in made}
    assert len(makers) == 2 and os.getpid() not in makers


def test_there_need_be_no_last_step():
    assert len(list(islice(made_ahead(batch, range(14, 2**62), workers=1), 5))) == 5


def test_bad_data_is_said_in_one_line():
    with pytest.raises(UserError) as told:
        list(made_ahead(batch, range(10, 20), workers=2))
    assert str(told.value) == "frame 13 is damaged"

"""An int8 S2: rounded when its policy is loaded, it says nearly the same with a quarter of the memory."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import gym_tabletop  # noqa: F401
from vla import assets
from vla.errors import UserError
from vla.s2.system import SlowSystem
from vla.tandem import TandemPolicy
from vla.training.quantize import quantize, weight_bytes


@pytest.fixture(scope="module")
def shipped() -> Path:
    return assets.find("policy", "tabletop")


@pytest.fixture(scope="module")
def rounded(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "policy"
    quantize(shipped, out)
    return out


@pytest.fixture(scope="module")
def scenes() -> tuple[torch.Tensor, list[str]]:
    """What S2's camera sees of the tabletop at the beginning of eight episodes, and what is to be done."""
    env = gymnasium.make("gym_tabletop/Tabletop-v0").unwrapped
    found = [env.reset(seed=seed) for seed in range(8)]
    env.close()
    front = np.stack([seen["pixels"]["front"] for seen, _ in found])
    return torch.from_numpy(front)[:, None], [info["task_description"] for _, info in found]


def test_the_shipped_s2_says_nearly_the_same_with_at_most_thirty_percent_of_its_weights(
    shipped: Path, rounded: Path, scenes: tuple[torch.Tensor, list[str]]
) -> None:
    whole, small = (TandemPolicy.from_pretrained(folder).s2 for folder in (shipped, rounded))
    assert weight_bytes(small) <= 0.3 * weight_bytes(whole)
    before, after = (s2.think(*scenes)[0] for s2 in (whole, small))
    assert not after.equal(before)
    # Of what differs between the scenes, since that is what they tell S1.
    cosine = torch.cosine_similarity(after - before.mean(0), before - before.mean(0), dim=-1)
    assert cosine.min() > 0.999


def test_the_words_stay_tied_to_the_output_head(rounded: Path) -> None:
    model = TandemPolicy.from_pretrained(rounded).s2.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_it_is_saved_and_loaded_as_it_is_and_not_rounded_twice(
    rounded: Path, scenes: tuple[torch.Tensor, list[str]], tmp_path: Path
) -> None:
    policy = TandemPolicy.from_pretrained(rounded)
    policy.save_pretrained(tmp_path / "again")
    again = SlowSystem.from_pretrained(tmp_path / "again" / "s2")
    assert again.think(*scenes, 4)[1] == policy.s2.think(*scenes, 4)[1]
    assert again.think(*scenes)[0].equal(policy.s2.think(*scenes)[0])
    with pytest.raises(UserError, match="is an int8 one already"):
        quantize(tmp_path / "again", tmp_path / "twice")
    quantize(assets.find("policy", "tabletop"), tmp_path / "again")  # another time into the same folder
    assert weight_bytes(SlowSystem.from_pretrained(tmp_path / "again" / "s2")) == weight_bytes(policy.s2)

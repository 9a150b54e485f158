"""The heads that classify: what they can learn, what they promise before they have, and the causal trunk under one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vla.actions.bins import BINS, bin_centres
from vla.actions.fast import FastTokens
from vla.errors import UserError
from vla.s1.heads import make_head
from vla.s1.system import FastConfig, FastSystem
from vla.s1.trunk import Past, Trunk

TINY = FastConfig(
    image_size=(16, 16), channels=(8, 16), horizon=6, width=32, layers=2, heads=2, mlp=48, cameras=("front",)
)
STATE, ACTION, LATENT = 4, 2, (2, 8)


def movements(count: int, seed: int = 0) -> np.ndarray:
    """Chunks of slow movements, within [-1, 1]."""
    phase, speed = np.random.default_rng(seed).uniform(0.0, (6.3, 0.5), (count, 1, ACTION, 2)).transpose(3, 0, 1, 2)
    return np.sin(phase + speed * np.arange(TINY.horizon)[:, None]).astype(np.float32)


TOKENS = FastTokens.fit(movements(500), vocabulary=256)


def make_system(head: str) -> FastSystem:
    torch.manual_seed(0)
    return FastSystem(replace(TINY, head=head), STATE, ACTION, LATENT, TOKENS if head == "fast" else None)


def observation(batch: int) -> dict:
    torch.manual_seed(1)
    return {
        "images": {"front": torch.randint(0, 256, (batch, 16, 16, 3), dtype=torch.uint8)},
        "state": torch.randn(batch, STATE),
        "latents": torch.randn(batch, *LATENT),
        "age": torch.rand(batch),
    }


@pytest.mark.parametrize("head", ["l1", "flow", "bins", "fast"])
def test_every_head_learns_a_few_chunks_by_heart(head: str) -> None:
    system, seen = make_system(head), observation(4)
    actions, valid = torch.from_numpy(movements(4, seed=3)), torch.ones(4, TINY.horizon, dtype=torch.bool)
    optimizer = torch.optim.Adam(system.parameters(), lr=5e-3)
    for step in range(300 if head == "flow" else 120):
        optimizer.zero_grad()
        system.loss(**seen, actions=actions, prefix_len=torch.full((4,), step % 3), valid=valid).backward()
        optimizer.step()
    for length in (0, 2):
        chunk = system.act(**seen, prefix=actions, prefix_len=torch.full((4,), length))
        assert (chunk - actions).abs().mean() < 0.15


def test_a_prefix_changes_what_fast_says_after_it() -> None:
    """Two movements from one observation: which of them it is, only the prefix tells."""
    system, seen = make_system("fast"), observation(1)
    seen = {key: value.expand(2, *value.shape[1:]) for key, value in seen.items() if key != "images"} | {
        "images": {"front": seen["images"]["front"].expand(2, -1, -1, -1)}
    }
    actions, valid = torch.from_numpy(movements(2, seed=4)), torch.ones(2, TINY.horizon, dtype=torch.bool)
    optimizer = torch.optim.Adam(system.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        system.loss(**seen, actions=actions, prefix_len=torch.tensor([1, 1]), valid=valid).backward()
        optimizer.step()
    chunk = system.act(**seen, prefix=actions, prefix_len=torch.tensor([1, 1]))
    assert (chunk[:, 0] == actions[:, 0]).all()
    assert (chunk - actions).abs().mean() < 0.1 < (actions[0] - actions[1]).abs().mean()


def test_bins_act_in_bin_centres_and_clip_what_they_learn() -> None:
    system, seen = make_system("bins"), observation(2)
    chunk = system.act(**seen, prefix=torch.zeros(2, TINY.horizon, ACTION), prefix_len=torch.zeros(2, dtype=torch.long))
    assert torch.isin(chunk, bin_centres(torch.arange(BINS))).all()
    valid = torch.ones(2, TINY.horizon, dtype=torch.bool)
    losses = [
        system.loss(
            **seen,
            actions=torch.full((2, TINY.horizon, ACTION), value),
            prefix_len=torch.zeros(2, dtype=torch.long),
            valid=valid,
        )
        for value in (1.0, 1.5)
    ]
    assert losses[0] == losses[1]


def test_an_untrained_fast_head_already_speaks_in_chunks() -> None:
    system, seen = make_system("fast"), observation(64)
    torch.nn.init.normal_(system.head.write.weight)
    given = torch.from_numpy(movements(64))
    chunk = system.act(**seen, prefix=given, prefix_len=torch.arange(64) % 7)
    assert chunk.shape == given.shape and chunk.isfinite().all()
    is_given = torch.arange(TINY.horizon) < (torch.arange(64) % 7)[:, None]
    assert (chunk[is_given] == given[is_given]).all()


def test_what_fast_says_while_remembering_it_says_while_reading_all_of_it_anew() -> None:
    system, seen = make_system("fast"), observation(3)
    torch.nn.init.normal_(system.head.write.weight)
    actions, prefix = torch.from_numpy(movements(3)), torch.arange(TINY.horizon) < torch.tensor([[0], [1], [2]])
    decode = system._decoder(seen["images"], seen["state"], seen["latents"], seen["age"])
    heard = []

    def forgetful(tokens: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        heard.append(tokens)
        return decode(torch.cat(heard, dim=1))

    torch.testing.assert_close(system.head.act(forgetful, actions, prefix), system.head.act(decode, actions, prefix))
    assert len(heard) > 1


def test_a_chunk_may_be_a_single_token() -> None:
    still = np.zeros((20, TINY.horizon, ACTION), np.float32)
    tokens = FastTokens.fit(still)
    system, seen = FastSystem(replace(TINY, head="fast"), STATE, ACTION, LATENT, tokens), observation(2)
    actions, none = torch.zeros(2, TINY.horizon, ACTION), torch.zeros(2, dtype=torch.long)
    valid = torch.ones(2, TINY.horizon, dtype=torch.bool)
    assert system.loss(**seen, actions=actions, prefix_len=none, valid=valid).isfinite()
    assert (system.act(**seen, prefix=actions, prefix_len=none) == 0).all()


# --- the causal trunk -----------------------------------------------------------------------------------------------


@pytest.fixture
def causal() -> Trunk:
    torch.manual_seed(0)
    return Trunk(positions=8, width=32, layers=2, heads=2, mlp=48, causal=True)


def test_a_causal_token_sees_none_after_it(causal: Trunk) -> None:
    tokens, remembered = torch.randn(2, 8, 32), causal.remember(torch.randn(2, 5, 32))
    changed = tokens.clone()
    changed[:, 5:] += 1
    before, after = causal(tokens, remembered), causal(changed, remembered)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])
    causal.causal = False
    assert not torch.allclose(causal(tokens, remembered)[:, :5], causal(changed, remembered)[:, :5])


@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5, 6, 7), (5,), (3, 6)])
def test_read_piece_by_piece_is_read_at_once(causal: Trunk, cuts: tuple[int, ...]) -> None:
    tokens, remembered = torch.randn(2, 8, 32), causal.remember(torch.randn(2, 5, 32))
    past: Past = {}
    pieces = [causal(piece, remembered, past) for piece in torch.tensor_split(tokens, cuts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), causal(tokens, remembered))


# --- tokens and heads that do not fit -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "tokens", "message"),
    [
        ("fast", None, "S1: head fast needs action tokens"),
        ("bins", TOKENS, "S1: action tokens are for head fast, this one has head bins"),
        (
            "fast",
            replace(TOKENS, horizon=8),
            r"action tokens are fitted to chunks of shape \(8, 2\), S1 makes \(6, 2\)",
        ),
    ],
)
def test_a_head_without_its_tokens_is_refused_in_one_line(head, tokens, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        make_head(head, ACTION, TINY.horizon, TINY.width, tokens)
    assert "\n" not in str(error.value)

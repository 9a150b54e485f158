"""S1: what it may know, what it must ignore, and what its chunks promise; for every head."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vla.actions.fast import FastTokens
from vla.errors import UserError
from vla.s1.encoder import CameraEncoder, Sinusoids
from vla.s1.system import FastConfig, FastSystem

TINY = FastConfig(image_size=(32, 32), channels=(8, 16, 16), horizon=6, width=32, layers=2, heads=2, mlp=48)
STATE, ACTION, LATENT = 5, 3, (2, 8)


@pytest.fixture(params=["l1", "flow", "bins", "fast"])
def system(request) -> FastSystem:
    return make_system(request.param)


def make_system(head: str) -> FastSystem:
    tokens = FastTokens.fit(smooth_chunks(200)) if head == "fast" else None
    torch.manual_seed(0)
    return FastSystem(replace(TINY, head=head, summary=True), STATE, ACTION, LATENT, tokens)


def smooth_chunks(count: int) -> np.ndarray:
    """Chunks of slow movements, within [-1, 1]."""
    phase, speed = np.random.default_rng(0).uniform((0.0, 0.1), (6.3, 0.5), (count, 1, ACTION, 2)).transpose(3, 0, 1, 2)
    return np.sin(phase + speed * np.arange(TINY.horizon)[:, None]).astype(np.float32)


def observation(batch: int = 4, seed: int = 1) -> dict:
    torch.manual_seed(seed)
    return {
        "images": {name: torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8) for name in TINY.cameras},
        "state": torch.randn(batch, STATE),
        "latents": torch.randn(batch, *LATENT),
        "age": torch.rand(batch),
    }


def prefix(batch: int = 4, length: int = 0) -> dict:
    actions = torch.rand(batch, TINY.horizon, ACTION) * 2 - 1
    return {"prefix": actions, "prefix_len": torch.full((batch,), length)}


def loss(system: FastSystem, actions: torch.Tensor, prefix_len, valid: torch.Tensor, **changed) -> torch.Tensor:
    torch.manual_seed(2)
    seen = observation() | changed
    return system.loss(**seen, actions=actions, prefix_len=torch.as_tensor(prefix_len), valid=valid)


def test_a_chunk_begins_with_its_prefix(system: FastSystem) -> None:
    given = prefix(length=2)
    chunk = system.act(**observation(), **given)
    assert chunk.shape == (4, TINY.horizon, ACTION)
    torch.testing.assert_close(chunk[:, :2], given["prefix"][:, :2])
    assert not torch.allclose(chunk[:, 2:], given["prefix"][:, 2:])


def test_the_prefix_is_read_and_the_rows_after_it_are_not(system: FastSystem) -> None:
    torch.nn.init.normal_(system.head.write.weight)
    given = prefix(length=2)
    chunk = system.act(**observation(), **given)
    beyond = given["prefix"].clone()
    beyond[:, 2:] += 1
    torch.testing.assert_close(system.act(**observation(), **given | {"prefix": beyond}), chunk)
    within = given["prefix"].clone()
    within[:, 0] += 1
    assert not torch.allclose(system.act(**observation(), **given | {"prefix": within})[:, 2:], chunk[:, 2:])


def test_the_same_observation_gives_the_same_chunk_alone_or_in_a_batch(system: FastSystem) -> None:
    seen, given = observation(), prefix(length=1)
    whole = system.act(**seen, **given)
    one = {key: value[2:3] for key, value in (seen | given).items() if key != "images"}
    one["images"] = {name: image[2:3] for name, image in seen["images"].items()}
    torch.testing.assert_close(system.act(**one), whole[2:3], atol=1e-4, rtol=1e-4)


def test_loss_counts_neither_prefix_nor_what_lies_beyond_the_end(system: FastSystem) -> None:
    actions = torch.rand(4, TINY.horizon, ACTION)
    valid = torch.ones(4, TINY.horizon, dtype=torch.bool)
    valid[:, 4:] = False
    actions.requires_grad_()
    loss(system, actions, [2] * 4, valid).backward()
    assert actions.grad is not None
    everything_given = loss(system, actions, [TINY.horizon] * 4, valid)
    assert everything_given.item() == 0
    if system.config.head == "l1":  # what is wanted there is not even looked at
        assert (actions.grad[:, 4:] == 0).all()
        assert (actions.grad[:, 2:4] != 0).all()


def test_without_a_thought_the_latents_do_not_matter(system: FastSystem) -> None:
    torch.nn.init.normal_(system.head.write.weight)
    none = torch.full((4,), torch.nan)
    seen, given = observation(), prefix()
    first = system.act(**seen | {"age": none}, **given)
    other = system.act(**seen | {"age": none, "latents": torch.full((4, *LATENT), torch.nan)}, **given)
    torch.testing.assert_close(first, other)
    assert not torch.allclose(first, system.act(**seen, **given))


def test_age_matters_up_to_the_oldest_trained_on(system: FastSystem) -> None:
    torch.nn.init.normal_(system.head.write.weight)
    seen, given = observation(), prefix()
    chunks = [system.act(**seen | {"age": torch.full((4,), age)}, **given) for age in (0.1, 1.5, 2.0, 9.0)]
    assert not torch.allclose(chunks[0], chunks[1])
    torch.testing.assert_close(chunks[2], chunks[3])


def test_gradients_reach_every_parameter_and_the_latents(system: FastSystem) -> None:
    latents = torch.randn(4, *LATENT, requires_grad=True)
    age = torch.tensor([0.1, 0.5, torch.nan, 1.0])
    torch.nn.init.normal_(system.head.write.weight)
    valid = torch.ones(4, TINY.horizon, dtype=torch.bool)
    loss(system, torch.rand(4, TINY.horizon, ACTION), [0, 1, 2, 3], valid, latents=latents, age=age).backward()
    assert latents.grad is not None and (latents.grad[[0, 1, 3]] != 0).any() and (latents.grad[2] == 0).all()
    without = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_images_of_another_size_are_resized() -> None:
    system = make_system("l1")
    seen = observation()
    seen["images"]["front"] = seen["images"]["front"].repeat_interleave(2, 1).repeat_interleave(2, 2)
    small = system.act(**observation(), **prefix())
    torch.testing.assert_close(system.act(**seen, **prefix()), small, atol=0.05, rtol=0.05)


def test_floats_and_bytes_of_one_image_read_alike() -> None:
    encoder = CameraEncoder((8, 16), (16, 16), 24)
    image = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    assert encoder(image).shape == (2, 16, 24)
    torch.testing.assert_close(encoder(image), encoder(image.float() / 255))


def test_sinusoids_tell_near_ages_apart() -> None:
    ages = torch.linspace(0, 2, 41)
    codes = Sinusoids(16, 0.2, 16.0)(ages)
    assert codes.shape == (41, 32)
    assert (torch.cdist(codes, codes) + torch.eye(41)).min() > 0.05


@pytest.mark.parametrize("steps", [1, 10])
def test_flow_takes_as_many_steps_as_its_config_says(steps: int) -> None:
    system, passes = FastSystem(replace(TINY, head="flow", flow_steps=steps), STATE, ACTION, LATENT), []
    system.trunk.register_forward_hook(lambda *_: passes.append(1))
    assert system.act(**observation(), **prefix()).isfinite().all()
    assert len(passes) == steps


def test_an_unknown_head_is_named() -> None:
    with pytest.raises(UserError, match="head is 'rnn', there are: l1, flow"):
        FastConfig(head="rnn")  # type: ignore[arg-type]


def test_the_shipped_shape_is_small() -> None:
    parameters = sum(p.numel() for p in FastSystem(FastConfig(summary=True), 17, 7, (8, 192)).parameters())
    assert 2e6 < parameters < 3.5e6

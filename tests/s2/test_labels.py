"""The training-only heads leave out what is not known, and point in image coordinates."""

import torch

from vla.s2.labels import LabelConfig, LabelHeads

NAN = float("nan")


def build() -> LabelHeads:
    torch.manual_seed(0)
    return LabelHeads(LabelConfig(classes=3, grid=4, width=16), latent_shape=(2, 8), widths=(5, 7))


def test_a_token_labels_the_four_cells_it_covers():
    heads = build()
    fine, tokens = torch.zeros(1, 16, 5), torch.zeros(1, 4, 7)
    _, before = heads.cell_logits((fine, tokens))
    tokens[0, 1] = 1.0  # the token up right
    _, after = heads.cell_logits((fine, tokens))
    changed = (after - before)[0].abs().sum(-1) > 1e-6
    assert changed.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_unknown_places_and_families_teach_nothing():
    heads = build()
    latents = torch.randn(2, 2, 8, requires_grad=True)
    unknown = torch.full((2, 2), NAN)
    losses = heads.point_losses(latents, unknown, unknown, *[torch.tensor([-1, -1])] * 2)
    sum(losses.values()).backward()
    assert all(loss.item() == 0 for loss in losses.values())
    assert latents.grad is not None and not latents.grad.any()


def test_one_known_place_in_a_batch_teaches_through_its_own_latents_alone():
    heads = build()
    latents = torch.randn(2, 2, 8, requires_grad=True)
    target = torch.tensor([[0.2, 0.9], [NAN, NAN]])
    losses = heads.point_losses(latents, target, torch.full((2, 2), NAN), *[torch.tensor([-1, -1])] * 2)
    sum(losses.values()).backward()
    assert latents.grad is not None
    assert latents.grad[0].any() and not latents.grad[1].any()


def test_the_heads_can_learn_where_things_are():
    """A thing is the token that lights up; its class is which channel does."""
    heads = build()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(150):
        where = torch.randint(0, 4, (64,), generator=generator)
        what = torch.randint(0, 3, (64,), generator=generator)
        visual = torch.zeros(64, 4, 8)
        visual[torch.arange(64), where, what] = 1.0
        objects = torch.zeros(64, 3, 3)
        place = torch.stack([0.25 + 0.5 * (where % 2), 0.25 + 0.5 * (where // 2)], -1)
        objects[torch.arange(64), what] = torch.cat([torch.ones(64, 1), place], -1)
        presence, error = heads.thing_loss(visual, objects)
        optimizer.zero_grad()
        (presence + error).backward()
        optimizer.step()
    assert float(presence) < 0.1
    assert float(error) < 0.05

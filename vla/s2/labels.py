"""Training-only heads: dense labels the simulator gives for free.

A small S2 with only words to learn from memorises scenes. These heads make its tower and its latents say what
is where, everywhere, in every image. They are no part of the shipped model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class LabelConfig:
    """classes: things a cell can show, background not counted. grid: cells per side. families: room for task families.

    background: weight of a background cell in the cell loss, since most cells are.
    """

    classes: int
    grid: int = 12
    families: int = 16
    width: int = 192
    background: float = 0.2


@dataclass(frozen=True)
class Pointing:
    """What the latents say about an instruction: places (Q, 2) in [0, 1], logits over cells, families and classes."""

    target: Float[Tensor, "Q 2"]
    goal: Float[Tensor, "Q 2"]
    target_cell: Float[Tensor, "Q G*G"]
    goal_cell: Float[Tensor, "Q G*G"]
    family: Float[Tensor, "Q F"]
    thing: Float[Tensor, "Q C"]


class LabelHeads(nn.Module):
    """Cells from the tower, presence and place of every class from the tokens, the named place from the latents.

    widths: of the tower's last two maps; None, as of a VLM that others have trained: the latents alone are judged.
    """

    def __init__(self, config: LabelConfig, latent_shape: tuple[int, int], widths: tuple[int, int] | None) -> None:
        super().__init__()
        self.config = config
        classes, grid, width = config.classes, config.grid, config.width
        self.sees = widths is not None
        if widths is not None:
            self.fine_cells = nn.Sequential(nn.Linear(widths[0], width), nn.SiLU(), nn.Linear(width, classes + 1))
            # A token covers 2 x 2 cells: making it say all four puts the small things into the coarse map too.
            self.coarse_cells = nn.Linear(widths[1], 4 * (classes + 1))
            self.things = nn.Parameter(torch.randn(classes, width) * 0.1)
            self.keys = nn.Linear(latent_shape[1], width)
            self.values = nn.Linear(latent_shape[1], width)
            self.thing = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 3))
        count = latent_shape[0] * latent_shape[1]
        self.latent = nn.Sequential(nn.Linear(count, 256), nn.SiLU())
        self.places = nn.Linear(256, 4)
        self.place_cells = nn.Linear(256, 2 * grid * grid)
        self.family = nn.Linear(256, config.families)
        self.named = nn.Linear(256, classes)

    def cell_logits(self, maps: tuple[Tensor, ...]) -> tuple[Float[Tensor, "B G G C"], Float[Tensor, "B G G C"]]:
        """maps: the tower's, (B, h*w, width) each, the last two used; from the finer and from the coarser."""
        grid = self.config.grid
        fine = self.fine_cells(maps[-2]).unflatten(1, (grid, grid))
        coarse = self.coarse_cells(maps[-1]).unflatten(1, (grid // 2, grid // 2)).unflatten(-1, (2, 2, -1))
        return fine, coarse.transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def find(self, visual: Float[Tensor, "B N D"]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C 2"]]:
        """Presence logits and (u, v) of every class: where its query looks, corrected by what it sees there."""
        side = self.config.grid // 2
        visual = visual[:, : side * side]
        attention = (self.things @ self.keys(visual).transpose(1, 2)) / self.config.width**0.5
        weights = attention.float().softmax(-1)
        seen = self.thing(weights.to(visual.dtype) @ self.values(visual)).float()
        centre = (torch.arange(side, device=visual.device) + 0.5) / side
        grid = torch.stack([centre.repeat(side), centre.repeat_interleave(side)], -1)
        return seen[..., 0], weights @ grid + 0.2 * seen[..., 1:]

    def point(self, latents: Float[Tensor, "Q K D"]) -> Pointing:
        """What the latents alone say: S1 will have no more than this."""
        hidden = self.latent(latents.flatten(1))
        places = 0.5 + self.places(hidden).float()
        target_cell, goal_cell = self.place_cells(hidden).float().chunk(2, -1)
        family, thing = self.family(hidden).float(), self.named(hidden).float()
        return Pointing(places[:, :2], places[:, 2:], target_cell, goal_cell, family, thing)

    # --- losses --------------------------------------------------------------------------------------------------

    def cell_loss(self, maps: tuple[Tensor, ...], cells: Int[Tensor, "B G G"]) -> Tensor:
        """cells: 0 background, i + 1 = class i."""
        weight = torch.ones(self.config.classes + 1, device=cells.device)
        weight[0] = self.config.background
        losses = [F.cross_entropy(logits.float().movedim(-1, 1), cells, weight) for logits in self.cell_logits(maps)]
        return torch.stack(losses).mean()

    def thing_loss(self, visual: Float[Tensor, "B N D"], objects: Float[Tensor, "B C 3"]) -> tuple[Tensor, Tensor]:
        """objects: present, u, v per class. Returns the presence and the place loss (L1 over present things)."""
        present, places = objects[..., 0] > 0.5, objects[..., 1:]
        logits, found = self.find(visual)
        presence = F.binary_cross_entropy_with_logits(logits, present.float())
        return presence, F.l1_loss(found[present], places[present]) if present.any() else found.sum() * 0

    def point_losses(
        self,
        latents: Float[Tensor, "Q K D"],
        target: Float[Tensor, "Q 2"],
        goal: Float[Tensor, "Q 2"],
        family: Int[Tensor, Q],
        thing: Int[Tensor, Q],
    ) -> dict[str, Tensor]:
        """Losses over what is known: NaN places, and families and classes of the target below 0, are left out.

        The cell loss lets the latents hedge between several things before the words are bound; a regression
        alone would rest at their mean. The class is for S1, which must find again what has moved since S2 looked.
        """
        said = self.point(latents)
        place, cell = latents.sum() * 0, latents.sum() * 0
        for places, logits, wanted in ((said.target, said.target_cell, target), (said.goal, said.goal_cell, goal)):
            known = wanted.isfinite().all(-1)
            if known.any():
                truth = wanted[known].clamp(0, 1 - 1e-6)
                place = place + F.l1_loss(places[known], truth)
                column, row = (truth * self.config.grid).long().unbind(-1)
                cell = cell + F.cross_entropy(logits[known], row * self.config.grid + column)
        losses = {"place": place, "place_cell": cell}
        for name, logits, index in (("family", said.family, family), ("named", said.thing, thing)):
            known = index >= 0
            losses[name] = F.cross_entropy(logits[known], index[known]) if known.any() else latents.sum() * 0
        return losses

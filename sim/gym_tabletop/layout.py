"""Where everything stands at the start of an episode: sampled from a seed, before any physics."""

from dataclasses import dataclass, replace

import numpy as np

from gym_tabletop.palette import COLOURS, PAIRS

REGION_LOW, REGION_HIGH = np.array([0.39, -0.23]), np.array([0.66, 0.23])
"""Objects and trays have their centres in this rectangle of the table (m, base frame)."""

TRAY_HALF = 0.065
PANEL_X = 0.76
OBJECT_SPACING, TRAY_SPACING, TRAYS_APART = 0.09, 0.115, 0.15


@dataclass(frozen=True)
class ObjectPose:
    """An object standing on the table. `half`: half its height (m); `place`: x, y (m); `yaw`: rad."""

    pair: str
    half: float
    place: tuple[float, float]
    yaw: float

    @property
    def colour(self) -> str:
        return self.pair.split()[0]

    @property
    def shape(self) -> str:
        return self.pair.split()[1]


@dataclass(frozen=True)
class Layout:
    """A whole scene. `trays`: (colour, x, y); `panel`: y of the panel's centre and its two button colours."""

    objects: tuple[ObjectPose, ...]
    trays: tuple[tuple[str, float, float], ...]
    panel: tuple[float, str, str]

    def with_pair(self, pair: str) -> "Layout":
        """The same places, with `pair` among the objects: in place of the first, unless it is there already."""
        if any(thing.pair == pair for thing in self.objects):
            return self
        return replace(self, objects=(replace(self.objects[0], pair=pair), *self.objects[1:]))


def sample_layout(rng: np.random.Generator) -> Layout:
    """Three or four objects of different colour-shape pairs, two trays and a panel, nowhere touching."""
    while True:
        trays = _scatter(rng, 2, [], TRAYS_APART)
        count = int(rng.integers(3, 5))
        places = _scatter(rng, count, [(tray, TRAY_SPACING) for tray in trays], OBJECT_SPACING) if trays else None
        if trays and places:
            break
    pairs = rng.choice(len(PAIRS), size=count, replace=False)
    objects = tuple(
        ObjectPose(PAIRS[pair], float(rng.uniform(0.022, 0.025)), place, float(rng.uniform(-np.pi / 4, np.pi / 4)))
        for pair, place in zip(pairs, places, strict=True)
    )
    colours = list(COLOURS)
    tray_colours = rng.permutation(colours)[:2]
    buttons = rng.permutation(colours)[:2]
    panel = (float(rng.uniform(-0.12, 0.12)), str(buttons[0]), str(buttons[1]))
    return Layout(
        objects, tuple((str(c), x, y) for c, (x, y) in zip(tray_colours, trays, strict=True)), panel
    )


def _scatter(
    rng: np.random.Generator,
    count: int,
    taken: list[tuple[tuple[float, float], float]],
    spacing: float,
    tries: int = 60,
) -> list[tuple[float, float]] | None:
    """`count` places at least `spacing` from each other and each taken place's own distance from it; None if stuck."""
    places: list[tuple[float, float]] = []
    for _ in range(tries):
        spot = rng.uniform(REGION_LOW, REGION_HIGH)
        far = all(np.hypot(*(spot - other)) >= spacing for other in places)
        if far and all(np.hypot(*(spot - other)) >= distance for other, distance in taken):
            places.append((float(spot[0]), float(spot[1])))
        if len(places) == count:
            return places
    return None

"""Where everything stands at the start of an episode: sampled from a seed, before any physics."""

from dataclasses import dataclass, replace

import numpy as np

from gym_tabletop.palette import COLOURS, PAIRS

REGION_LOW, REGION_HIGH = np.array([0.39, -0.23]), np.array([0.66, 0.23])
"""Objects and trays have their centres in this rectangle of the table (m, base frame)."""

TRAY_HALF, TRAY_FLOOR = 0.065, 0.006
PANEL_X = 0.76
OBJECT_SPACING, TRAY_SPACING, TRAYS_APART = 0.09, 0.115, 0.15
DRAWER_X, DRAWER_SPACING, DRAWER_TRAY_SPACING = 0.61, 0.13, 0.15
"""Where the drawer slides and the hand works it, and how far from there objects and trays stay (m)."""
DISC_RADIUS, DISC_TOP = 0.135, 0.013

Place = tuple[float, float]


@dataclass(frozen=True)
class ObjectPose:
    """An object. `half`: half its height; `place`: x, y; `floor`: height of what it stands on (m); `yaw`: rad."""

    pair: str
    half: float
    place: Place
    yaw: float
    floor: float = 0.0

    @property
    def colour(self) -> str:
        return self.pair.split()[0]

    @property
    def shape(self) -> str:
        return self.pair.split()[1]


@dataclass(frozen=True)
class Drawer:
    """`y` of its middle (m) and how far it is open, 0 to 1."""

    y: float
    opened: float


@dataclass(frozen=True)
class Disc:
    """A turning table: its centre (m) and speed (rad/s, counter-clockwise from above)."""

    centre: Place
    speed: float


@dataclass(frozen=True)
class Layout:
    """A whole scene. `trays`: (colour, x, y); `panel`: y of the panel's centre and its two button colours."""

    objects: tuple[ObjectPose, ...]
    trays: tuple[tuple[str, float, float], ...]
    panel: tuple[float, str, str]
    drawer: Drawer | None = None
    disc: Disc | None = None

    def slot(self, pair: str) -> int | None:
        """Which of the objects it is."""
        return next((i for i, thing in enumerate(self.objects) if thing.pair == pair), None)

    def with_pair(self, pair: str) -> "Layout":
        """The same places, with `pair` among the objects: in place of the first, unless it is there already."""
        if self.slot(pair) is not None:
            return self
        return replace(self, objects=(replace(self.objects[0], pair=pair), *self.objects[1:]))


def sample_layout(rng: np.random.Generator) -> Layout:
    """Three or four objects of different colour-shape pairs, two trays and a panel, nowhere touching."""
    places, trays = _scatter_all(rng, [], [])
    pairs = rng.choice(len(PAIRS), size=len(places), replace=False)
    objects = tuple(
        ObjectPose(PAIRS[pair], float(rng.uniform(0.022, 0.025)), place, float(rng.uniform(-np.pi / 4, np.pi / 4)))
        for pair, place in zip(pairs, places, strict=True)
    )
    tray_colours, buttons = _two_colours(rng), _two_colours(rng)
    panel = (float(rng.uniform(-0.12, 0.12)), *buttons)
    return Layout(objects, tuple((c, *place) for c, place in zip(tray_colours, trays, strict=True)), panel)


def sample_suite_layout(rng: np.random.Generator, turning: bool) -> Layout:
    """As `sample_layout`, with a drawer beside the panel, objects of several sizes, and now and then one in a tray.

    turning: instead of trays, three objects on a turning disc.
    """
    side = float(rng.choice([-1.0, 1.0]))
    drawer = Drawer(side * float(rng.uniform(0.10, 0.14)), 0.0 if turning else float(rng.integers(2)))
    before = (DRAWER_X, drawer.y)
    disc: Disc | None = None
    trays: list[Place] = []
    if turning:
        centre = (float(rng.uniform(0.47, 0.51)), float(rng.uniform(-0.06, 0.06)))
        disc = Disc(centre, float(rng.choice([-1.0, 1.0]) * rng.uniform(0.25, 0.55)))
        places = _ring(rng, centre)
    else:
        places, trays = _scatter_all(rng, [(before, DRAWER_SPACING)], [(before, DRAWER_TRAY_SPACING)])
    pairs = rng.choice(len(PAIRS), size=len(places), replace=False)
    floor = DISC_TOP if turning else 0.0
    objects = [
        ObjectPose(PAIRS[pair], half, place, float(rng.uniform(-np.pi / 4, np.pi / 4)), floor)
        for pair, place, half in zip(pairs, places, _sizes(rng, len(places)), strict=True)
    ]
    if trays and rng.random() < 0.3:
        home = trays[int(rng.integers(2))]
        objects[-1] = replace(objects[-1], place=home, floor=TRAY_FLOOR)
    tray_colours, buttons = _two_colours(rng), _two_colours(rng)
    panel = (-side * float(rng.uniform(0.10, 0.15)), *buttons)
    named = tuple((c, *place) for c, place in zip(tray_colours, trays, strict=False))
    return Layout(tuple(objects), named, panel, drawer, disc)


def _sizes(rng: np.random.Generator, count: int) -> list[float]:
    """Half the heights of objects (m): mostly one is clearly smaller or larger than the others, which are alike."""
    small, large = rng.uniform(0.018, 0.0195, count), rng.uniform(0.0245, 0.026, count)
    kind = rng.random()
    if kind < 0.3:
        return [float(x) for x in rng.uniform(0.018, 0.026, count)]
    odd, rest = (small, large) if kind < 0.65 else (large, small)
    rest[-1] = odd[-1]
    return [float(x) for x in rng.permutation(rest)]


def _two_colours(rng: np.random.Generator) -> tuple[str, str]:
    one, two, *_ = rng.permutation(list(COLOURS))
    return str(one), str(two)


def _scatter_all(
    rng: np.random.Generator, no_objects: list[tuple[Place, float]], no_trays: list[tuple[Place, float]]
) -> tuple[list[Place], list[Place]]:
    """Places of three or four objects and of two trays, clear of each other and of what is given with its radius."""
    while True:
        trays = _scatter(rng, 2, no_trays, TRAYS_APART)
        count = int(rng.integers(3, 5))
        taken = [*no_objects, *((tray, TRAY_SPACING) for tray in trays or ())]
        places = _scatter(rng, count, taken, OBJECT_SPACING) if trays else None
        if trays and places:
            return places, trays


def _ring(rng: np.random.Generator, centre: Place) -> list[Place]:
    """Three places around the middle of a disc."""
    start = rng.uniform(0, 2 * np.pi)
    angles = start + np.arange(3) * 2 * np.pi / 3 + rng.uniform(-0.25, 0.25, 3)
    radii = rng.uniform(0.06, 0.098, 3)
    return [
        (float(centre[0] + r * np.cos(a)), float(centre[1] + r * np.sin(a))) for r, a in zip(radii, angles, strict=True)
    ]


def _scatter(
    rng: np.random.Generator, count: int, taken: list[tuple[Place, float]], spacing: float, tries: int = 60
) -> list[Place] | None:
    """`count` places at least `spacing` from each other and each taken place's own distance from it; None if stuck."""
    places: list[Place] = []
    for _ in range(tries):
        spot = rng.uniform(REGION_LOW, REGION_HIGH)
        far = all(np.hypot(*(spot - other)) >= spacing for other in places)
        if far and all(np.hypot(*(spot - other)) >= distance for other, distance in taken):
            places.append((float(spot[0]), float(spot[1])))
        if len(places) == count:
            return places
    return None

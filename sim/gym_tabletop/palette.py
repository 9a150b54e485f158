"""The colours, shapes and fixtures a tabletop scene is made of."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.12, 0.10),
    "green": (0.10, 0.62, 0.18),
    "blue": (0.12, 0.25, 0.85),
    "yellow": (0.95, 0.80, 0.08),
}
SHAPES: tuple[str, ...] = ("cube", "cylinder", "ball")

PAIRS: tuple[str, ...] = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
TRAYS: tuple[str, ...] = tuple(f"{colour} tray" for colour in COLOURS)
BUTTONS: tuple[str, ...] = tuple(f"{colour} button" for colour in COLOURS)

DRAWER = "drawer"

CELL_CLASSES: tuple[str, ...] = (*PAIRS, *TRAYS, *BUTTONS, DRAWER)
"""What a cell of the front image can show; index + 1 in label grids, where 0 is background or arm."""

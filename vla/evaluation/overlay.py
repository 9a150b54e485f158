"""Pictures for people: both cameras side by side, the instruction, S2's words, where they point, and their age."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vla.s2.places import places_in, plain_words

Picture = NDArray[np.uint8]

PANEL = 384
GAP = 12
CAPTION = 92
SIZE = (2 * PANEL + 3 * GAP, PANEL + 2 * GAP + CAPTION)
"""Width and height of a frame in pixels; even, as H.264 needs."""

AGE_SCALE_S = 2.0
"""The age bar is full at this age, twice the largest delay the shipped policies are evaluated at."""

BACKGROUND, TEXT, FAINT, TRACK = (20, 22, 26), (236, 238, 241), (146, 153, 163), (48, 53, 61)
FRESH, OLD, GOOD = (77, 182, 172), (240, 164, 72), (124, 200, 120)


@dataclass(frozen=True)
class Caption:
    """What is written under the pictures.

    words: what S2 said, with place tokens, or None. age_s: age of the thought in use, None if there is none.
    note: a word on the state of things ("holding", "done"), may be empty; good: whether it is good news.
    """

    instruction: str
    words: str | None
    age_s: float | None
    time_s: float
    note: str = ""
    good: bool = False


def compose(front: Picture, wrist: Picture, caption: Caption) -> Picture:
    """One frame (H, W, 3), SIZE large: two square RGB pictures of any size, a pointing mark, and the caption."""
    canvas = Image.new("RGB", SIZE, BACKGROUND)
    for column, picture in enumerate((front, wrist)):
        canvas.paste(_panel(picture, PANEL), (GAP + column * (PANEL + GAP), GAP))
    draw = ImageDraw.Draw(canvas)
    for place in places_in(caption.words or "")[:1]:
        _mark(draw, GAP + place[0] * PANEL, GAP + place[1] * PANEL, radius=13)
    _write_caption(draw, caption)
    return np.asarray(canvas)


def contact_sheet(moments: list[tuple[Picture, Picture, float]], words: str | None, side: int = 176) -> Picture:
    """Front above wrist, one column per moment (front, wrist, time in s); the mark where S2 pointed first."""
    width, gap = len(moments) * (side + 4) - 4, 4
    canvas = Image.new("RGB", (width, 2 * side + gap), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for column, (front, wrist, time_s) in enumerate(moments):
        left = column * (side + gap)
        canvas.paste(_panel(front, side), (left, 0))
        canvas.paste(_panel(wrist, side), (left, side + gap))
        _tag(draw, left + 6, 6, f"{time_s:.1f} s")
    for place in places_in(words or "")[:1]:
        _mark(draw, place[0] * side, place[1] * side, radius=9)
    return np.asarray(canvas)


def _write_caption(draw: ImageDraw.ImageDraw, caption: Caption) -> None:
    left, right, top = GAP, SIZE[0] - GAP, PANEL + 2 * GAP
    bar = 190
    draw.text((left, top + 2), _fit(caption.instruction, _font(24), right - left - bar - 24), TEXT, _font(24))
    words = plain_words(caption.words)
    said = f"“{words}”" if words else "…"
    draw.text((left, top + 46), "S2", FAINT, _font(17))
    said = _fit(said, _font(20), right - left - bar - 58)
    draw.text((left + 34, top + 43), said, FRESH if words else FAINT, _font(20))
    colour = GOOD if caption.good else OLD
    clock = f"{caption.time_s:.1f} s"
    draw.text((right, top + 8), clock, FAINT, _font(17), anchor="ra")
    draw.text((right - 62, top + 8), caption.note, colour, _font(17), anchor="ra")
    age = "no thought yet" if caption.age_s is None else f"thought {caption.age_s:.2f} s old"
    draw.text((right, top + 40), age, FAINT, _font(15), anchor="ra")
    draw.rounded_rectangle((right - bar, top + 64, right, top + 72), 4, TRACK)
    if caption.age_s is not None:
        share = min(caption.age_s / AGE_SCALE_S, 1.0)
        tint = tuple(round(a + (b - a) * share) for a, b in zip(FRESH, OLD, strict=True))
        draw.rounded_rectangle((right - bar, top + 64, right - bar + max(8, share * bar), top + 72), 4, tint)


def _panel(picture: Picture, side: int) -> Image.Image:
    image = Image.fromarray(picture)
    method = Image.Resampling.BICUBIC if picture.shape[0] < side else Image.Resampling.LANCZOS
    return image if image.size == (side, side) else image.resize((side, side), method)


def _mark(draw: ImageDraw.ImageDraw, x: float, y: float, radius: int) -> None:
    for width, colour in ((5, (0, 0, 0)), (2, (255, 255, 255))):
        grow = (width - 2) / 2
        box = (x - radius - grow, y - radius - grow, x + radius + grow, y + radius + grow)
        draw.ellipse(box, outline=colour, width=width)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            near, far = radius - 4, radius + 5 + grow
            draw.line((x + dx * near, y + dy * near, x + dx * far, y + dy * far), colour, width)


def _tag(draw: ImageDraw.ImageDraw, x: float, y: float, text: str) -> None:
    draw.text((x, y), text, (255, 255, 255), _font(13), stroke_width=2, stroke_fill=(0, 0, 0))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"

"""Images and words as a VLM wants them: a head that ends with the images, and a tail with the words.

The model's own chat template is rendered once, with a mark where the words go, and cut after the last image. The
head is the same for every question, so it is read once; what follows it is text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from vla.errors import UserError
from vla.s2.adapters import Family

_WORDS = "INSTRUCTION"


class Prompter:
    """Raises UserError if the tokenizer has no token for images, or the chat template no place for them."""

    def __init__(self, processor: Any, family: Family, where: object) -> None:
        self.processor, self.tokenizer, self.family, self.where = processor, processor.tokenizer, family, where
        self.image: str = getattr(processor, family.placeholder, "<image>")
        if self.image not in self.tokenizer.get_vocab():
            raise UserError(f"VLM {where}: its tokenizer has no image token {self.image}; is this its own processor?")
        self.words = lru_cache(maxsize=1 << 16)(self._words)
        self._parts = lru_cache(maxsize=None)(self._cut)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _words(self, prompt: str) -> tuple[int, ...]:
        """Token ids of all that follows the images."""
        if self.family.prefix:
            return ()
        if self.family.bare:
            return (self.tokenizer.bos_token_id, *self.encode(prompt))
        # With the mark before them: a tokenizer may join text with what stands before it, but never with a mark.
        _, tail, mark = self._parts(1, 1)
        return self.encode(mark + tail.replace(_WORDS, prompt))[len(self.encode(mark)) :]

    def head(self, images: UInt8[Tensor, "B V *T H W 3"], prompts: Sequence[str]) -> dict[str, Tensor]:
        """Inputs of the model up to the words: one row per image; of a prefix LM with the words, one per prompt."""
        views, frames = images.shape[1], images.shape[2] if images.ndim == 6 else 1
        pixels = images.movedim(-1, -3)
        head, _, _ = self._parts(views, frames)
        texts = [head] * len(images)
        if self.family.prefix:
            texts = [self.image * (views * frames) + prompt for prompt in prompts]
        if self._video(frames):
            # All frames are wanted, half a second apart: Qwen counts its time in such steps.
            media: dict[str, Any] = {"videos": list(pixels.flatten(0, 1))}
            options: dict[str, Any] = {"videos_kwargs": {"do_sample_frames": False, "fps": 2.0, "return_tensors": "pt"}}
        else:
            media = {"images": [list(row.reshape(-1, *row.shape[-3:])) for row in pixels]}
            options = {"images_kwargs": {**self.family.options, "return_tensors": "pt"}}
        return self._process(texts, head, media | options)

    def whole(self, picture: UInt8[Tensor, "H W 3"], question: str) -> dict[str, Tensor]:
        """Inputs of the model for one question about one picture, which it may cut up as it does by itself."""
        head, tail, _ = self._parts(1, 1)
        text = self.image + question if self.family.prefix else head + tail.replace(_WORDS, question)
        media = {"images": [[picture.movedim(-1, -3)]], "images_kwargs": {"return_tensors": "pt"}}
        return self._process([text], head, media)

    def _process(self, texts: list[str], head: str, media: dict[str, Any]) -> dict[str, Tensor]:
        start = self.tokenizer.bos_token
        words = {
            "padding": True,
            "padding_side": "left",
            "add_special_tokens": not (start and head.startswith(start)),
            "return_tensors": "pt",
        }
        made = self.processor(text=texts, **media, text_kwargs=words)
        return {name: value for name, value in made.items() if isinstance(value, Tensor)}

    def _video(self, frames: int) -> bool:
        return frames > 1 and self.family.clips

    def _cut(self, views: int, frames: int) -> tuple[str, str, str]:
        """(up to the last image, what follows with a mark for the words, the token it follows)."""
        video = self._video(frames)
        token: str = self.processor.video_token if video else self.image
        count = views if video else views * frames
        template = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        if self.family.bare or self.family.prefix or not template:
            rendered = f"{token * count}\n{_WORDS}\n"
        else:
            content = [{"type": "video" if video else "image"}] * count + [{"type": "text", "text": _WORDS}]
            rendered = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                chat_template=template.get("default") if isinstance(template, dict) else template,
                add_generation_prompt=True,
                tokenize=False,
            )
        marks = (token + self.family.closing, token)
        mark = next((mark for mark in marks if mark in rendered), token)
        end = rendered.rfind(mark) + len(mark)
        head, tail = rendered[:end], rendered[end:]
        if rendered.count(token) != count or tail.count(_WORDS) != 1:
            raise UserError(f"VLM {self.where}: its chat template has no place for {count} images before the words")
        return head, tail, mark

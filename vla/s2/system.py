"""S2: any vision-language model of `transformers`, read through K learned query tokens.

One sequence per question:

    images | words | K queries | answer

The latents are the hidden states of the queries; the answer follows them, so speaking continues the same
prefix with its key-value cache. The images come first and see no words, so they are read once however many
questions are asked about them (a prefix LM, whose images see the words, reads them once a question).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from vla.errors import UserError
from vla.ranks import whole
from vla.s2.adapters import cast_features, family_of
from vla.s2.hub import load_vlm, save_vlm
from vla.s2.parts import LoraSettings, TrainedParts, frozen
from vla.s2.places import PLACE_TOKENS
from vla.s2.prompting import Prompter
from vla.s2.reading import Prefix, go_on, look, look_bare, shallow, window
from vla.s2.tokenizer import decode
from vla.strict import parse, to_plain

CONFIG_FILE = "slow_system.json"
QUERIES_FILE = "queries.safetensors"
GROUPS, GROUP = 4, 16
"""Into how many groups of like length questions are sorted, and how large each is at least. On a GPU there is one: what
takes time there is how many operations are started, not how much each pads."""


@dataclass(frozen=True)
class SlowConfig:
    """cameras: in the order of the image sequence. queries: K. layer: decoder layer of the latents, -1 is the last.

    words_prompt: what is asked of it while it works, for onlookers; {} is the instruction.
    vlm: hub id or folder of the VLM it starts from; none is the small one, from nothing.
    train: what of the VLM is trained; without it everything, or with `lora` the decoder's LoRA alone.
    dtype: of weights that are not trained, where the device computes in it.
    int8: load the weights in int8, for serving (`vla quantize`).
    """

    cameras: tuple[str, ...] = ("front",)
    queries: int = 8
    layer: int = -1
    words_prompt: str = "{}"
    vlm: str | None = None
    train: TrainedParts | None = None
    lora: LoraSettings | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    int8: bool = False

    def __post_init__(self) -> None:
        try:
            self.words_prompt.format("")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError(f"words_prompt is {self.words_prompt!r}: {{}} is where the instruction goes") from None


class SlowOutput(NamedTuple):
    """latents (Q, K, D); word_loss scalar or None.

    Of the small S2 also what its training-only heads read: visual (B, N, D), the projected image tokens, and the
    tower's maps, coarse last.
    """

    latents: Float[Tensor, "Q K D"]
    word_loss: Tensor | None
    visual: Float[Tensor, "B N D"] | None
    maps: tuple[Tensor, ...] = ()


class SlowSystem(nn.Module):
    """Images and words in, latents and words out. Raises UserError if the VLM is of a kind it cannot read."""

    def __init__(self, model: PreTrainedModel, processor: Any, config: SlowConfig) -> None:
        super().__init__()
        self.config = config
        self._rounded_from: Path | None = None
        # Any: which attributes a hub model and its processor have is known at run time only.
        self.model: Any = model
        self.processor: Any = processor
        self.tokenizer = processor.tokenizer
        where = config.vlm or "of S2"
        self.family = family_of(model.config, where)
        self.prompter = Prompter(processor, self.family, where)
        depth = len(self._decoder.layers)
        if not -depth <= config.layer < depth:
            raise UserError(f"S2 config: layer is {config.layer}, the model has {depth} decoder layers")
        self.depth = config.layer % depth + 1
        with torch.no_grad():
            words = self._embed(torch.arange(min(1000, len(self.tokenizer)), device=model.device)).float()
        cast_features(model, self.family)
        # Queries as large as words are: what a pretrained decoder expects to see.
        self.queries = nn.Parameter(torch.randn(config.queries, words.shape[1], device=model.device) * words.std())
        self._ids = lru_cache(maxsize=1 << 16)(self.prompter.encode)
        stops = getattr(model.generation_config, "eos_token_id", None) or []
        self._stops = {self.tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])}
        self._window = window(self._decoder.config)
        self._pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        self._mean: Tensor
        self._std: Tensor
        self._places: Tensor
        known = self.tokenizer.get_vocab()
        places = [known[token] for token in PLACE_TOKENS if token in known]
        self.register_buffer("_places", torch.tensor(places, dtype=torch.long), persistent=False)
        pixels = self.processor.image_processor
        self.register_buffer("_mean", torch.tensor(pixels.image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(pixels.image_std).view(3, 1, 1), persistent=False)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """(K, D)"""
        return (self.queries.shape[0], self.queries.shape[1])

    @property
    def map_widths(self) -> tuple[int, int] | None:
        """Of the tower's last two maps, which only the small S2 shows."""
        vision = self.model.config.vision_config
        return (vision.channels[-2], vision.hidden_size) if self.family.bare else None

    @property
    def device(self) -> torch.device:
        return self.queries.device

    def forward(
        self,
        images: UInt8[Tensor, "B V *T H W 3"],
        prompts: Sequence[str],
        answers: Sequence[str] | None = None,
        place_weight: float = 1.0,
        insulate: bool = False,
    ) -> SlowOutput:
        """Read the images and every prompt; with answers, also the mean cross-entropy of their tokens.

        images: of every camera one, or a clip of T frames, oldest first: a family with videos reads it as one.
        place_weight: how much a place token counts in that mean. It is one of 64 and hard to hit exactly; an answer has
        many of them, and then the one word that matters.
        insulate: gradients reach the queries, and the VLM's weights not.
        There may be several prompts per image: question i is about image i // (len(prompts) / B).
        Without answers the decoder layers above `config.layer` are not run.
        """
        with frozen(self.model) if insulate else nullcontext():
            return self._forward(images, prompts, answers, place_weight)

    def _forward(
        self,
        images: UInt8[Tensor, "B V *T H W 3"],
        prompts: Sequence[str],
        answers: Sequence[str] | None,
        place_weight: float,
    ) -> SlowOutput:
        prefix, rows = self._look(images, prompts, answers is not None)
        parts, losses, said = [], [], []
        groups = self._groups(prompts, answers, prefix.length)
        for group in groups:
            about = prefix.at([rows[i] for i in group])
            if answers is None:
                parts.append(self._ask(about, _pick(group, prompts), self._shallow)[1])
                continue
            latents, loss, tokens = self._answer(about, _pick(group, prompts), _pick(group, answers))
            parts.append(latents)
            losses.append(loss)
            said.append(tokens)
        back = self._back(groups)
        if answers is None:
            return SlowOutput(torch.cat(parts)[back].float(), None, prefix.visual, prefix.maps)
        weights = torch.where(torch.isin(torch.cat(said), self._places), place_weight, 1.0)
        word_loss = (weights * torch.cat(losses)).sum() / weights.sum().clamp(min=1)
        return SlowOutput(torch.cat(parts)[back].float(), word_loss, prefix.visual, prefix.maps)

    def _answer(
        self, prefix: Prefix, prompts: Sequence[str], answers: Sequence[str]
    ) -> tuple[Float[Tensor, "Q K D"], Float[Tensor, " tokens"], Int[Tensor, " tokens"]]:
        """Latents, and the cross-entropy of every token of the answers, with those tokens."""
        ids, mask = self._word_ids(prompts)
        answer_ids, wanted = self._answer_ids(answers)
        count, width = self.config.queries, answer_ids.shape[1]
        embeds = torch.cat([self._with_queries(ids), self._embed(answer_ids)], 1)
        mask = nn.functional.pad(mask, (0, count + width), value=1)
        hidden, latents = self._read(prefix, embeds, mask, self._decoder, width)
        # The state before each answer token predicts it; the first is predicted by the last query.
        logits = self.model.get_output_embeddings()(hidden[:, -width - 1 : -1][wanted])
        said = answer_ids[wanted]
        return latents, nn.functional.cross_entropy(logits.float(), said, reduction="none"), said

    def _ask(
        self, prefix: Prefix, prompts: Sequence[str], decoder: Any
    ) -> tuple[Float[Tensor, "Q 1 D"], Float[Tensor, "Q K D"], Int[Tensor, "Q L"]]:
        """The last state, which the first word follows, the latents, and the mask of the text so far."""
        ids, mask = self._word_ids(prompts)
        mask = nn.functional.pad(mask, (0, self.config.queries), value=1)
        hidden, latents = self._read(prefix, self._with_queries(ids), mask, decoder)
        return hidden[:, -1:], latents, mask

    def _groups(self, prompts: Sequence[str], answers: Sequence[str] | None, others: int) -> list[list[int]]:
        """Questions that are asked together. With answers, a few groups of about one length: padding all to the longest
        would double the work. A decoder that looks back only so far counts the padding before the words too: then of
        exactly one length. others: tokens of each sequence beside words, queries and answer.
        """
        words = [len(self.prompter.words(prompt)) for prompt in prompts]
        lengths = words
        if answers is not None:
            lengths = [length + len(self._ids(answer)) for length, answer in zip(words, answers, strict=True)]
        if self._window and others + max(lengths) + self.config.queries > self._window:
            return [[i for i, length in enumerate(words) if length == wanted] for wanted in sorted(set(words))]
        if answers is None:
            return [list(range(len(prompts)))]
        order = sorted(range(len(prompts)), key=lengths.__getitem__)
        size = len(order) if self.device.type == "cuda" else max(GROUP, -(-len(order) // GROUPS))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _back(self, groups: Sequence[Sequence[int]]) -> Int[Tensor, " Q"]:
        """Where in the groups one after the other each question is."""
        return torch.tensor([i for group in groups for i in group], device=self.device).argsort()

    @torch.no_grad()
    def think(
        self, images: UInt8[Tensor, "B V *T H W 3"], prompts: Sequence[str], max_new_tokens: int = 0
    ) -> tuple[Float[Tensor, "Q K D"], list[str] | None]:
        """Latents, and with `max_new_tokens` the words too, greedily decoded from the same reading."""
        if max_new_tokens <= 0:
            return self(images, prompts).latents, None
        prefix, rows = self._look(images, prompts, deep=True)
        groups = self._groups(prompts, None, prefix.length + max_new_tokens)
        said = [
            self._say(prefix.at([rows[i] for i in group]), _pick(group, prompts), max_new_tokens) for group in groups
        ]
        back = self._back(groups)
        spoken = [text for _, texts in said for text in texts]
        return torch.cat([latents for latents, _ in said])[back].float(), _pick(back.tolist(), spoken)

    def _say(
        self, prefix: Prefix, prompts: Sequence[str], max_new_tokens: int
    ) -> tuple[Float[Tensor, "Q K D"], list[str]]:
        hidden, latents, mask = self._ask(prefix, prompts, self._decoder)
        spoken: list[Tensor] = []
        stops = torch.tensor(sorted(self._stops), device=self.device)
        done = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)
        for _ in range(max_new_tokens):
            logits = self.model.get_output_embeddings()(hidden[:, -1])
            token = logits.argmax(-1).masked_fill(done, self._pad)
            spoken.append(token)
            done |= torch.isin(token, stops)
            if bool(done.all()):
                break
            mask = nn.functional.pad(mask, (0, 1), value=1)
            hidden = go_on(prefix, self._embed(token[:, None]), mask, self._decoder)[0]
        return latents, [decode(self.tokenizer, row) for row in torch.stack(spoken, 1).tolist()]

    def speak(self, images: UInt8[Tensor, "B V H W 3"], prompts: Sequence[str], max_new_tokens: int = 32) -> list[str]:
        """The answer to every prompt, greedily decoded."""
        return self.think(images, prompts, max_new_tokens)[1] or []

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def _decoder(self) -> Any:
        return attrgetter(self.family.decoder)(self.model.model)

    @property
    def _shallow(self) -> Any:
        return shallow(self._decoder, self.depth)

    def normalise(self, images: UInt8[Tensor, "... H W 3"]) -> Float[Tensor, "... 3 H W"]:
        """What the saved image processor does to images of the model's own size, without its per-image Python."""
        pixels = images.movedim(-1, -3).to(self.device, torch.float32)
        return (pixels / 255 - self._mean) / self._std

    def _read(
        self, prefix: Prefix, embeds: Float[Tensor, "Q T D"], mask: Int[Tensor, "Q L"], decoder: Any, after: int = 0
    ) -> tuple[Float[Tensor, "Q T D"], Float[Tensor, "Q K D"]]:
        """Final states, and the states at the latents' layer of the queries, which end `after` before the end."""
        hidden, states = go_on(prefix, embeds, mask, decoder, self.depth)
        end = states.shape[1] - after
        return hidden, states[:, end - self.config.queries : end]

    def _look(
        self, images: UInt8[Tensor, "B V *T H W 3"], prompts: Sequence[str], deep: bool
    ) -> tuple[Prefix, list[int]]:
        """All up to the words, and the row of every question in it. deep: run the whole decoder, as words need."""
        batch = images.shape[0]
        if len(prompts) % batch:
            raise ValueError(f"{len(prompts)} prompts cannot be shared evenly among {batch} images")
        rows = [i * batch // len(prompts) for i in range(len(prompts))]
        decoder = self._decoder if deep else self._shallow
        if self.family.bare:
            return look_bare(self.model, self._scaled(images), decoder), rows
        images = images.to(self.device)
        if self.family.prefix:
            images, rows = images[torch.tensor(rows, device=self.device)], list(range(len(prompts)))
        inputs = {name: value.to(self.device) for name, value in self.prompter.head(images, prompts).items()}
        return look(self.model, self.family, inputs, decoder), rows

    def _scaled(self, images: UInt8[Tensor, "B V H W 3"]) -> Float[Tensor, "B V 3 S S"]:
        side = self.model.config.vision_config.image_size
        pixels = self.normalise(images.flatten(0, 1))
        if pixels.shape[-2:] != (side, side):
            pixels = nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return pixels.unflatten(0, images.shape[:2])

    # --- words ---------------------------------------------------------------------------------------------------

    def _word_ids(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "Q P"], Int[Tensor, "Q P"]]:
        """What follows the images, padded in front, and 1 where it is real."""
        rows = [self.prompter.words(prompt) for prompt in prompts]
        width = max(map(len, rows))
        ids = torch.tensor([(self._pad,) * (width - len(row)) + row for row in rows], dtype=torch.long)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], dtype=torch.long)
        return ids.to(self.device), mask.to(self.device)

    def _answer_ids(self, answers: Sequence[str]) -> tuple[Int[Tensor, "Q A"], Tensor]:
        """Answers, each with its end, padded behind, and True where they are real."""
        rows = [(*self._ids(answer), self.tokenizer.eos_token_id) for answer in answers]
        width = max(map(len, rows))
        ids = torch.tensor([row + (self._pad,) * (width - len(row)) for row in rows])
        real = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        return ids.to(self.device), real.to(self.device)

    def _embed(self, ids: Int[Tensor, "Q T"]) -> Float[Tensor, "Q T D"]:
        return self.model.get_input_embeddings()(ids)

    def _with_queries(self, ids: Int[Tensor, "Q P"]) -> Float[Tensor, "Q P+K D"]:
        words = self._embed(ids)
        return torch.cat([words, self.queries.to(words.dtype).expand(ids.shape[0], -1, -1)], 1)

    # --- on disk -------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: Path | str, dtype: torch.dtype | None = None) -> None:
        """Write a Hugging Face model folder, LoRA merged into its weights, plus `slow_system.json` and the queries.

        Of an int8 S2 the model is copied from where it was loaded: it was rounded then.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = dtype or self.queries.dtype
        if self._rounded_from:
            shutil.copytree(self._rounded_from, folder, dirs_exist_ok=True)
        else:
            save_vlm(self.model, self.processor, folder, dtype)
        save_file({"queries": whole(self.queries.detach()).to("cpu", dtype).contiguous()}, folder / QUERIES_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(to_plain(self.config), indent=2) + "\n")

    @classmethod
    def from_vlm(cls, config: SlowConfig, device: str = "cpu") -> SlowSystem:
        """A new S2 on the VLM `config.vlm` names, a hub id or a folder, with queries yet to be trained."""
        assert config.vlm is not None
        model, processor = load_vlm(config.vlm, getattr(torch, config.dtype))
        return cls(model, processor, config).to(device)

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype | None = torch.float32) -> SlowSystem:
        """Load what `save_pretrained` wrote; UserError says which file is missing or broken.

        dtype: None is that of its configuration, for training (`vla.s2.parts.set_trained`).
        """
        folder = Path(folder)
        for name in (CONFIG_FILE, QUERIES_FILE, "config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(f"S2 checkpoint {folder}: {name} is missing; is this a saved S2?")
        try:
            settings = json.loads((folder / CONFIG_FILE).read_text())
            queries = load_file(folder / QUERIES_FILE)["queries"]
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UserError(f"S2 checkpoint {folder} cannot be read ({error}); save or download it again") from error
        config = parse(SlowConfig, settings, f"S2 checkpoint {folder}: {CONFIG_FILE}")
        system = cls(*load_vlm(str(folder), dtype or getattr(torch, config.dtype)), config)
        if queries.shape != system.queries.shape:
            expected = tuple(system.queries.shape)
            raise UserError(f"S2 checkpoint {folder}: {QUERIES_FILE} is {tuple(queries.shape)}, expected {expected}")
        with torch.no_grad():
            system.queries.copy_(queries)
        if config.int8:
            from vla.s2.int8 import to_int8  # torchao's imports, which others do without

            to_int8(system.model)
            system._rounded_from = folder
        return system.eval()


def _pick(rows: Sequence[int], items: Sequence[str]) -> list[str]:
    return [items[i] for i in rows]

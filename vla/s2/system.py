"""S2: any LLaVA-shaped model of `transformers`, read through K learned query tokens.

One causal sequence per question:

    image tokens | prompt | K queries | answer

The latents are the hidden states of the queries; the answer follows them, so speaking continues the same
prefix with its key-value cache. The images come first and see no words, so they are read once however many
questions are asked about them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache, PreTrainedModel
from transformers.utils import logging as transformers_logging

from vla.errors import UserError
from vla.s2 import tower  # noqa: F401  makes the Auto classes know the small S2's tower
from vla.s2.places import PLACE_TOKENS
from vla.s2.tokenizer import decode

CONFIG_FILE = "slow_system.json"
QUERIES_FILE = "queries.safetensors"
GROUPS, GROUP = 4, 16
"""Into how many groups of like length questions are sorted, and how large each is at least."""


@dataclass(frozen=True)
class SlowConfig:
    """cameras: in the order of the image sequence. queries: K. layer: decoder layer of the latents, -1 is the last.

    words_prompt: what is asked of it while it works, for onlookers; {} is the instruction.
    """

    cameras: tuple[str, ...] = ("front",)
    queries: int = 8
    layer: int = -1
    words_prompt: str = "{}"


@dataclass(frozen=True)
class SlowOutput:
    """latents (Q, K, D); word_loss scalar or None; visual (B, N, D) projected image tokens; tower maps, coarse last."""

    latents: Float[Tensor, "Q K D"]
    word_loss: Tensor | None
    visual: Float[Tensor, "B N D"]
    maps: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class _Prefix:
    """The read images: their key-value cache, projected tokens and tower maps."""

    cache: DynamicCache
    visual: Tensor
    maps: tuple[Tensor, ...]

    def of(self, per_image: int) -> DynamicCache:
        """The cache to go on from with so many questions about each image, which it is then no more."""
        if per_image > 1:
            self.cache.batch_repeat_interleave(per_image)
        return self.cache

    def at(self, images: list[int]) -> DynamicCache:
        """A cache of its own to go on from with a question about each of `images`."""
        rows = torch.tensor(images, device=self.visual.device)
        layers: list[Any] = self.cache.layers  # its types leave open whether there is anything in it yet
        return DynamicCache([(layer.keys[rows], layer.values[rows]) for layer in layers])


class SlowSystem(nn.Module):
    """Images and words in, latents and words out."""

    def __init__(self, model: PreTrainedModel, processor: Any, config: SlowConfig) -> None:
        super().__init__()
        self.config = config
        # Any: which attributes a hub model and its processor have is known at run time only.
        self.model: Any = model
        self.processor: Any = processor
        self.tokenizer = self.processor.tokenizer
        depth = len(self._decoder.layers)
        if not -depth <= config.layer < depth:
            raise UserError(f"S2 config: layer is {config.layer}, the model has {depth} decoder layers")
        self.depth = config.layer % depth + 1
        width = model.config.text_config.hidden_size
        self.queries = nn.Parameter(torch.randn(config.queries, width) * model.config.text_config.initializer_range)
        self._ids = lru_cache(maxsize=1 << 16)(self._encode)
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
    def device(self) -> torch.device:
        return self.queries.device

    def forward(
        self,
        images: UInt8[Tensor, "B V H W 3"],
        prompts: Sequence[str],
        answers: Sequence[str] | None = None,
        place_weight: float = 1.0,
    ) -> SlowOutput:
        """Read the images and every prompt; with answers, also the mean cross-entropy of their tokens.

        place_weight: how much a place token counts in that mean. It is one of 64 and hard to hit exactly; an answer has
        many of them, and then the one word that matters.
        There may be several prompts per image: question i is about image i // (len(prompts) / B).
        Without answers the decoder layers above `config.layer` are not run.
        """
        prefix = self._look(images, self._decoder if answers is not None else self._shallow())
        per_image = _questions_per_image(len(prompts), images.shape[0])
        count = self.config.queries
        if answers is None:
            ids, mask = self._prompt_ids(prompts)
            mask = nn.functional.pad(mask, (0, count), value=1)
            hidden = self._read(self._shallow(), prefix.of(per_image), self._with_queries(ids), mask)[0]
            return SlowOutput(hidden[:, -count:].float(), None, prefix.visual, prefix.maps)

        parts, losses, said, places = [], [], [], []
        for rows in self._alike(prompts, answers):
            cache = prefix.at([i // per_image for i in rows])
            latents, loss, tokens = self._answer(cache, *_pick(rows, prompts, answers))
            parts.append(latents)
            losses.append(loss)
            said.append(tokens)
            places += rows
        back = torch.tensor(places, device=self.device).argsort()
        weights = torch.where(torch.isin(torch.cat(said), self._places), place_weight, 1.0)
        word_loss = (weights * torch.cat(losses)).sum() / weights.sum().clamp(min=1)
        return SlowOutput(torch.cat(parts)[back].float(), word_loss, prefix.visual, prefix.maps)

    def _answer(
        self, cache: DynamicCache, prompts: Sequence[str], answers: Sequence[str]
    ) -> tuple[Float[Tensor, "Q K D"], Float[Tensor, " tokens"], Int[Tensor, " tokens"]]:
        """Latents, and the cross-entropy of every token of the answers, with those tokens."""
        ids, mask = self._prompt_ids(prompts)
        answer_ids = self._answer_ids(answers)
        count, width = self.config.queries, answer_ids.shape[1]
        embeds = torch.cat([self._with_queries(ids), self._embed(answer_ids)], 1)
        mask = nn.functional.pad(mask, (0, count + width), value=1)
        hidden, latents = self._read(self._decoder, cache, embeds, mask, count, width)
        # The state before each answer token predicts it; the first is predicted by the last query.
        wanted = answer_ids != self.tokenizer.pad_token_id
        logits = self.model.get_output_embeddings()(hidden[:, -width - 1 : -1][wanted])
        said = answer_ids[wanted]
        return latents, nn.functional.cross_entropy(logits.float(), said, reduction="none"), said

    def _alike(self, prompts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Questions in a few groups of about one length: padding all to the longest would double the work."""
        pairs = zip(prompts, answers, strict=True)
        lengths = [len(self._ids(prompt)) + len(self._ids(answer)) for prompt, answer in pairs]
        order = sorted(range(len(prompts)), key=lengths.__getitem__)
        size = max(GROUP, -(-len(order) // GROUPS))
        return [order[start : start + size] for start in range(0, len(order), size)]

    @torch.no_grad()
    def think(
        self, images: UInt8[Tensor, "B V H W 3"], prompts: Sequence[str], max_new_tokens: int = 0
    ) -> tuple[Float[Tensor, "Q K D"], list[str] | None]:
        """Latents, and with `max_new_tokens` the words too, greedily decoded from the same reading."""
        if max_new_tokens <= 0:
            return self(images, prompts).latents, None
        per_image = _questions_per_image(len(prompts), images.shape[0])
        prefix = self._look(images, self._decoder)
        ids, mask = self._prompt_ids(prompts)
        count = self.config.queries
        mask = nn.functional.pad(mask, (0, count), value=1)
        cache = prefix.of(per_image)
        hidden, latents = self._read(self._decoder, cache, self._with_queries(ids), mask, count, 0)

        spoken: list[Tensor] = []
        done = torch.zeros(len(prompts), dtype=torch.bool, device=self.device)
        for _ in range(max_new_tokens):
            logits = self.model.get_output_embeddings()(hidden[:, -1])
            token = logits.argmax(-1).masked_fill(done, self.tokenizer.pad_token_id)
            spoken.append(token)
            done |= token == self.tokenizer.eos_token_id
            if bool(done.all()):
                break
            mask = nn.functional.pad(mask, (0, 1), value=1)
            hidden = self._read(self._decoder, cache, self._embed(token[:, None]), mask)[0]
        rows = torch.stack(spoken, 1).tolist()
        return latents.float(), [decode(self.tokenizer, row) for row in rows]

    def speak(self, images: UInt8[Tensor, "B V H W 3"], prompts: Sequence[str], max_new_tokens: int = 32) -> list[str]:
        """The answer to every prompt, greedily decoded."""
        return self.think(images, prompts, max_new_tokens)[1] or []

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def _decoder(self) -> Any:
        return self.model.model.language_model

    def _shallow(self) -> Any:
        """The decoder up to the latents' layer: the same weights, nothing above."""
        decoder = self._decoder
        if self.depth == len(decoder.layers):
            return decoder
        shallow = copy.copy(decoder)
        shallow._modules = {**decoder._modules, "layers": decoder.layers[: self.depth]}
        return shallow

    def normalise(self, images: UInt8[Tensor, "... H W 3"]) -> Float[Tensor, "... 3 H W"]:
        """What the saved image processor does to images of the model's own size, without its per-image Python."""
        pixels = images.movedim(-1, -3).to(self.device, torch.float32)
        return (pixels / 255 - self._mean) / self._std

    def _look(self, images: UInt8[Tensor, "B V H W 3"], decoder: Any) -> _Prefix:
        batch, views = images.shape[:2]
        side = self.model.config.vision_config.image_size
        pixels = self.normalise(images.flatten(0, 1))
        if pixels.shape[-2:] != (side, side):
            pixels = nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        seen = self.model.get_image_features(pixels, return_dict=True)
        visual = torch.stack(tuple(seen.pooler_output)).unflatten(0, (batch, views)).flatten(1, 2)
        out = decoder(inputs_embeds=visual, use_cache=True)
        return _Prefix(out.past_key_values, visual, tuple(seen.hidden_states))

    def _read(
        self,
        decoder: Any,
        cache: DynamicCache,
        embeds: Float[Tensor, "Q T D"],
        mask: Int[Tensor, "Q L"],
        queries: int = 0,
        after: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Continue the cached sequence with `embeds`.

        mask: 1 for what is real in all text so far (L >= T), 0 for padding before short prompts. Positions skip
        the padding, so a short prompt reads the same alone and in a batch.
        Returns the final hidden states and, with `queries`, the latents: as many states, ending `after` before the end.
        """
        text = mask.shape[1]
        seen = cache.get_seq_length() - (text - embeds.shape[1])
        positions = (seen + mask.cumsum(1) - 1)[:, -embeds.shape[1] :].clamp(min=0)
        above = queries > 0 and self.depth < len(self._decoder.layers)
        out = decoder(
            inputs_embeds=embeds,
            attention_mask=nn.functional.pad(mask, (seen, 0), value=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=above,
        )
        hidden = out.last_hidden_state
        states = self._decoder.norm(out.hidden_states[self.depth]) if above else hidden
        end = states.shape[1] - after
        return hidden, states[:, end - queries : end]

    # --- words ---------------------------------------------------------------------------------------------------

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _prompt_ids(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "Q P"], Int[Tensor, "Q P"]]:
        start, pad = self.tokenizer.bos_token_id, self.tokenizer.pad_token_id
        rows = [(start, *self._ids(prompt)) for prompt in prompts]
        width = max(map(len, rows))
        ids = torch.tensor([(pad,) * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return ids.to(self.device), mask.to(self.device)

    def _answer_ids(self, answers: Sequence[str]) -> Int[Tensor, "Q A"]:
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        rows = [(*self._ids(answer), end) for answer in answers]
        width = max(map(len, rows))
        return torch.tensor([row + (pad,) * (width - len(row)) for row in rows]).to(self.device)

    def _embed(self, ids: Int[Tensor, "Q T"]) -> Float[Tensor, "Q T D"]:
        return self.model.get_input_embeddings()(ids)

    def _with_queries(self, ids: Int[Tensor, "Q P"]) -> Float[Tensor, "Q P+K D"]:
        return torch.cat([self._embed(ids), self.queries.expand(ids.shape[0], -1, -1)], 1)

    # --- on disk -------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: Path | str, dtype: torch.dtype | None = None) -> None:
        """Write a Hugging Face model folder, plus `slow_system.json` and the queries."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = dtype or self.queries.dtype
        # named_parameters lists tied weights once, as the hub's own files do.
        weights = {name: p.detach().to("cpu", dtype).contiguous() for name, p in self.model.named_parameters()}
        weights |= {name: b.to("cpu", b.dtype).contiguous() for name, b in _saved_buffers(self.model)}
        model_config = copy.deepcopy(self.model.config)
        model_config.dtype = dtype
        model_config.architectures = [type(self.model).__name__]
        model_config.save_pretrained(folder)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        self.processor.save_pretrained(folder)
        save_file({"queries": self.queries.detach().to("cpu", dtype).contiguous()}, folder / QUERIES_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: Path | str, dtype: torch.dtype = torch.float32) -> SlowSystem:
        """Load what `save_pretrained` wrote; UserError says which file is missing or broken."""
        folder = Path(folder)
        for name in (CONFIG_FILE, QUERIES_FILE, "config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise UserError(f"S2 checkpoint {folder}: {name} is missing; is this a saved S2?")
        try:
            settings = json.loads((folder / CONFIG_FILE).read_text())
            config = SlowConfig(**{**settings, "cameras": tuple(settings["cameras"])})
            queries = load_file(folder / QUERIES_FILE)["queries"]
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            with _no_bar():
                model = AutoModelForImageTextToText.from_pretrained(
                    folder, dtype=dtype, attn_implementation="eager", local_files_only=True
                )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"S2 checkpoint {folder} cannot be read ({error}); save or download it again") from error
        system = cls(model, processor, config)
        if queries.shape != system.queries.shape:
            expected = tuple(system.queries.shape)
            raise UserError(f"S2 checkpoint {folder}: {QUERIES_FILE} is {tuple(queries.shape)}, expected {expected}")
        with torch.no_grad():
            system.queries.copy_(queries)
        return system.eval()


@contextmanager
def _no_bar() -> Iterator[None]:
    """Without transformers' own progress bar, which a model of two megabytes does not need."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _saved_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that belong in a checkpoint, non-persistent ones left out."""
    kept = model.state_dict().keys()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in kept]


def _pick(rows: Sequence[int], *lists: Sequence[str]) -> list[list[str]]:
    return [[items[i] for i in rows] for items in lists]


def _questions_per_image(questions: int, images: int) -> int:
    if questions % images:
        raise ValueError(f"{questions} prompts cannot be shared evenly among {images} images")
    return questions // images

"""The small S2 we train from nothing: a LLaVA of a few million parameters around the conv tower."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import CLIPImageProcessor, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from vla.s2.system import SlowConfig, SlowSystem
from vla.s2.tokenizer import IMAGE, train_tokenizer
from vla.s2.tower import ConvTowerConfig


@dataclass(frozen=True)
class SmallShape:
    """Sizes of the small LLaVA. image_size in pixels; `channels` of the tower's stride-2 stages."""

    image_size: int = 96
    channels: tuple[int, ...] = (32, 64, 128, 192)
    width: int = 192
    layers: int = 3
    heads: int = 4
    mlp: int = 512
    vocabulary: int = 1536

    def __post_init__(self) -> None:
        stride = 2 ** len(self.channels)
        if self.image_size < stride or self.image_size % stride:
            raise ValueError(f"image_size is {self.image_size}, it must be a multiple of {stride} pixels, one token's")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width is {self.width}, it must be a multiple of heads ({self.heads})")


def small_slow_system(
    sentences: Iterable[str], config: SlowConfig | None = None, shape: SmallShape | None = None
) -> SlowSystem:
    """An untrained small S2 whose tokenizer knows the words of `sentences`."""
    shape = shape or SmallShape()
    tokenizer = train_tokenizer(sentences, shape.vocabulary)
    # from_dict: the constructors' fields are known to transformers only, not to a type checker.
    marks = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = ConvTowerConfig.from_dict({"channels": list(shape.channels), "image_size": shape.image_size})
    text = LlamaConfig.from_dict(
        {
            "vocab_size": len(tokenizer),
            "hidden_size": shape.width,
            "intermediate_size": shape.mlp,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads,
            "max_position_embeddings": 1024,
            **marks,
        }
    )
    llava = LlavaConfig.from_dict(
        {
            "vision_config": vision.to_dict(),
            "text_config": text.to_dict(),
            "image_token_index": tokenizer.convert_tokens_to_ids(IMAGE),
            "image_seq_length": vision.tokens,
            "vision_feature_select_strategy": "full",
            "vision_feature_layer": -1,
            "tie_word_embeddings": True,
            **marks,
        }
    )
    side = {"height": shape.image_size, "width": shape.image_size}
    images = CLIPImageProcessor(size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="full",
        image_token=IMAGE,
    )
    # Below about a hundred tokens eager attention trains faster on a CPU than the fused kernels.
    model = LlavaForConditionalGeneration._from_config(llava, attn_implementation="eager")
    return SlowSystem(model, processor, config or SlowConfig())

"""A SmolVLM cut to size, for SmolVLA from nothing: configuration, tokenizer and processor as a folder, no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

MARKS = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}


@dataclass(frozen=True)
class SmallVlm:
    """width, layers, heads: of both towers. patch: pixels of a side; 2 x 2 are a token. words: in the vocabulary."""

    width: int = 192
    layers: int = 4
    heads: int = 3
    patch: int = 16
    words: int = 1024


def write_small_vlm(folder: Path, shape: SmallVlm, size: int, texts: Sequence[str]) -> None:
    """What `vlm_model_name` may name. size: side of the pictures in pixels; texts: what the tokenizer is made for."""
    words = _tokenizer(texts, shape.words)
    ids = {"pad_token_id": words.pad_token_id, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    tower = {
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": 3 * shape.width,
    }
    heads = {"num_key_value_heads": shape.heads, "head_dim": shape.width // shape.heads}
    classes: Any = hf  # loaded when they are named, which type checkers do not see
    config = classes.SmolVLMConfig(
        vision_config={**tower, "model_type": "smolvlm_vision", "image_size": size, "patch_size": shape.patch},
        text_config={**tower, **heads, **ids, "model_type": "llama", "vocab_size": len(words)},
        image_token_id=words.convert_tokens_to_ids(MARKS["image_token"]),
        scale_factor=2,
        **ids,
    )
    config.save_pretrained(folder)
    side = {"longest_edge": size}
    pictures = classes.SmolVLMImageProcessor(size=side, max_image_size=side)
    video = classes.SmolVLMVideoProcessor(size=side)
    classes.SmolVLMProcessor(pictures, words, video, image_seq_len=4, chat_template=" ").save_pretrained(folder)


def _tokenizer(texts: Sequence[str], size: int) -> hf.PreTrainedTokenizerFast:
    """Byte-level BPE of these texts, deterministic in their order."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", *MARKS.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", extra_special_tokens=MARKS
    )

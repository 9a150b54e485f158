"""One tiny VLM of every family: the real classes of `transformers` with random weights, and a tokenizer made here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCES = ["lift the red cube", "push the blue ball to the left", "what is there? a red cube", "User: Assistant:"]
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
CHAT = (
    "{{ BOS }}{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE"
    "{% elif c['type'] == 'video' %}VIDEO{% else %}{{ c['text'] }}{% endif %}{% endfor %}END\n{% endfor %}ASSISTANT: "
)


def template(image: str, end: str = "</s>", start: str = "", video: str = "") -> str:
    return CHAT.replace("{{ BOS }}", start).replace("IMAGE", image).replace("VIDEO", video).replace("END", end)


def tokenizer(**marks: str) -> Any:
    """Byte-level BPE; marks become tokens, and attributes by their names."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", *marks.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", extra_special_tokens=marks
    )


def _siglip(side: int, patch: int) -> dict[str, Any]:
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }


def _ids(words: Any) -> dict[str, Any]:
    return {"pad_token_id": words.pad_token_id, "bos_token_id": 1, "eos_token_id": 2}


def _text(words: Any, **more: Any) -> dict[str, Any]:
    return {**TEXT, "vocab_size": len(words), **_ids(words), **more}


def llava() -> tuple[Any, Any]:
    words = tokenizer(image_token="<image>")
    vision = {**_siglip(32, 8), "model_type": "clip_vision_model", "projection_dim": 32}
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config=_text(words, model_type="llama"),
        image_token_index=words.image_token_id,
        image_seq_length=16,
        **_ids(words),
    )
    pixels = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = hf.LlavaProcessor(
        pixels,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>\n"),
    )
    return hf.LlavaForConditionalGeneration(config), processor


def _idefics(name: str) -> tuple[Any, Any]:
    marks = {"fake_image_token": "<fake_token_around_image>", "image_token": "<image>"}
    marks |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    words = tokenizer(**marks)
    config = getattr(hf, f"{name}Config")(
        vision_config={**_siglip(32, 8), "model_type": f"{name.lower()}_vision"},
        text_config=_text(words, model_type="llama"),
        image_token_id=words.image_token_id,
        scale_factor=2,
        **_ids(words),
    )
    pixels = getattr(hf, f"{name}ImageProcessor")(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    more = [hf.SmolVLMVideoProcessor(size={"longest_edge": 64})] if name == "SmolVLM" else []
    processor = getattr(hf, f"{name}Processor")(
        pixels, words, *more, image_seq_len=4, chat_template=template("<image>", "<end_of_utterance>", "<s>")
    )
    return getattr(hf, f"{name}ForConditionalGeneration")(config), processor


def _qwen(name: str) -> tuple[Any, Any]:
    marks = {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    marks |= {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    words = tokenizer(**marks)
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 8}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    if name == "Qwen3VL":
        vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
        rope["mrope_interleaved"] = True
    else:
        vision |= {"window_size": 32, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    config = getattr(hf, f"{name}Config")(
        vision_config=vision,
        text_config=_text(words, rope_parameters=rope),
        image_token_id=words.image_token_id,
        video_token_id=words.video_token_id,
        vision_start_token_id=words.vision_start_token_id,
        vision_end_token_id=words.vision_end_token_id,
        **_ids(words),
    )
    shape = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    size = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    pixels = hf.Qwen2VLImageProcessor(size=size, **shape)
    kind = "Qwen3VLVideoProcessor" if name == "Qwen3VL" else "Qwen2VLVideoProcessor"
    clips = getattr(hf, kind)(size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64 * 4}, **shape)
    around = [f"<|vision_start|>{token}<|vision_end|>" for token in ("<|image_pad|>", "<|video_pad|>")]
    chat = template(around[0], video=around[1])
    processor = getattr(hf, f"{name}Processor")(pixels, words, clips, chat_template=chat)
    return getattr(hf, f"{name}ForConditionalGeneration")(config), processor


def paligemma() -> tuple[Any, Any]:
    words = tokenizer(image_token="<image>")
    pixels = hf.SiglipImageProcessor(size={"height": 32, "width": 32})
    pixels.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(pixels, words)
    config = hf.PaliGemmaConfig(
        vision_config={**_siglip(32, 8), "vision_use_head": False},
        text_config=_text(words, model_type="gemma"),
        image_token_index=words.image_token_id,
        projection_dim=64,
        **_ids(words),
    )
    config.text_config.num_image_tokens = 16
    return hf.PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    marks = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    words = tokenizer(**marks)
    config = hf.Gemma3Config(
        vision_config={**_siglip(32, 8), "vision_use_head": False},
        # A window shorter than the prompt, so that the sliding layers have something to slide over.
        text_config=_text(words, sliding_window=8, layer_types=["sliding_attention", "full_attention"] * 2),
        image_token_index=words.image_token_id,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
        mm_tokens_per_image=4,
        **_ids(words),
    )
    pixels = hf.Gemma3ImageProcessor(size={"height": 32, "width": 32})
    chat = template("<start_of_image>", start="{{ bos_token }}")
    processor = hf.Gemma3Processor(pixels, words, chat_template=chat, image_seq_length=4)
    model = hf.Gemma3ForConditionalGeneration(config)
    # It begins with zeros, and would see nothing.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    return model, processor


def internvl() -> tuple[Any, Any]:
    marks = {"start_image_token": "<img>", "end_image_token": "</img>"}
    marks |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    words = tokenizer(**marks)
    config = hf.InternVLConfig(
        vision_config={
            **_siglip(32, 8),
            "model_type": "internvl_vision",
            "image_size": [32, 32],
            "patch_size": [8, 8],
        },
        text_config=_text(words, model_type="qwen2"),
        image_token_id=words.context_image_token_id,
        image_seq_length=4,
        **_ids(words),
    )
    pixels = hf.GotOcr2ImageProcessor(size={"height": 32, "width": 32})
    processor = hf.InternVLProcessor(
        pixels, words, hf.InternVLVideoProcessor(), image_seq_length=4, chat_template=template("<IMG_CONTEXT>\n")
    )
    return hf.InternVLForConditionalGeneration(config), processor


FAMILIES: Mapping[str, Callable[[], tuple[Any, Any]]] = {
    "llava": llava,
    "smolvlm": lambda: _idefics("SmolVLM"),
    "idefics3": lambda: _idefics("Idefics3"),
    "qwen2_5_vl": lambda: _qwen("Qwen2_5_VL"),
    "qwen3_vl": lambda: _qwen("Qwen3VL"),
    "paligemma": paligemma,
    "gemma3": gemma3,
    "internvl": internvl,
}


def write_vlm(name: str, folder: Path) -> Path:
    """A folder as the hub has it, of one family."""
    torch.manual_seed(0)
    model, processor = FAMILIES[name]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

"""A small conv tower that stands where LLaVA has a vision transformer.

A plain ViT from nothing hardly starts on tens of thousands of small images; strided convolutions with
dense labels do. Four stride-2 stages bring (H, W) to (H/16, W/16) tokens, with one residual convolution at
the middle two, and a learned position is added to every token.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from vla.conv import ConvStage


class ConvTowerConfig(PretrainedConfig):
    """Shape of the tower. `hidden_size` is the last of `channels`; `patch_size` is the stride of a token in pixels."""

    model_type = "conv_tower"
    base_config_key = "vision_config"

    channels: list[int] | None = None
    residual_stages: list[int] | None = None
    groups: int | None = None  # of the group norms; see vla.conv
    image_size: int = 96
    num_channels: int = 3
    hidden_size: int = 192
    num_hidden_layers: int = 4
    patch_size: int = 16

    def __post_init__(self, **kwargs):
        self.channels = list(self.channels or (32, 64, 128, 192))
        self.residual_stages = list(self.residual_stages if self.residual_stages is not None else (1, 2))
        self.hidden_size = self.channels[-1]
        self.num_hidden_layers = len(self.channels)
        self.patch_size = 2**self.num_hidden_layers
        super().__post_init__(**kwargs)

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2


class ConvTowerModel(PreTrainedModel):
    """Images to tokens, with the interface LLaVA expects of a vision tower.

    `hidden_states` holds the map after every stage but the last, flattened to (B, h*w, C), and then the tokens
    (B, N, D): index -1 is what LLaVA projects (`vision_feature_layer=-1`), index -2 the map at half its stride.
    """

    config: ConvTowerConfig
    config_class = ConvTowerConfig
    base_model_prefix = "conv_tower"
    main_input_name = "pixel_values"
    input_modalities = "image"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: ConvTowerConfig) -> None:
        super().__init__(config)
        assert config.channels is not None and config.residual_stages is not None
        widths = [config.num_channels, *config.channels]
        self.stages = nn.ModuleList(
            ConvStage(widths[i], widths[i + 1], i in config.residual_stages, config.groups)
            for i in range(len(config.channels))
        )
        self.position = nn.Parameter(torch.zeros(config.tokens, config.hidden_size))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.GroupNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, ConvTowerModel):
            init.normal_(module.position, std=0.1)

    def forward(self, pixel_values: Float[Tensor, "B 3 H W"], **_: object) -> BaseModelOutput:
        x = pixel_values.to(self.position.dtype).contiguous(memory_format=torch.channels_last)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.flatten(2).transpose(1, 2))
        tokens = maps[-1] + self.position
        return BaseModelOutput(last_hidden_state=tokens, hidden_states=(*maps[:-1], tokens))


# From here on the Auto classes of `transformers` load a saved small S2 like any other model.
AutoConfig.register(ConvTowerConfig.model_type, ConvTowerConfig, exist_ok=True)
AutoModel.register(ConvTowerConfig, ConvTowerModel, exist_ok=True)

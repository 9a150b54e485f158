"""Models of `transformers` from a folder or from the hub, and what is wrong when they do not come."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PretrainedConfig
from transformers.utils import logging as transformers_logging

from vla.errors import UserError
from vla.s2 import tower  # noqa: F401  makes the Auto classes know the small S2's tower
from vla.s2.adapters import check_kind, family_of
from vla.s2.parts import plain_weights


def load_vlm(where: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """(model, processor) of a folder or a hub id. No code of the hub's is ever run.

    Raises UserError: no such folder, the hub out of reach, a kind of model S2 cannot read, files that are damaged, a
    package missing.
    """
    local = Path(where).expanduser()
    if not local.is_dir() and (where.count("/") != 1 or where[0] in "./~"):
        raise UserError(f"VLM {where}: there is no such folder, and a hub id looks like owner/name")
    source = str(local) if local.is_dir() else where
    try:
        # First as it is written: a kind that transformers does not know either is no damaged file.
        check_kind(PretrainedConfig.get_config_dict(source)[0].get("model_type"), where)
        config = AutoConfig.from_pretrained(source)
        family = family_of(config, where)
        # Below about a hundred tokens eager attention trains faster on a CPU than the fused kernels.
        attention = "eager" if family.bare else None
        with _no_bar(family.bare):
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, attn_implementation=attention)
            processor = AutoProcessor.from_pretrained(source)
    except ImportError as error:
        needs = str(error).strip().splitlines()[0]
        raise UserError(f"VLM {where}: {needs} (pip install 'vla[vlm]' brings what VLMs need)") from error
    except AttributeError as error:
        raise UserError(f"VLM {where}: its processor does not fit its tokenizer: {error}") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(_reason(where, local.is_dir(), error)) from error
    return model, processor


def save_vlm(model: Any, processor: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write what `load_vlm` reads, LoRA merged into the weights."""
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    save_file(plain_weights(model, dtype), folder / "model.safetensors", metadata={"format": "pt"})
    processor.save_pretrained(folder)
    if not family_of(config, str(folder)).bare and model.can_generate():
        model.generation_config.save_pretrained(folder)


def version_of(folder: Path) -> str:
    """What the configuration and weights in a folder are, as the beginning of their SHA-256."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        digest.update(file.name.encode())
        with open(file, "rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:16]}"


def _reason(where: str, local: bool, error: Exception) -> str:
    if not local and _offline(error):
        return (
            f"VLM {where}: it is not in the local cache and the hub is out of reach; "
            f"connect, or give the folder of a copy (on a connected machine: hf download {where} --local-dir FOLDER)"
        )
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"VLM {where} cannot be read ({first}); save or download it again"


def _offline(error: BaseException | None) -> bool:
    """Whether one of the errors behind it is of a connection that there was not."""
    names = ("LocalEntryNotFoundError", "OfflineModeIsEnabled")
    while error is not None:
        if isinstance(error, ConnectionError) or type(error).__name__ in names:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _no_bar(wanted: bool) -> Iterator[None]:
    """Without transformers' own progress bar, which a model of two megabytes does not need."""
    shown = transformers_logging.is_progress_bar_enabled()
    if wanted:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if wanted and shown:
            transformers_logging.enable_progress_bar()

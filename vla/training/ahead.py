"""Batches made ahead of time by other processes, so that a GPU need not wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vla.errors import UserError


def made_ahead(make: Callable[[int], Any], steps: Sequence[int], workers: int) -> Iterator[Any]:
    """make(step) for every step, in order, by `workers` forked processes. A UserError in one of them is raised here."""
    loader: DataLoader[Any] = DataLoader(
        _Batches(make),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context="fork",  # what makes them may hold a model, which cannot be sent
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _Batches(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Any:
        try:
            return self.make(step)
        except UserError as error:  # raised, it would come with the traceback of the process
            return error


def _as_it_is(batch: Any) -> Any:
    return batch

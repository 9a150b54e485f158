"""`vla data cache`, `vla data stats` and `vla data mixture`: their arguments, and what they print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.cli.arguments import existing_folder, gigabytes, whole
from vla.cli.common import add_command, check_outputs, write_json

if TYPE_CHECKING:
    from vla.data.lerobot_v3 import DatasetV3

COLUMNS = ("min", "q01", "q50", "q99", "max", "mean", "std")


def add(kinds: Any) -> None:
    cache = add_command(kinds, "cache", _cache, "decode a dataset once, for training at full speed")
    cache.add_argument("dataset", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    cache.add_argument("--budget", type=gigabytes, metavar="GB", help="room for pictures (default half the free disk)")
    cache.add_argument(
        "--encoding", choices=("raw", "jpeg"), help="how pictures are kept (default: raw within the budget, else jpeg)"
    )
    stats = add_command(kinds, "stats", _stats, "statistics of states and actions, each and together")
    stats.add_argument("datasets", nargs="+", type=existing_folder, metavar="DIR", help="LeRobot v3 datasets")
    embed = add_command(
        kinds, "embed", _embed, "a copy that carries instructions as numbers, for LeRobot's ACT, Diffusion"
    )
    embed.add_argument("dataset", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    embed.add_argument("--out", required=True, type=Path, metavar="OUT", help="the copy; its videos are hard links")
    embed.add_argument("--size", type=whole(8), default=128, metavar="N", help="of an embedding (default %(default)s)")
    mixture = add_command(kinds, "mixture", _mixture, "what share of the draws each dataset gets")
    mixture.add_argument("mixture", metavar="NAME", help="a shipped mixture or a YAML file")
    mixture.add_argument("--root", required=True, type=existing_folder, metavar="DIR", help="where the datasets are")
    mixture.add_argument("--only", nargs="+", metavar="NAME", help="these of its datasets (default all)")
    for parser in (stats, mixture):
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers as JSON")


def _cache(args: argparse.Namespace) -> None:
    from vla.data.cache import build_cache

    cache = build_cache(args.dataset, budget=args.budget, encoding=args.encoding)
    taken = sum(file.stat().st_size for file in cache.folder.iterdir())
    print(
        f"{len(cache)} frames of {len(cache.episodes)} episodes, cameras {', '.join(cache.cameras)} as "
        f"{cache.meta['encoding']}, {taken / 1e9:.3g} GB in {cache.folder}"
    )


def _embed(args: argparse.Namespace) -> None:
    from vla.peers.embed import KEY, embed_dataset

    count = embed_dataset(args.dataset, args.out, args.size)
    print(f"{args.out}: {count} instructions as {KEY} ({args.size} numbers each)")


def _stats(args: argparse.Namespace) -> None:
    check_outputs(json=args.json)
    from vla.data.lerobot_v3 import DatasetV3
    from vla.data.statistics import RANK_ERROR, of_dataset

    datasets = {str(folder): DatasetV3(folder) for folder in args.datasets}
    found = {name: of_dataset(dataset.root) for name, dataset in datasets.items()}
    if len(found) > 1:
        found["together"] = _together(list(found.values()))
    for name, statistics in found.items():
        _print_table(name, statistics, datasets.get(name, datasets[str(args.datasets[0])]))
    if args.json:
        numbers = {name: {key: one.to_dict() for key, one in of.items()} for name, of in found.items()}
        write_json(args.json, {"rank_error": RANK_ERROR, "datasets": _without_nan(numbers)})


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Merged where every dataset has the vector, of the same size."""
    from vla.data.statistics import Statistics

    together = {}
    for key, first in parts[0].items():
        if all(key in part and part[key].size == first.size for part in parts):
            together[key] = Statistics(first.size)
            for part in parts:
                together[key].merge(part[key])
    return together


def _print_table(title: str, statistics: dict[str, Any], dataset: DatasetV3) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("vector", "dimension", "count", *COLUMNS, title=title)
    for key, one in statistics.items():
        numbers = one.to_dict()
        names = dataset.dimension_names(key) or range(one.size)
        for i in range(one.size):
            values = (f"{numbers[column][i]:.4g}" for column in COLUMNS)
            table.add_row(key if i == 0 else "", str(names[i]), str(one.count[i]), *values)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: null where a dimension has no finite value."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if value != value else value


def _mixture(args: argparse.Namespace) -> None:
    check_outputs(json=args.json)
    from rich.console import Console
    from rich.table import Table

    from vla.data.lerobot_v3 import DatasetV3
    from vla.data.mixture import Mixture

    mixture = Mixture.load(args.mixture)
    if args.only:
        mixture = mixture.only(args.only)
    folders = dict(zip((part.dataset for part in mixture.datasets), mixture.folders(args.root), strict=True))
    frames = {name: DatasetV3(folder).frames for name, folder in folders.items()}
    weights = mixture.weights(frames)
    table = Table("dataset", "weight", "frames", "share of draws", "passes an epoch", title=mixture.name)
    rows = []
    for part, weight in zip(mixture.datasets, weights, strict=True):
        share = weight / sum(weights)
        passes = share * sum(frames.values()) / frames[part.dataset]
        rows.append({"dataset": part.dataset, "weight": part.weight, "frames": frames[part.dataset], "share": share})
        table.add_row(part.dataset, f"{part.weight:g}", str(frames[part.dataset]), f"{share:.2%}", f"{passes:.2f}")
    Console().print(table)
    print(f"weights: {mixture.source}")
    if args.json:
        write_json(args.json, {"mixture": mixture.name, "source": mixture.source, "datasets": rows})

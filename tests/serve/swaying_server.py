"""A server of the policy that sways (`tests/runtime/swaying_policy.py`), as a process: a port and a mood to be in."""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from swaying_policy import SwayingPolicy

from vla.serve.server import PolicyServer


class Served(SwayingPolicy):
    """With what a server asks of a checkpoint beside its two halves."""

    config = SimpleNamespace(replan_steps=4, fast=SimpleNamespace(horizon=40, max_age=2.0))
    s1 = SimpleNamespace(config=SimpleNamespace(cameras=("front", "wrist")), latent_shape=(2, 3), state_dict=dict)
    s2 = SimpleNamespace(config=SimpleNamespace(cameras=("front",)))


PolicyServer(Served(sys.argv[2]), port=int(sys.argv[1])).run(lambda port: print(f"ws://127.0.0.1:{port}", flush=True))

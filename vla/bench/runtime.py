"""The two-speed runtime beside the same model run in one thread: how regularly is the robot told what to do?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.bench.idle_loop import run_beside_idle
from vla.bench.regularity import regularity
from vla.bench.table import Row, report
from vla.evaluation.realtime import RealTimeRun, RunResult
from vla.policies import device_of, load_policy
from vla.processes import SPAWN, real_time, sleep_until
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.senses import Senses
from vla.robots.sim_body import read_log
from vla.robots.sim_wires import DT, World
from vla.runtime.chunk_port import CHUNK_BYTES, ChunkPort
from vla.runtime.command_loop import CommandLoop
from vla.runtime.safety_gate import SafetyGate
from vla.shared_slot import Slot, slot_memory

PEER = "the same model in one thread"
PEER_S = 60.0
"""It is worse by so much that a minute (s) shows it."""


def bench_runtime(policy: str, env: str, seed: int, length: float, out: Path, device: str = "cpu") -> dict[str, Any]:
    """`length` seconds, and then a minute at most in one thread, on the same scene; returns the benchmark document.

    Commands are timed as the robot received them, and beside them a loop that does nothing (`vla.bench.idle_loop`).
    Telemetry and logs stay in `out`.
    """
    where = device_of(policy, device)
    run = RealTimeRun(policy, World(env, seed), length, out / "two-speed", until_done=False, device=device)
    ours, beside_idle = run_beside_idle(run)
    peer = synchronous(replace(run, out=out / "one-thread", seconds=min(length, PEER_S)))
    telemetry = ours.telemetry
    summary = telemetry.summary()
    rates = summary["s1_hz"], summary["s2_hz"]
    measured = _measured(ours.receipts, telemetry.s1_ms, telemetry.s2_ms, rates)
    theirs = _measured(peer.receipts, peer.s1_ms, peer.s2_ms, (peer.looks_hz, peer.looks_hz))
    rows = [Row(name, value, unit, PEER, theirs[name, unit]) for (name, unit), value in measured.items()]
    rows += beside_idle
    document = report(f"{length:g} s of {policy} in real time on {where}; {summary['scheduling']}", rows)
    return {**document, "device": where, "details": _details(ours)}


@dataclass(frozen=True)
class OneThread:
    """receipts: when the robot received each command (s). s1_ms, s2_ms: of each look. looks_hz: looks per second."""

    receipts: Float[np.ndarray, " R"]
    s1_ms: list[float]
    s2_ms: list[float]
    looks_hz: float


def synchronous(run: RealTimeRun) -> OneThread:
    """One thread does everything: looks, thinks, plans, and sends samples until it is time to look again."""
    import torch

    torch.set_num_threads(1)
    log = run.out / "body"
    robot = RealTimeSim(run.world, replace(run.body, log=str(log)))
    policy = load_policy(run.policy, robot=robot.spec, device=run.device)
    try:
        robot.start()
        senses, gate = Senses(robot.spec, robot.sense_memory), SafetyGate(robot.spec)
        chunks, wishes, states = (slot_memory(SPAWN, CHUNK_BYTES) for _ in range(3))
        port, servos = ChunkPort(robot.spec, chunks), robot.servos.make(robot.spec)
        gate.reset(*servos.measure())
        how = run.how.command
        loop = CommandLoop(gate, servos, how, Slot(chunks), Slot(wishes), Slot(states), real_time(0, None))
        instruction = robot.state().instruction
        nothing = np.zeros((0, robot.spec.action_size), np.float32)
        replan_s = policy.config.replan_steps / robot.spec.rate_hz
        s1_ms: list[float] = []
        s2_ms: list[float] = []
        began = deadline = time.monotonic()
        due = began
        while (now := time.monotonic()) < began + run.seconds:
            observation = senses.observe() if now >= due else None
            if observation is not None:
                images, stamp = observation.images, observation.stamp
                thought, thinking = _timed(policy.think, images, instruction, stamp)
                actions, acting = _timed(policy.act, images, observation.state, thought, stamp, nothing)
                port.send(actions)
                s2_ms.append(thinking)
                s1_ms.append(acting)
                due = now + replan_s
            loop.tick(time.monotonic())
            deadline = max(deadline + DT, time.monotonic() - DT)
            sleep_until(deadline)
    finally:
        robot.close()
    return OneThread(read_log(log, robot.spec)[0][:, 0], s1_ms, s2_ms, len(s1_ms) / run.seconds)


def _measured(
    receipts: Float[np.ndarray, " R"], s1_ms: Sequence[float], s2_ms: Sequence[float], hz: tuple[float, float]
) -> dict[tuple[str, str], float]:
    """By name and unit."""
    return {
        **regularity(receipts, 1 / DT),
        ("S1 replans", "1/s"): hz[0],
        ("S1 chunk p50", "ms"): float(np.median(s1_ms or [np.nan])),
        ("S2 thoughts", "1/s"): hz[1],
        ("S2 thought p50", "ms"): float(np.median(s2_ms or [np.nan])),
    }


def _timed(work: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """What it returns, and how long it took (ms)."""
    begin = time.perf_counter()
    return work(*given), 1e3 * (time.perf_counter() - begin)


def _details(ours: RunResult) -> dict[str, Any]:
    return {**ours.telemetry.summary(), "receipts": len(ours.receipts), "instruction": ours.instruction}

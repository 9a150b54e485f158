"""The two-speed runtime beside the same model run in one thread: how regularly is the robot told what to do?"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.bench.table import Row, report
from vla.evaluation.realtime import RealTimeRun, RunResult, loader, receipt_periods, run_in_real_time
from vla.processes import SPAWN, real_time, sleep_until
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.senses import Senses
from vla.robots.sim_body import DT, read_log
from vla.robots.sim_wires import World
from vla.runtime.chunk_port import CHUNK_BYTES, ChunkPort
from vla.runtime.command_loop import CommandLoop
from vla.runtime.safety_gate import SafetyGate
from vla.shared_slot import Slot, slot_memory

PEER = "the same model in one thread"


def bench_runtime(policy: str, env: str, seed: int, length: float, out: Path) -> dict[str, Any]:
    """`length` seconds of each, one after the other, on the same scene; returns the benchmark document.

    Periods are those between two commands as the robot received them. Telemetry and logs stay in `out`.
    """
    run = RealTimeRun(policy, World(env, seed), length, out / "two-speed", until_done=False)
    ours = run_in_real_time(run)
    peer, replans, looks = synchronous(replace(run, out=out / "one-thread"))
    rows = [
        Row(name, value, "ms", PEER, theirs)
        for (name, value), theirs in zip(_errors(ours.receipts).items(), _errors(peer).values(), strict=True)
    ]
    summary = ours.telemetry.summary()
    rows += [
        Row("S1 replans", summary["s1_hz"], "1/s", PEER, replans),
        Row("S2 thoughts", summary["s2_hz"], "1/s", PEER, looks),
    ]
    document = report(f"{length:g} s of {policy} in real time", rows)
    return {**document, "details": _details(ours)}


def synchronous(run: RealTimeRun) -> tuple[Float[np.ndarray, " R"], float, float]:
    """One thread does everything: looks, thinks, plans, and sends samples until it is time to look again.

    Returns when the robot received each command (s), and replans and thoughts per second.
    """
    import torch

    torch.set_num_threads(1)
    log = run.out / "body"
    robot = RealTimeSim(run.world, replace(run.body, log=str(log)))
    policy = loader(run.policy, robot.spec).make()
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
        replan_s, replans = policy.config.replan_steps / robot.spec.rate_hz, 0
        began = deadline = time.monotonic()
        due = began
        while (now := time.monotonic()) < began + run.seconds:
            observation = senses.observe() if now >= due else None
            if observation is not None:
                thought = policy.think(observation.images, instruction, observation.stamp)
                port.send(policy.act(observation.images, observation.state, thought, observation.stamp, nothing))
                due, replans = now + replan_s, replans + 1
            loop.tick(time.monotonic())
            deadline = max(deadline + DT, time.monotonic() - DT)
            sleep_until(deadline)
        rate = replans / run.seconds
    finally:
        robot.close()
    return read_log(log, robot.spec)[0][:, 0], rate, rate


def _errors(receipts: Float[np.ndarray, " R"]) -> dict[str, float]:
    """Deviation from 5 ms, and the longest time without a command."""
    periods = receipt_periods(receipts)
    error = np.abs(periods - 1e3 * DT)
    p50, p99 = np.percentile(error, [50, 99])
    return {"period error p50": p50, "period error p99": p99, "largest gap": float(periods.max())}


def _details(ours: RunResult) -> dict[str, Any]:
    return {**ours.telemetry.summary(), "receipts": len(ours.receipts), "instruction": ours.instruction}

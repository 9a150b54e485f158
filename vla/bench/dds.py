"""How long messages take over DDS, and whether any is lost, beside `cyclonedds`' own serialisation."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.bench.table import Row, report
from vla.messages import SECOND, stamp_message, to_ns
from vla.robots.dds_bus import Bus, use_loopback
from vla.ros_types import MessageTypes

IMAGE, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
RATES = {"/left": 30, "/right": 30, "/joint_states": 200}
DOMAIN = 220
DEPTH = 100
STOCK_SECONDS = 5.0
"""Stock serialisation falls behind at these rates; a short run tells as much."""


@dataclass(frozen=True)
class Measured:
    """ms: from write to the message in hand, by topic. lost: messages that never came."""

    ms: dict[str, list[float]]
    lost: int
    sent: int


def bench_dds(seconds: float = 60.0) -> dict[str, Any]:
    """Two 640x480 images at 30 Hz and joint states at 200 Hz from another process on loopback, ours and stock."""
    use_loopback()
    ours, stock = measure(seconds, False), measure(min(seconds, STOCK_SECONDS), True)
    peer = "stock cyclonedds"
    rows = [
        Row(f"{name} {percent}", quantile(ours, topics, q), "ms", peer, quantile(stock, topics, q))
        for name, topics in (("image", ("/left", "/right")), ("joint state", ("/joint_states",)))
        for percent, q in (("p50", 50), ("p99", 99))
    ]
    rows.append(Row("arrived", 100 - 100 * ours.lost / ours.sent, "%", peer, 100 - 100 * stock.lost / stock.sent))
    return report(f"DDS, 2 x 640x480 at 30 Hz and joints at 200 Hz for {seconds:g} s, {ours.sent} messages", rows)


def quantile(measured: Measured, topics: tuple[str, ...], percent: float) -> float:
    values = [ms for topic in topics for ms in measured.ms[topic]]
    return float(np.percentile(values, percent)) if values else float("nan")


def measure(seconds: float, stock: bool, rates: dict[str, int] | None = None) -> Measured:
    """Have another process send for so long, and receive it here."""
    rates = rates or RATES
    ms: dict[str, list[float]] = {topic: [] for topic in rates}
    bus = Bus(MessageTypes(), DOMAIN)
    readers = []
    for topic in rates:
        if stock:
            readers.append(_stock_reader(bus, topic))
        else:
            bus.subscribe(topic, _kind(topic), "reliable", _timed(ms[topic]), depth=DEPTH)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    sender = context.Process(target=_send, args=(seconds, stock, rates, results), daemon=True)
    sender.start()
    bus.start()
    deadline = time.monotonic() + 6 * seconds + 120
    sent: int | None = None
    while time.monotonic() < deadline and (sent is None or sum(map(len, ms.values())) < sent):
        for topic, reader in zip(rates, readers, strict=False):
            for sample in reader.take(10):
                if not sample.sample_info.valid_data:  # the writer has gone
                    continue
                ms[topic].append((time.time_ns() - to_ns(sample.header.stamp)) / 1e6)
        time.sleep(0.0005 if stock else 0.05)
        if sent is None and not results.empty():
            sent = results.get()
            deadline = min(deadline, time.monotonic() + (30 if stock else 5))
    sender.join(10)
    bus.close()
    return Measured(ms, (sent or 0) - sum(map(len, ms.values())), sent or 1)


def _timed(into: list[float]) -> Callable[[Any, int], None]:
    return lambda message, _: into.append((time.time_ns() - to_ns(message.header.stamp)) / 1e6)


def _kind(topic: str) -> str:
    return JOINTS if topic == "/joint_states" else IMAGE


def _send(seconds: float, stock: bool, rates: dict[str, int], results: Any) -> None:
    """Each message is stamped just before it is serialised and written."""
    types = MessageTypes()
    bus = Bus(types, DOMAIN)
    write = {topic: _stock_writer(bus, topic) if stock else _raw_writer(bus, topic) for topic in rates}
    while not all(ready() for _, ready in write.values()):
        time.sleep(0.01)
    left = {topic: max(1, round(rate * seconds)) for topic, rate in rates.items()}
    total, sent, begin = sum(left.values()), dict.fromkeys(rates, 0), time.monotonic()
    while left:
        for topic in list(left):
            if (time.monotonic() - begin) * rates[topic] >= sent[topic]:
                write[topic][0]()
                sent[topic] += 1
                left[topic] -= 1
        left = {topic: count for topic, count in left.items() if count}
        due = min((sent[topic] / rates[topic] for topic in left), default=0.0)
        time.sleep(max(0.0, due - (time.monotonic() - begin)))
    results.put(total)
    time.sleep(3 if not stock else 30)  # what is written last has yet to arrive
    bus.close()


def _message(types: MessageTypes, topic: str) -> Any:
    if topic == "/joint_states":
        names = [f"joint{i}" for i in range(1, 8)]
        return types.new(JOINTS, name=names, position=np.zeros(7), velocity=np.zeros(7), effort=np.zeros(7))
    data = np.random.default_rng(0).integers(0, 256, 480 * 640 * 3, np.uint8)
    return types.new(IMAGE, height=480, width=640, step=1920, encoding="rgb8", data=data)


def _raw_writer(bus: Bus, topic: str) -> tuple[Callable[[], None], Callable[[], bool]]:
    publisher, message = bus.advertise(topic, _kind(topic), "reliable", depth=DEPTH), _message(bus.types, topic)

    def write() -> None:
        stamp_message(message, time.time_ns())
        publisher.publish(message)

    return write, lambda: publisher.readers > 0


def _stock_writer(bus: Bus, topic: str) -> tuple[Callable[[], None], Callable[[], bool]]:
    from cyclonedds.pub import DataWriter

    from vla.robots.dds_types import to_stock

    dds_topic, stock = _stock_topic(bus, topic)
    writer = DataWriter(bus.participant, dds_topic, bus.qos("reliable", DEPTH, _kind(topic), reliable=True))
    message = to_stock(bus.types, stock, _message(bus.types, topic), _kind(topic))

    def write() -> None:
        stamp = message.header.stamp  # type: ignore[attr-defined]
        stamp.sec, stamp.nanosec = divmod(time.time_ns(), SECOND)
        writer.write(message)

    return write, lambda: writer.get_publication_matched_status().current_count > 0


def _stock_reader(bus: Bus, topic: str) -> Any:
    from cyclonedds.sub import DataReader

    dds_topic, _ = _stock_topic(bus, topic)
    return DataReader(bus.participant, dds_topic, bus.qos("reliable", DEPTH, _kind(topic), reliable=True))


def _stock_topic(bus: Bus, topic: str) -> tuple[Any, Any]:
    from cyclonedds.topic import Topic

    from vla.robots.dds_types import dds_topic, type_pair

    stock = type_pair(bus.types, _kind(topic)).stock
    return Topic(bus.participant, dds_topic(topic), stock), stock

"""ROS 2's topics over DDS, without ROS: names, types, qualities of service and messages as `rmw_cyclonedds` has
them."""

from __future__ import annotations

import os
import threading
import time
from types import ModuleType
from typing import Any

from vla.errors import UserError
from vla.robots.message_bus import DEPTH, Handler, MessageBus, Qos
from vla.ros_types import MessageTypes

LOOPBACK = """<CycloneDDS><Domain>
<General><Interfaces><NetworkInterface name="lo"/></Interfaces><AllowMulticast>false</AllowMulticast>
<MaxMessageSize>65500B</MaxMessageSize><FragmentSize>64000B</FragmentSize></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>50</MaxAutoParticipantIndex>
<Peers><Peer address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""
"""Everything stays on this machine. `lo` has no multicast, so participants are looked for at 127.0.0.1, one by one."""

POLICIES = {
    2: "durability", 4: "deadline", 6: "ownership", 8: "liveliness", 10: "partition", 11: "reliability",
    12: "destination order", 23: "data representation", 24: "type",
}  # fmt: skip
"""Policy ids of the DDS specification (2.2.1.1) that make endpoints incompatible."""

POLL_NS = 50_000_000
BATCH = 100
CLOSING_S = 5.0
"""So long the reading thread may take to end. A Ctrl-C that comes just when the main thread has taken `changed` leaves
that locked for ever, and the thread waiting for it."""


def use_loopback() -> None:
    """Have this process, and what it starts, speak on 127.0.0.1 only. Before the first `Bus`."""
    os.environ["CYCLONEDDS_URI"] = LOOPBACK


def default_domain() -> int:
    """ROS_DOMAIN_ID, or 0. UserError if it is no domain."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not (text.isdigit() and int(text) <= 232):
        raise UserError(f"ROS_DOMAIN_ID is {text!r}: give a number from 0 to 232")
    return int(text)


class DdsPublisher:
    """A `Publisher` over DDS. `depth`: of what is kept for readers that are slow or late."""

    def __init__(self, bus: Bus, topic: str, ros_type: str, qos: Qos, depth: int) -> None:
        from cyclonedds.pub import DataWriter

        self.topic, self.type = topic, ros_type
        self._bus = bus
        dds_topic, self._raw = bus.topic(topic, ros_type)
        # Reliable always: a reader that asks for it, as ROS's do by default, would not match a best-effort writer.
        self.writer = DataWriter(bus.participant, dds_topic, bus.qos(qos, depth, ros_type, reliable=True))

    def publish(self, message: Any) -> None:
        self.write(self._bus.types.to_cdr(message))

    def write(self, cdr: bytes) -> None:
        """A message that is bytes already."""
        self.writer.write(self._raw(cdr))

    @property
    def readers(self) -> int:
        return int(self.writer.get_publication_matched_status().current_count)


class Bus(MessageBus):
    """One participant of a DDS domain. Raises UserError if there is no DDS to be had."""

    def __init__(self, types: MessageTypes, domain: int | None = None) -> None:
        _cyclonedds()
        from cyclonedds.core import DDSException, WaitSet
        from cyclonedds.domain import DomainParticipant

        super().__init__(types, default_domain() if domain is None else domain)
        try:
            self.participant: Any = DomainParticipant(self.domain)
        except DDSException as error:
            raise UserError(
                f"DDS: cannot join domain {self.domain}: {error.msg or error}; look at CYCLONEDDS_URI"
            ) from None
        self._readers: list[tuple[str, str, Any, Handler]] = []
        self._writers: list[DdsPublisher] = []
        self._waitset = WaitSet(self.participant)
        self._topics: dict[str, tuple[Any, Any]] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._published: Any = None
        self._subscribed: Any = None

    def subscribe(self, topic: str, ros_type: str, qos: Qos, handler: Handler, depth: int | None = None) -> None:
        from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
        from cyclonedds.sub import DataReader

        dds_topic, _ = self.topic(topic, ros_type)
        reliable = qos != "sensor"
        reader = DataReader(self.participant, dds_topic, self.qos(qos, depth, ros_type, reliable))
        self._waitset.attach(ReadCondition(reader, ViewState.Any | SampleState.NotRead | InstanceState.Any))
        self._readers.append((topic, ros_type, reader, handler))

    def advertise(self, topic: str, ros_type: str, qos: Qos, depth: int | None = None) -> DdsPublisher:
        publisher = DdsPublisher(self, topic, ros_type, qos, depth or DEPTH[qos])
        self._writers.append(publisher)
        return publisher

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="dds", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        if self._thread is not None:
            self._thread.join(CLOSING_S)
        # Entities go with the last reference, children first; the waitset must let go of its conditions before that.
        del self._waitset
        self._readers.clear()
        self._writers.clear()
        self._topics.clear()
        self._published = self._subscribed = None
        self.participant = None

    def complaints(self) -> list[str]:
        found = []
        for topic, _, reader, _ in self._readers:
            found += self._incompatible(
                topic, reader.get_requested_incompatible_qos_status(), "a publisher offers less"
            )
        for publisher in self._writers:
            status = publisher.writer.get_offered_incompatible_qos_status()
            found += self._incompatible(publisher.topic, status, "a subscriber asks for more")
        return found + self._wrong_types() + [f"{topic}: {fault}" for topic, fault in self.faults.items()]

    def topic(self, topic: str, ros_type: str) -> tuple[Any, Any]:
        """The DDS topic and the class of its raw samples."""
        from cyclonedds.topic import Topic

        from vla.robots.dds_types import dds_topic, type_pair

        if topic not in self._topics:
            pair = type_pair(self.types, ros_type)
            self._topics[topic] = Topic(self.participant, dds_topic(topic), pair.raw), pair.raw
        return self._topics[topic]

    def qos(self, qos: Qos, depth: int | None, ros_type: str, reliable: bool) -> Any:
        """As rmw_cyclonedds makes it of a ROS profile; the type's hash is announced as Iron and later do."""
        from cyclonedds.qos import Policy
        from cyclonedds.qos import Qos as DdsQos

        late = qos == "transient_local"
        return DdsQos(
            Policy.Reliability.Reliable(100_000_000) if reliable else Policy.Reliability.BestEffort,
            Policy.Durability.TransientLocal if late else Policy.Durability.Volatile,
            Policy.History.KeepLast(depth or DEPTH[qos]),
            Policy.DataRepresentation(use_cdrv0_representation=True),
            Policy.Userdata(f"typehash={self.types.hash(ros_type)};".encode()),
        )

    def _run(self) -> None:
        try:
            while not self._closing:
                if self._waitset.wait(POLL_NS):
                    self._take_all()
        except Exception as error:  # told to whoever waits: a thread has nobody to tell
            with self.changed:
                self._broken = error
                self.changed.notify_all()

    def _take_all(self) -> None:
        for topic, ros_type, reader, handler in self._readers:
            taken = reader.take(BATCH)
            if not taken:
                continue
            received = time.time_ns()
            with self.changed:
                for sample in taken:
                    if sample.sample_info.valid_data:  # else it only says that its writer is gone
                        self.hand_over(topic, ros_type, sample.cdr, handler, received)
                self.changed.notify_all()

    def _incompatible(self, topic: str, status: Any, who: str) -> list[str]:
        if not status.total_count:
            return []
        policy = POLICIES.get(status.last_policy_id, f"policy {status.last_policy_id}")
        return [f"{topic}: incompatible QoS, {policy}: {who}"]

    def _wrong_types(self) -> list[str]:
        from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription

        from vla.robots.dds_types import dds_name, dds_topic

        if self._published is None:
            self._published = BuiltinDataReader(self.participant, BuiltinTopicDcpsPublication)
            self._subscribed = BuiltinDataReader(self.participant, BuiltinTopicDcpsSubscription)
        ours = {dds_topic(topic): (topic, ros_type) for topic, ros_type, _, _ in self._readers}
        theirs = {dds_topic(one.topic): (one.topic, one.type) for one in self._writers}
        found = set()
        for what, reader, wanted in (("published", self._published, ours), ("read", self._subscribed, theirs)):
            for endpoint in reader.read(1000):
                topic, ros_type = wanted.get(endpoint.topic_name, ("", ""))
                if topic and endpoint.type_name != dds_name(ros_type):
                    found.add(f"{topic}: is {what} as {_ros_name(endpoint.type_name)}, the spec says {ros_type}")
        return sorted(found)


def _ros_name(dds_type: str) -> str:
    parts = dds_type.split("::")
    return "/".join([*parts[:-2], parts[-1].removesuffix("_")]) if "dds_" in parts else dds_type


def _cyclonedds() -> ModuleType:
    try:
        import cyclonedds
    except ModuleNotFoundError:
        raise UserError("DDS needs the Python package cyclonedds: install vla[dds]") from None
    return cyclonedds

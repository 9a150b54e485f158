"""Bags become datasets and datasets bags, on the alignment of the live robot; damaged ones give what is whole."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from vla.cli import main
from vla.data.cache import build_cache
from vla.data.episode import Episode
from vla.data.recorder import EpisodeRecorder
from vla.data.rosbag2.bag import Bag
from vla.data.rosbag2.exporter import export_rosbag2
from vla.data.rosbag2.frames import STAMP, Framer, episodes, stamp_columns, steps
from vla.messages import SECOND, write_message, write_picture
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec, RosStream

TYPES = MessageTypes()
MS = SECOND // 1000
T0 = 1_700_000_000 * SECOND
RATE = 10
SPEC = RobotSpec.from_dict(
    {
        "name": "two_joints",
        "rate_hz": RATE,
        "cameras": [{"name": "front", "height": 32, "width": 48}],
        "state": [{"name": "joints", "size": 2, "unit": "rad"}],
        "action": {"mode": "joint_position", "fields": [{"name": "joints", "size": 2, "unit": "rad"}]},
        "ros": [
            {"stream": "front", "topic": "/front", "type": "sensor_msgs/msg/Image", "max_age": 0.2},
            {"stream": "state", "topic": "/joint_states", "type": "sensor_msgs/msg/JointState", "fields": ["a", "b"]},
            {
                "stream": "action",
                "topic": "/commands",
                "type": "std_msgs/msg/Float64MultiArray",
                "qos": "reliable",
                "stamp": "receive",
            },
            {"stream": "instruction", "topic": "/instruction", "type": "std_msgs/msg/String", "stamp": "receive"},
        ],
    }
)
FRONT, JOINTS, ACTION, INSTRUCTION = SPEC.ros


def drive(
    seconds: float = 1.5, start: int = T0, task: str = "wave", blind: tuple[float, float] = (9, 9)
) -> list[tuple]:
    """What a robot's drivers log: joints at 50 Hz, a camera at 15 Hz that arrives 30 ms late, commands at 10 Hz.

    (topic, log time, message), by time. blind: from when to when the camera says nothing.
    """
    logged = [("/instruction", start, TYPES.new(INSTRUCTION.type, data=task))]
    for i in range(int(50 * seconds)):
        stamp = start + i * 20 * MS
        values = np.array([i, -i], np.float64) / 100
        logged.append(("/joint_states", stamp + MS, write_message(TYPES, [(JOINTS, SPEC.state, values)], stamp, 0.1)))
    for i in range(int(15 * seconds)):
        stamp = start + round(i * SECOND / 15)
        if not blind[0] <= i / 15 < blind[1]:
            image = np.full((32, 48, 3), 10 * (i % 25), np.uint8)
            logged.append(("/front", stamp + 30 * MS, write_picture(TYPES, FRONT, SPEC.cameras[0], image, stamp)))
    for i in range(int(RATE * seconds)):
        at = start + i * 100 * MS + 45 * MS
        values = np.array([i, 2 * i], np.float64)
        logged.append(("/commands", at, write_message(TYPES, [(ACTION, SPEC.action.fields, values)], at, 0.1)))
    return sorted(logged, key=lambda one: one[1])


def write_bag(path: Path, logged: list[tuple], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    with Writer(path, version=8, storage_plugin=storage) as bag:
        topics = {s.topic: bag.add_connection(s.topic, s.type, typestore=TYPES.store) for s in SPEC.ros}
        for topic, time, message in logged:
            bag.write(topics[topic], time, TYPES.to_cdr(message))
    return path


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    SPEC.save(tmp_path / "arm.yaml")
    return tmp_path / "arm.yaml"


def framed(logged: Iterable[tuple], spec: RobotSpec = SPEC):
    framer = Framer(spec)
    return [Episode(task, list(frames)) for task, frames in episodes(steps(framer, logged))], framer.report


def test_a_frame_sees_what_had_arrived_by_its_tick_and_nothing_later() -> None:
    logged = drive()
    (episode,), report = framed(logged)
    assert episode.task == "wave" and len(episode.frames) >= 13
    for frame in episode.frames:
        tick = int(frame.extra[STAMP + "tick"][0])
        for name, topic in (("front", "/front"), ("state", "/joint_states")):
            stamps = [
                m.header.stamp.sec * SECOND + m.header.stamp.nanosec for t, at, m in logged if t == topic and at <= tick
            ]
            assert frame.extra[STAMP + name][0] == max(stamps)
    assert max(report.delay["front"]) == pytest.approx(0.03) and min(report.skew["front"]) >= 0


def test_the_action_of_a_frame_is_the_command_that_followed_it() -> None:
    logged = drive()
    (episode,), _ = framed(logged)
    for frame in episode.frames[:-1]:
        tick = int(frame.extra[STAMP + "tick"][0])
        given = [m.data for t, at, m in logged if t == "/commands" and at < tick + 100 * MS]
        np.testing.assert_array_equal(frame.action, given[-1])


def test_a_camera_that_stops_ends_the_episode_and_the_next_begins_with_it() -> None:
    (before, after), report = framed(drive(3, blind=(1, 2)))
    last, first = (int(frame.extra[STAMP + "tick"][0]) for frame in (before.frames[-1], after.frames[0]))
    assert (last - T0) / SECOND == pytest.approx(1.15, abs=0.1) and (first - T0) / SECOND == pytest.approx(
        2.05, abs=0.1
    )
    assert set(report.stale) == {"front"} and "over 0.2 s" in report.words["front"]


def test_a_message_that_is_not_stamped_is_left_out_and_named() -> None:
    logged = drive(blind=(0.5, 1.0))
    picture = write_picture(TYPES, FRONT, SPEC.cameras[0], np.zeros((32, 48, 3), np.uint8), 0)
    logged.append(("/front", T0 + 600 * MS, picture))
    found, report = framed(sorted(logged, key=lambda one: one[1]))
    assert len(found) == 2 and "a message on /front is not stamped" in report.words["front"]


def test_a_new_instruction_begins_a_new_episode() -> None:
    found, _ = framed([*drive(), *drive(start=T0 + 2 * SECOND, task="wave back")])
    assert [episode.task for episode in found] == ["wave", "wave back"]


def test_a_frame_is_there_before_its_episode_is_over() -> None:
    rest = iter(logged := drive(60))
    task, frames = next(episodes(steps(Framer(SPEC), rest)))
    assert task == "wave" and next(frames).images
    assert len(list(rest)) > 0.9 * len(logged)


def test_a_clock_that_goes_back_begins_a_new_episode() -> None:
    spec = with_clock()
    logged = on_clock(drive(1, start=5 * SECOND)) + on_clock(drive(1, start=SECOND))
    found, report = framed(logged, spec)
    assert report.jumps == 1 and len(found) == 2
    assert all(int(frame.extra[STAMP + "tick"][0]) < 3 * SECOND for frame in found[1].frames)


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_bag_to_dataset_to_bag_to_dataset(storage: StoragePlugin, spec_file: Path, tmp_path: Path, capsys) -> None:
    bag = write_bag(tmp_path / "bag", [*drive(), *drive(start=T0 + 4 * SECOND, task="wave back")], storage)
    first, again, second = tmp_path / "first", tmp_path / "again", tmp_path / "second"
    assert main(["data", "import", "rosbag2", str(bag), "--spec", str(spec_file), "--out", str(first)]) == 0
    said = capsys.readouterr()
    assert "2 episodes" in said.out and "front: " in said.err and "arrives 30.0 ms after its stamp" in said.err
    export = ["data", "export", "rosbag2", str(first), "--out", str(again), "--storage", storage.name.lower()]
    assert main(export) == 0
    assert {file.stem for file in again.iterdir()} == {"again", "metadata"}
    assert main(["data", "import", "rosbag2", str(again), "--spec", str(spec_file), "--out", str(second)]) == 0
    one, two = build_cache(first), build_cache(second)
    np.testing.assert_array_equal(one.state, two.state)
    np.testing.assert_array_equal(one.action, two.action)
    np.testing.assert_array_equal(one.episode, two.episode)
    assert (
        [episode.task for episode in one.episodes]
        == [episode.task for episode in two.episodes]
        == ["wave", "wave back"]
    )
    error = np.abs(one.images["front"].astype(int) - two.images["front"].astype(int))
    assert error.max() <= 4  # encoded twice
    assert stamps(first) == stamps(second)


def test_a_bag_recorded_anew_in_its_place_is_not_there_already(spec_file: Path, tmp_path: Path, capsys) -> None:
    bag, out = tmp_path / "bag", tmp_path / "out"
    command = ["data", "import", "rosbag2", str(bag), "--spec", str(spec_file), "--out", str(out)]
    write_bag(bag, drive())
    assert main(command) == 0
    shutil.copytree(bag, tmp_path / "copy")
    shutil.rmtree(bag)
    (tmp_path / "copy").rename(bag)
    assert main(command) == 0 and "it was there" in capsys.readouterr().out
    shutil.rmtree(bag)
    write_bag(bag, drive(start=T0 + 60 * SECOND))
    assert main(command) == 2 and "already holds other data (bag_sha256" in capsys.readouterr().err


def test_of_a_folder_of_bags_each_is_an_episode_and_one_that_gives_none_is_named(
    spec_file: Path, tmp_path: Path, capsys
) -> None:
    for number in range(3):
        write_bag(tmp_path / "bags" / f"bag_{number}", drive(start=T0 + 4 * number * SECOND))
    write_bag(tmp_path / "bags" / "dark", drive(blind=(0, 9)))
    out = tmp_path / "out"
    command = ["data", "import", "rosbag2", str(tmp_path / "bags"), "--spec", str(spec_file), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "3 episodes" in said.out and f"{tmp_path / 'bags' / 'dark'} has no moment at which" in said.err
    assert [len(episode) for episode in build_cache(out).episodes] == 3 * [len(framed(drive())[0][0].frames)]
    assert main(command) == 0 and "it was there" in capsys.readouterr().out
    write_bag(tmp_path / "bags" / "more", drive())
    assert main(command) == 2 and "already holds other data (bag_sha256" in capsys.readouterr().err


def test_a_bag_among_others_that_does_not_say_what_is_done_is_named(spec_file: Path, tmp_path: Path, capsys) -> None:
    write_bag(tmp_path / "bags" / "told", drive())
    write_bag(tmp_path / "bags" / "untold", [one for one in drive() if one[0] != "/instruction"])
    command = ["data", "import", "rosbag2", str(tmp_path / "bags"), "--spec", str(spec_file)]
    assert main([*command, "--out", str(tmp_path / "a")]) == 2
    assert f"{tmp_path / 'bags' / 'untold'} does not say what is done in it" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "b"), "--instruction", "wave"]) == 0
    assert "2 episodes" in capsys.readouterr().out


def test_a_bag_on_simulated_time_gives_the_same_frames_from_the_first_on(spec_file: Path, tmp_path: Path) -> None:
    bag, first, again, second = (tmp_path / name for name in ("bag", "first", "again", "second"))
    write_bag(bag, [*drive(), *drive(start=T0 + 4 * SECOND, task="wave back")])
    clocked = tmp_path / "clocked.yaml"
    replace(SPEC, ros=(*SPEC.ros, RosStream("clock", "/clock", "rosgraph_msgs/msg/Clock"))).save(clocked)
    assert main(["data", "import", "rosbag2", str(bag), "--spec", str(spec_file), "--out", str(first)]) == 0
    assert main(["data", "export", "rosbag2", str(first), "--spec", str(clocked), "--out", str(again)]) == 0
    assert main(["data", "import", "rosbag2", str(again), "--spec", str(clocked), "--out", str(second)]) == 0
    one, two = build_cache(first), build_cache(second)
    np.testing.assert_array_equal(one.state, two.state)
    np.testing.assert_array_equal(one.action, two.action)
    np.testing.assert_array_equal(one.episode, two.episode)


def test_sessions_of_the_same_simulated_time_are_exported_one_after_the_other(tmp_path: Path) -> None:
    spec = with_clock()
    recorder = EpisodeRecorder(tmp_path / "sessions", spec, labels=False, extra=stamp_columns(spec))
    for task in ("wave", "wave back"):
        for episode in framed(on_clock(drive(start=5 * SECOND, task=task)), spec)[0]:
            recorder.write(episode)
    recorder.close()
    export_rosbag2(tmp_path / "sessions", tmp_path / "bag")
    bag = Bag.open(tmp_path / "bag")
    before, (again, _) = build_cache(tmp_path / "sessions"), framed(bag.messages(bag.topics), spec)
    assert [episode.task for episode in again] == ["wave", "wave back"]
    frames = [frame for episode in again for frame in episode.frames]
    np.testing.assert_array_equal(before.state, [frame.state for frame in frames])
    ages = [int((frame.extra[STAMP + "tick"] - frame.extra[STAMP + "state"])[0]) for frame in frames]
    known = stamps(tmp_path / "sessions")
    assert ages == [tick - stamp for tick, stamp in zip(known["tick"], known["state"], strict=True)]


def stamps(dataset: Path) -> dict[str, list[int]]:
    from vla.data.rosbag2.exporter import _stamps

    length = len(build_cache(dataset))
    return {name: values.tolist() for name, values in _stamps(dataset, length).items() if name != "action"}


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_of_a_truncated_bag_the_whole_messages_are_kept(storage: StoragePlugin, tmp_path: Path) -> None:
    logged = drive(4)
    bag = write_bag(tmp_path / "bag", logged, storage)
    (file,) = [one for one in bag.iterdir() if one.suffix in (".mcap", ".db3")]
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * 0.6)])
    found = Bag.open(bag)
    messages = list(found.messages(found.topics))
    assert len(logged) * 0.2 < len(messages) < len(logged)
    whole = Counter((topic, TYPES.to_cdr(message)) for topic, _, message in logged)
    assert not Counter((topic, found.types.to_cdr(message)) for topic, _, message in messages) - whole
    assert "is damaged" in found.damage[0] and "only its whole messages are used" in found.damage[0]


def test_a_bag_whose_metadata_is_gone_is_read_all_the_same(tmp_path: Path) -> None:
    logged = drive()
    bag = write_bag(tmp_path / "bag", logged)
    (bag / "metadata.yaml").unlink()
    found = Bag.open(bag)
    assert len(list(found.messages(found.topics))) == len(logged)


def test_the_files_of_a_split_bag_without_metadata_are_read_in_the_order_they_were_written(tmp_path: Path) -> None:
    logged, split = drive(), tmp_path / "split"
    split.mkdir()
    for number, part in ((2, logged[:50]), (10, logged[50:])):
        write_bag(tmp_path / f"bag_{number}", part)
        (tmp_path / f"bag_{number}" / f"bag_{number}.mcap").rename(split / f"bag_{number}.mcap")
    found = Bag.open(split)
    times = [time for _, time, _ in found.messages(found.topics)]
    assert len(times) == len(logged) and times == sorted(times)


def test_a_truncated_bag_is_imported_with_a_line_that_says_so(spec_file: Path, tmp_path: Path, capsys) -> None:
    bag = write_bag(tmp_path / "bag", drive(4))
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-2000])
    assert main(["data", "import", "rosbag2", str(bag), "--spec", str(spec_file), "--out", str(tmp_path / "out")]) == 0
    assert "is damaged" in capsys.readouterr().err and (tmp_path / "out" / "meta" / "info.json").is_file()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("folder", "holds no .mcap or .db3 file"),
        (b"", "cannot be read, and nothing in it is whole"),
        (b"\x89MCAP0\r\n" + b"\xff" * 500, "cannot be read, and nothing in it is whole"),
    ],
)
def test_what_is_no_bag_is_refused_in_one_line(content, words: str, spec_file: Path, tmp_path: Path, capsys) -> None:
    bag = tmp_path / "bag.mcap"
    if content == "folder":
        bag.mkdir()
    elif content is not None:
        bag.write_bytes(content)
    assert main(["data", "import", "rosbag2", str(bag), "--spec", str(spec_file), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_topics_that_are_missing_or_of_another_type_are_named(spec_file: Path, tmp_path: Path, capsys) -> None:
    bag = write_bag(tmp_path / "bag", drive())
    for change, words in (
        ({"topic": "/top"}, "has no /top; it has /commands, /front, /instruction, /joint_states"),
        ({"type": "sensor_msgs/msg/CompressedImage"}, "/front is sensor_msgs/msg/Image in"),
    ):
        replace(SPEC, ros=(replace(FRONT, **change), *SPEC.ros[1:])).save(spec_file)
        assert (
            main(["data", "import", "rosbag2", str(bag), "--spec", str(spec_file), "--out", str(tmp_path / "o")]) == 2
        )
        assert words in capsys.readouterr().err


def test_a_bag_replayed_through_the_live_path_gives_the_same_frames(tmp_path: Path) -> None:
    from vla.robots.dds import DdsRobot
    from vla.robots.dds_bus import Bus as DdsBus
    from vla.robots.dds_bus import use_loopback

    use_loopback()
    spec = with_clock()
    logged = on_clock(drive(1.2, start=3 * SECOND))
    (episode,), _ = framed(logged, spec)
    bus, robot, arrived = DdsBus(TYPES, 201), DdsRobot(spec, 201, patience=300), []
    publishers = {s.topic: bus.advertise(s.topic, s.type, "sensor", depth=100) for s in spec.ros if s != ACTION}
    bus.subscribe(ACTION.topic, ACTION.type, "reliable", lambda *_: None)
    ticks = {int(frame.extra[STAMP + "tick"][0]): frame for frame in episode.frames}
    connected = threading.Thread(target=robot.connect)
    connected.start()
    sent, compared = 0, 0
    for topic, _, message in logged:
        if topic not in publishers or topic == INSTRUCTION.topic:
            continue
        if not sent:  # once it listens, nothing is lost
            assert bus.wait(lambda: all(p.readers for t, p in publishers.items() if t != INSTRUCTION.topic), 300)
            _count_arrivals(robot, arrived)
        publishers[topic].publish(message)
        sent += 1
        assert robot._bus and robot._bus.wait(lambda: len(arrived) >= sent, 300)  # noqa: B023
        now = robot._streams.now
        if topic == "/clock" and now in ticks:
            connected.join(300)
            seen, frame = robot.observe(), ticks[now]
            np.testing.assert_array_equal(seen.images["front"], frame.images["front"])
            np.testing.assert_array_equal(seen.state, frame.state)
            compared += 1
    assert compared == len(episode.frames) >= 10
    robot.close()
    bus.close()


def _count_arrivals(robot, arrived: list[str]) -> None:
    add = robot._streams.add

    def counted(topic: str, message: object, received: int) -> None:
        add(topic, message, received)
        arrived.append(topic)

    robot._streams.add = counted


def with_clock() -> RobotSpec:
    clock = {"stream": "clock", "topic": "/clock", "type": "rosgraph_msgs/msg/Clock"}
    data = SPEC.to_dict()
    return RobotSpec.from_dict({**data, "ros": [*data["ros"], clock]})


def on_clock(logged: list[tuple]) -> list[tuple]:
    """With a clock that says the log's time every 10 ms."""
    first, last = logged[0][1], logged[-1][1]
    ticks = []
    for time in range(first, last, 10 * MS):
        message = TYPES.new("rosgraph_msgs/msg/Clock")
        message.clock.sec, message.clock.nanosec = divmod(time, SECOND)
        ticks.append(("/clock", time, message))
    return sorted([*logged, *ticks], key=lambda one: (one[1], one[0] == "/clock"))

"""Messages become what the robot knew at a moment: nothing from the future, nothing made up, everything odd named."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vla import assets
from vla.errors import UserError
from vla.messages import SECOND, BadMessage, read_picture, read_values, write_message, write_picture
from vla.ros_types import MessageTypes
from vla.spec import Camera, Field, RobotSpec, RosStream
from vla.streams import Source, Streams, extra, sources

TYPES = MessageTypes()
SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
MS = SECOND // 1000

JOINTS = Source(
    RosStream("state", "/joint_states", "sensor_msgs/msg/JointState", ("a", "b")), None, (Field("joints", 2, "rad"),)
)
CAMERA = Source(RosStream("front", "/front", "sensor_msgs/msg/Image"), Camera("front", 4, 6))
CLOCK = RosStream("clock", "/clock", "rosgraph_msgs/msg/Clock")


def joint_state(ms: int, a: float, b: float, names: tuple[str, ...] = ("a", "b")):
    message = TYPES.new("sensor_msgs/msg/JointState", name=list(names), position=np.array([a, b]))
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(ms * MS, SECOND)
    return message


def picture(ms: int, height: int = 4, width: int = 6, encoding: str = "rgb8", fill: int = 0):
    image = np.full((height, width, 3), fill, np.uint8)
    message = write_picture(TYPES, CAMERA.stream, Camera("front", height, width), image, ms * MS)
    message.encoding = encoding
    return message


def clock(ms: int):
    message = TYPES.new(CLOCK.type)
    message.clock.sec, message.clock.nanosec = divmod(ms * MS, SECOND)
    return message


def test_a_sample_counts_from_its_stamp_on() -> None:
    streams = Streams([JOINTS])
    for ms, value in ((100, 1), (200, 2), (300, 3)):
        streams.add("/joint_states", joint_state(ms, value, 0), ms * MS)
    assert [streams.at(tick * MS).samples["state"].value[0] for tick in (100, 199, 200, 250, 300)] == [1, 1, 2, 2, 3]
    assert "state" in streams.at(99 * MS).problems
    assert Streams([JOINTS]).at(0).problems == {"state": "nothing has come on /joint_states"}


def test_a_stream_that_is_ahead_of_the_robots_time_is_named_with_by_how_much() -> None:
    streams = Streams([JOINTS])
    streams.add("/joint_states", joint_state(1700, 1, 0), 200 * MS)
    assert streams.at(200 * MS).problems == {
        "state": "what comes on /joint_states is stamped 1.50 s ahead of the robot's time"
    }


def test_samples_that_arrive_out_of_order_are_put_in_order() -> None:
    streams = Streams([JOINTS])
    for ms, value in ((300, 3), (100, 1), (200, 2)):
        streams.add("/joint_states", joint_state(ms, value, 0), 400 * MS)
    assert streams.at(250 * MS).samples["state"].value[0] == 2


def test_a_stream_by_receive_time_counts_from_its_arrival() -> None:
    arrival = replace(JOINTS, stream=replace(JOINTS.stream, stamp="receive"))
    streams = Streams([arrival])
    streams.add("/joint_states", joint_state(100, 1, 0), 150 * MS)
    assert streams.at(149 * MS).problems and not streams.at(150 * MS).problems
    assert streams.at(160 * MS).age("state") == pytest.approx(0.01)


def test_a_stale_stream_is_named_with_its_age_and_has_no_value() -> None:
    streams = Streams([JOINTS, CAMERA])
    streams.add("/joint_states", joint_state(100, 1, 0), 100 * MS)
    streams.add("/front", picture(900), 900 * MS)
    snapshot = streams.at(1000 * MS)
    assert snapshot.problems == {"state": "the newest on /joint_states is 0.90 s old, over 0.5 s"}
    assert set(snapshot.samples) == {"front"}


def test_joints_are_taken_by_name_whatever_their_order() -> None:
    streams = Streams([JOINTS])
    message = joint_state(100, 5, 7, ("b", "a"))
    message.name, message.position = ["b", "other", "a"], np.array([5.0, 6.0, 7.0])
    streams.add("/joint_states", message, 100 * MS)
    assert streams.at(100 * MS).samples["state"].value.tolist() == [7, 5]


def test_joints_of_another_publisher_on_the_topic_are_no_fault() -> None:
    streams = Streams([JOINTS])
    streams.add("/joint_states", joint_state(100, 1, 2), 100 * MS)
    streams.add("/joint_states", joint_state(110, 0, 0, ("finger", "thumb")), 110 * MS)
    snapshot = streams.at(120 * MS)
    assert not snapshot.problems and snapshot.samples["state"].stamp == 100 * MS


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (joint_state(700, 1, 2, ("a", "c")), "a message on /joint_states b missing"),
        (joint_state(700, 1, float("nan")), "a message on /joint_states b is not a finite number"),
        (joint_state(0, 1, 2), "is not stamped"),
    ],
)
def test_joints_that_cannot_be_used_are_named_once_the_last_good_ones_are_stale(message, words: str) -> None:
    streams = Streams([JOINTS])
    streams.add("/joint_states", joint_state(600, 1, 2), 600 * MS)
    streams.add("/joint_states", message, 700 * MS)
    assert streams.at(800 * MS).samples["state"].value.tolist() == [1, 2]
    assert words in streams.at(1300 * MS).problems["state"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (picture(100, height=8), "is 6x8, the spec says 6x4"),
        (picture(100, encoding="16UC1"), "its encoding is '16UC1'; known are rgb8"),
        (picture(100, encoding="rgba8"), "too few for 6x4 rgba8"),
    ],
)
def test_a_picture_of_another_size_or_encoding_is_named(message, words: str) -> None:
    streams = Streams([CAMERA])
    streams.add("/front", message, 100 * MS)
    assert words in streams.at(100 * MS).problems["front"]


def test_a_clock_that_goes_back_makes_what_was_stamped_later_unknown() -> None:
    streams = Streams([JOINTS], CLOCK)
    streams.add("/joint_states", joint_state(4000, 4, 0), 0)
    assert streams.now is None  # before the first word of the clock there is no time
    for ms in (5000, 6000):
        streams.add("/clock", clock(ms), 0)
        streams.add("/joint_states", joint_state(ms, ms, 0), 0)
    streams.add("/joint_states", joint_state(90, 9, 0), 0)
    streams.add("/clock", clock(100), 0)
    assert streams.jumps == 1 and streams.now == 100 * MS
    assert streams.at(100 * MS).samples["state"].value[0] == 9


def test_a_wall_clock_that_is_set_back_is_followed_but_not_messages_that_overtake_each_other() -> None:
    streams = Streams([JOINTS])
    for ms, arrived in ((5000, 5001), (6000, 6001), (5990, 5995)):
        streams.add("/joint_states", joint_state(ms, ms, 0), arrived * MS)
    assert streams.jumps == 0 and streams.now == 6001 * MS
    streams.add("/joint_states", joint_state(100, 9, 0), 101 * MS)
    assert streams.jumps == 1 and streams.now == 101 * MS
    assert streams.at(101 * MS).samples["state"].value[0] == 9


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
@pytest.mark.parametrize("padding", [0, 5])
def test_pictures_of_all_encodings_and_row_lengths_are_read(encoding: str, padding: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    if encoding == "mono8":
        rgb[:] = rgb[..., :1]
    raw = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.dstack([rgb, rgb[..., 0]]),
        "bgra8": np.dstack([rgb[..., ::-1], rgb[..., 0]]),
        "mono8": rgb[..., :1],
    }[encoding].reshape(4, -1)
    data = np.pad(raw, ((0, 0), (0, padding)), constant_values=9)
    message = TYPES.new(
        CAMERA.stream.type, height=4, width=6, step=data.shape[1], encoding=encoding, data=data.reshape(-1)
    )
    np.testing.assert_array_equal(read_picture(message, CAMERA.stream, Camera("front", 4, 6)), rgb)
    bgr = read_picture(message, CAMERA.stream, Camera("front", 4, 6, colour="bgr"))
    np.testing.assert_array_equal(bgr, rgb[..., ::-1])


def test_compressed_pictures_are_read_and_broken_ones_named() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    stream = replace(CAMERA.stream, type="sensor_msgs/msg/CompressedImage")
    message = write_picture(TYPES, stream, Camera("front", 4, 6), rgb, 1)
    np.testing.assert_array_equal(read_picture(message, stream, Camera("front", 4, 6)), rgb)
    message.data = cv2.imencode(".jpg", np.zeros((4, 6, 3), np.uint8))[1].reshape(-1)
    assert read_picture(message, stream, Camera("front", 4, 6)).max() == 0
    message.data = message.data[:10]
    with pytest.raises(BadMessage, match="its 10 bytes are no"):
        read_picture(message, stream, Camera("front", 4, 6))


@pytest.mark.parametrize("kind", ["state", "action"])
def test_what_is_written_is_read_back(kind: str) -> None:
    rng = np.random.default_rng(3)
    for part in sources(SPEC, kind):
        values = rng.uniform(-1, 1, sum(field.size for field in part.fields)).astype(np.float32)
        if part.name == "state.ee_rotation":
            values = np.array([0, 1, 0, -1, 0, 0], np.float32)
        message = write_message(TYPES, [(part.stream, part.fields, values.astype(np.float64))], SECOND, 0.05)
        data = TYPES.to_cdr(message)
        again = read_values(TYPES.from_cdr(data, part.stream.type), part.stream, part.fields).astype(np.float32)
        np.testing.assert_allclose(again, values, atol=1e-7 if part.name == "state.ee_rotation" else 0)


def test_a_twist_is_velocity_and_a_trajectory_point_lies_one_period_ahead() -> None:
    translation, rotation, _ = sources(SPEC, "action")
    parts = [(part.stream, part.fields, np.full(3, 0.01)) for part in (translation, rotation)]
    twist = write_message(TYPES, parts, SECOND, 0.05)
    assert twist.twist.linear.x == pytest.approx(0.2) and twist.header.frame_id == "base"
    stream = RosStream("action", "/jtc/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", ("a", "b"))
    trajectory = write_message(TYPES, [(stream, JOINTS.fields, np.array([1.0, 2.0]))], SECOND, 0.05)
    point, rest = trajectory.points
    assert trajectory.joint_names == ["a", "b"] and point.positions.tolist() == [1, 2]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 50 * MS)
    assert rest.positions.tolist() == [1, 2] and rest.velocities.tolist() == [0, 0]
    assert (rest.time_from_start.sec, rest.time_from_start.nanosec) == (0, 100 * MS)
    assert read_values(trajectory, stream, JOINTS.fields).tolist() == [1, 2]


@pytest.mark.parametrize(("unit", "first"), [("rad", ([1, 2], [])), ("rad/s", ([], [1, 2]))])
def test_a_slow_robot_has_its_whole_period_for_a_trajectory_and_stands_still_100_ms_later(unit: str, first) -> None:
    stream = RosStream("action", "/jtc/joint_trajectory", "trajectory_msgs/msg/JointTrajectory", ("a", "b"))
    trajectory = write_message(TYPES, [(stream, (Field("joints", 2, unit),), np.array([1.0, 2.0]))], SECOND, 0.5)
    said = [(p.positions.tolist(), p.velocities.tolist()) for p in trajectory.points]
    assert said == [first, (first[0], [0, 0])]
    assert [p.time_from_start.nanosec for p in trajectory.points] == [500 * MS, 600 * MS]


def test_positions_velocities_and_efforts_of_joints_on_one_topic_are_each_written_where_they_are_read() -> None:
    units = {"rad": ("a", "b", "finger"), "rad/s": ("b", "a"), "Nm": ("a", "b")}
    parts = [
        (RosStream(unit, "/joint_states", JOINTS.stream.type, names), (Field("joints", len(names), unit),), values)
        for (unit, names), values in zip(units.items(), ([1.0, 2, 3], [5.0, 4], [6.0, 7]), strict=True)
    ]
    message = write_message(TYPES, [(stream, fields, np.array(values)) for stream, fields, values in parts], SECOND, 1)
    assert message.name == ["a", "b", "finger"] and message.position.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(message.velocity, [4, 5, np.nan])
    again = TYPES.from_cdr(TYPES.to_cdr(message), JOINTS.stream.type)
    for stream, fields, values in parts:
        assert read_values(again, stream, fields).tolist() == values


def test_the_shipped_arm_says_where_everything_is() -> None:
    for kind, size in (("state", SPEC.state_size), ("action", SPEC.action_size)):
        places = [part.place for part in sources(SPEC, kind)]
        assert sorted(i for place in places for i in range(place.start, place.stop)) == list(range(size))
    assert [part.name for part in sources(SPEC, "camera")] == ["front", "wrist"]
    assert extra(SPEC, "clock").topic == "/clock"


def test_a_part_without_a_stream_is_named() -> None:
    ros = tuple(stream for stream in SPEC.ros if stream.stream not in ("wrist", "state.gripper"))
    with pytest.raises(UserError, match="tabletop: ros has no stream for wrist"):
        sources(replace(SPEC, ros=ros), "camera")
    with pytest.raises(UserError, match=r"tabletop: ros has no stream for state\.gripper"):
        sources(replace(SPEC, ros=ros), "state")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"stream": "state.griper"},
            "ros names state.griper, which the robot does not have; did you mean state.gripper?",
        ),
        ({"stream": "front"}, "ros names front more than once"),
        ({"stream": "state", "topic": "/front/image_raw"}, "/front/image_raw differs in type or qos"),
    ],
)
def test_mistakes_in_the_ros_section_are_named(change: dict, words: str) -> None:
    stream = RosStream("state", "/new", "sensor_msgs/msg/JointState")
    spec = replace(SPEC, ros=(*SPEC.ros, replace(stream, **change)))
    with pytest.raises(UserError) as error:
        spec.check_ros()
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"topic": "joint_states"}, "ros[2].topic 'joint_states' is no absolute ROS name"),
        ({"type": "sensor_msgs/JointState"}, "ros[2].type 'sensor_msgs/JointState' is not written as package/msg/Type"),
        ({"qos": "best"}, "ros[2].qos must be one of 'sensor'"),
        ({"scale": 0}, "ros[2].scale must be finite and not zero"),
        ({"max_age": -1}, "ros[2].max_age must be positive"),
    ],
)
def test_a_mistake_in_a_stream_is_named_by_its_path(change: dict, words: str) -> None:
    data = SPEC.to_dict()
    data["ros"][2].update(change)
    with pytest.raises(UserError) as error:
        RobotSpec.from_dict(data)
    assert words in str(error.value)


def test_where_a_robot_lives_in_ros_is_nothing_a_policy_depends_on() -> None:
    elsewhere = replace(SPEC, ros=())
    SPEC.check_robot(elsewhere)
    assert not SPEC.diff(elsewhere) and SPEC.diff(elsewhere, whole=True)

"""Gamepad, SpaceMouse and LeRobot's leaders, with the real libraries on a virtual device, real bytes, a plugin."""

import ctypes
import math
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from session_rig import session_with, wait_for

from vla import assets
from vla.actions.rotations import matrix_to_axis_angle
from vla.data.spool import read_frames
from vla.errors import UserError
from vla.robots.gym_sim import make_robot
from vla.runtime.kinematics import ArmKinematics
from vla.runtime.safety_gate import SafetyGate
from vla.spec import ActionSpec, Field, RobotSpec
from vla.teleop.devices import Grip
from vla.teleop.leader import Leader
from vla.teleop.mapping import Mapper, Scaling
from vla.teleop.plugged import DeviceGone, PluggedDevice

TABLETOP = RobotSpec.load(assets.find("robot", "tabletop"))
HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
CALM = SimpleNamespace(trips=0, stopped=None, driver="nobody", gripper=1.0, policy_on=False)


class VirtualPad:
    """A gamepad that SDL itself simulates, behind the very library that pygame has loaded."""

    BUTTONS = ("a", "b", "x", "y", "back", "guide", "start", "leftstick", "rightstick", "leftshoulder",
               "rightshoulder", "dpad_up", "dpad_down", "dpad_left", "dpad_right")  # fmt: skip
    AXES = ("leftx", "lefty", "rightx", "righty", "triggerleft", "triggerright")

    def __init__(self) -> None:
        from pygame._sdl2 import controller

        self._sdl = ctypes.CDLL(controller.__file__)  # finds what pygame links to: FFmpeg may have loaded another SDL
        self._sdl.SDL_JoystickOpen.restype = ctypes.c_void_p
        self.index = self._sdl.SDL_JoystickAttachVirtual(1, len(self.AXES), len(self.BUTTONS), 0)
        if self.index < 0:
            pytest.skip("this SDL was built without virtual joysticks")
        self._stick = ctypes.c_void_p(self._sdl.SDL_JoystickOpen(self.index))

    def move(self, axis: str, value: float) -> None:
        self._sdl.SDL_JoystickSetVirtualAxis(self._stick, self.AXES.index(axis), ctypes.c_int16(round(32767 * value)))

    def press(self, button: str, down: bool = True) -> None:
        self._sdl.SDL_JoystickSetVirtualButton(self._stick, self.BUTTONS.index(button), ctypes.c_uint8(down))

    def unplug(self) -> None:
        self._sdl.SDL_JoystickDetachVirtual(self.index)


@pytest.fixture
def gamepad():
    pytest.importorskip("pygame", reason="pygame is not installed: pip install 'vla[gamepad]'")
    from vla.teleop.gamepad import Gamepad

    pad = Gamepad()
    yield pad
    pad.close()


def test_a_gamepad_moves_presses_and_may_be_unplugged(gamepad):
    with pytest.raises(DeviceGone):
        gamepad.open()
    virtual, grip = VirtualPad(), Grip()
    gamepad.open()
    assert not gamepad.look(grip, CALM).move.any()
    virtual.move("lefty", -1.0)
    virtual.move("leftx", 0.5)
    virtual.move("righty", 0.1)  # within the dead zone
    np.testing.assert_allclose(gamepad.look(grip, CALM).move, [1, -0.5, 0, 0, 0, 0], atol=0.01)
    virtual.press("rightshoulder")
    gamepad.look(grip, CALM)
    assert grip.clutch
    gamepad.look(grip, CALM)
    assert grip.clutch, "a button that stays down says it once"
    virtual.press("rightshoulder", False)
    virtual.press("a")
    virtual.press("start")
    virtual.press("dpad_up")
    assert gamepad.look(grip, CALM).wishes == (("start", None), ("success", None)) and not grip.open
    virtual.press("b")
    assert ("stop", None) in gamepad.look(grip, CALM).wishes and not grip.clutch
    virtual.move("righty", -1.0)
    virtual.press("leftshoulder")
    virtual.move("triggerleft", 1.0)
    np.testing.assert_allclose(gamepad.look(grip, CALM).move, 0.3 * np.array([1, -0.5, 0, 0, 1, 0]), atol=0.01)
    virtual.unplug()
    with pytest.raises(DeviceGone):
        gamepad.look(grip, CALM)


def report(channel: int, *values: int) -> bytes:
    return bytes([channel]) + struct.pack(f"<{len(values)}h", *values)


class Wire:
    """Stands for the USB cable: gives the reports of a SpaceMouse one by one, and breaks."""

    def __init__(self) -> None:
        self.reports: list[bytes] = []
        self.broken = False

    def read(self, size: int) -> bytes:
        if self.broken:
            raise OSError("read error")
        return self.reports.pop(0) if self.reports else b""

    def close(self) -> None:
        pass


def test_a_space_mouse_is_read_from_its_reports_in_the_robots_axes():
    library = pytest.importorskip("pyspacemouse", reason="not installed: pip install 'vla[spacemouse]'")
    from vla.teleop.spacemouse import SpaceMouse

    wire, grip = Wire(), Grip()
    info = library.apply_axis_convention(library.get_device_specs()["SpaceNavigator"], library.AxisConvention.ROS)
    mouse = SpaceMouse()
    mouse.use(library.SpaceMouseDevice(info, wire))
    assert not mouse.look(grip, CALM).move.any()
    # The cap pushed away from the operator by half, then turned counterclockwise as far as it goes.
    wire.reports = [report(1, 0, -175, 0), report(2, 0, 0, -350)]
    np.testing.assert_allclose(mouse.look(grip, CALM).move, [0.5, 0, 0, 0, 0, 1], atol=0.01)
    wire.reports = [report(1, -350, 0, -350), report(2, 0, 0, 0)]
    np.testing.assert_allclose(mouse.look(grip, CALM).move, [0, 1, 1, 0, 0, 0], atol=0.01)
    wire.reports = [report(1, 5, -5, 5), report(2, 0, 0, 0), bytes([3, 1, 0])]
    assert not mouse.look(grip, CALM).move.any() and grip.clutch, "a resting hand moves nothing; the left button holds"
    wire.reports = [bytes([3, 0, 0]), bytes([3, 2, 0])]
    mouse.look(grip, CALM)
    assert grip.clutch and not grip.open
    wire.broken = True
    with pytest.raises(DeviceGone):
        mouse.look(grip, CALM)


GRIPPER = Field("gripper", 1, "1")
MODES = {
    "ee_delta": TABLETOP.action,
    "ee_pose": replace(TABLETOP.action, mode="ee_pose"),
    "joint_position": ActionSpec("joint_position", (Field("joints", 7, "deg"), GRIPPER), TABLETOP.action.gripper),
    "joint_velocity": ActionSpec("joint_velocity", (Field("joints", 7, "rad/s"), GRIPPER), TABLETOP.action.gripper),
}


@pytest.mark.parametrize("mode", MODES)
def test_an_arm_makes_its_leaders_motion_in_every_action_mode(mode):
    """A leader that stands elsewhere when it is taken hold of, and turns its first joint by 0.3 rad."""
    gate = SafetyGate(replace(TABLETOP, action=MODES[mode]), rate_hz=20)
    gate.reset(HOME, 1.0)
    mapper = Mapper(gate, 20, replace(Scaling(), align=0.0))
    leader = HOME + 0.2
    before = gate.pose
    for step in range(60):
        leader[0] += 0.3 / 30 if step < 30 else 0.0
        action = mapper.follow(leader, 1.0)
        if step == 0:
            assert np.abs(gate.layout.decode(action).vector - _rest(gate)).max() < 0.02, "taking hold moves nothing"
        gate.step(action, step / 20, step / 20, gate.motion.position)
    turned = matrix_to_axis_angle(gate.pose[1] @ before[1].T)
    np.testing.assert_allclose(turned, [0, 0, 0.3], atol=0.02)
    around = np.array([[math.cos(0.3), -math.sin(0.3), 0], [math.sin(0.3), math.cos(0.3), 0], [0, 0, 1]])
    np.testing.assert_allclose(gate.pose[0], around @ before[0], atol=0.01)


def _rest(gate):
    if gate.layout.mode == "joint_position":
        return gate.motion.position
    return gate.pose[0] if gate.layout.mode == "ee_pose" else 0.0


def test_an_arm_comes_to_where_its_leader_is():
    gate = SafetyGate(replace(TABLETOP, action=MODES["joint_position"]), rate_hz=20)
    gate.reset(HOME, 1.0)
    mapper = Mapper(gate, 20)
    for step in range(40):
        gate.step(mapper.follow(HOME + 0.2, 1.0), step / 20, step / 20, gate.motion.position)
    np.testing.assert_allclose(gate.motion.position, HOME + 0.2, atol=1e-3)


def test_a_leader_arm_of_a_plugin_drives_a_session(tmp_path, lerobot_plugins):
    file = tmp_path / "leader"

    def stand(joints, opening):
        whole = tmp_path / "leader.partial"
        whole.write_text(" ".join(str(value) for value in (*np.degrees(joints), opening)))
        whole.rename(file)

    stand(HOME, 60)
    config = ["type=tableleader", f"file={file}", f"calibration_dir={tmp_path}"]
    leader = Leader(TABLETOP, config)
    leader.open()
    device = PluggedDevice(leader)
    robot = make_robot("tabletop", render=False)
    with session_with(lambda: robot, TABLETOP, tmp_path, device=device) as (live, _, _recorder):
        first = live.moment().step
        polled(device, live, lambda now: now.step > first + 3, "the open clutch is seen")
        device._keys.press("space", 0.0)
        polled(device, live, lambda now: now.engaged, "the clutch engages")
        stand(HOME + 0.02, 62)
        first = live.moment().step
        polled(device, live, lambda now: now.step > first + 3, "it is led")
        assert live.moment().gripper == 1, "the gripper stays as it was until the leader's is moved"
        for turn in np.linspace(0, 0.3, 30):
            stand(HOME + turn * np.eye(7)[0], 40)
            polled(device, live, lambda now: now.driver == "person", "it drives")
        there = ArmKinematics(TABLETOP.kinematics).forward(HOME + 0.3 * np.eye(7)[0])[0]

        def follows(now):
            return np.abs(now.observation.state[7:10] - there).max() < 0.02

        polled(device, live, follows, "the tool comes to where the leader's would be")
        assert live.moment().gripper == pytest.approx(0.4)
        file.unlink()
        polled(device, live, lambda now: not now.engaged and now.at_rest, "an unplugged leader lets go")
        assert "lerobot:tableleader is gone" in device.trouble and device.name == "lerobot:tableleader"
        stand(HOME, 100)
        polled(device, live, lambda _: not device.trouble, "it is found again")
        assert not live.moment().engaged, "and must be taken hold of anew"


@pytest.mark.parametrize("first", ["joint1", "shoulder"])
def test_a_leaders_joints_are_the_robots_by_name_or_else_in_order(tmp_path, lerobot_plugins, first):
    (tmp_path / "leader").write_text("10 20 30 40 50 60 70 100")
    names = [*(f"joint{i}" for i in range(7, 1, -1)), first]
    leader = Leader(TABLETOP, ["type=tableleader", f"file={tmp_path}/leader", f"names={names}"])
    leader.open()
    joints = np.degrees(leader.look(Grip(), None).joints)
    np.testing.assert_allclose(joints, np.arange(70, 0, -10) if first == "joint1" else np.arange(10, 80, 10))


def polled(device, live, condition, what):
    def look(now):
        device.poll(now)
        return condition(now)

    wait_for(live, look, what)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["use_degrees=false"], "joints from -100 to 100 are nowhere"),
        (["shares=true"], "joints from -100 to 100 are nowhere"),
        (["joints=5"], "tabletop has the joints joint1, .*joint7"),
    ],
)
def test_a_leader_that_cannot_drive_this_robot_is_refused(tmp_path, lerobot_plugins, more, words):
    config = ["type=tableleader", f"file={tmp_path}/none", f"calibration_dir={tmp_path}"]
    with pytest.raises(UserError, match=words):
        Leader(TABLETOP, [*config, *more])
    with pytest.raises(DeviceGone, match="there is no leader"):
        Leader(TABLETOP, config).open()


def test_a_teleoperator_of_a_plugin_that_gives_deltas_drives_a_session_by_its_own_buttons(tmp_path, lerobot_plugins):
    file = tmp_path / "stick"

    def say(*words):
        whole = tmp_path / "stick.partial"
        whole.write_text(" ".join(map(str, words)))
        whole.rename(file)

    say(0, 0, 0, 1)
    stick = Leader(TABLETOP, ["type=tablestick", f"file={file}", f"calibration_dir={tmp_path}"])
    stick.open()
    device, robot = PluggedDevice(stick), make_robot("tabletop", render=False)
    with session_with(lambda: robot, TABLETOP, tmp_path, device=device) as (live, _, recorder):

        def heeded(condition, what):
            def look(now):
                for wish in device.poll(now):
                    live.ask(*wish)
                return condition(now)

            wait_for(live, look, what)

        def time_passes():
            first = live.moment().step
            heeded(lambda now: now.step > first + 5, "time passes")

        live.ask("start")
        heeded(lambda _: recorder.status().recording, "it records")
        start = live.moment().tool
        say(0, 1, 0, 1)
        time_passes()
        assert np.abs(live.moment().tool - start).max() < 1e-6, "it has not taken hold yet"
        say(0, 1, 0, 1, "is_intervention")
        heeded(lambda now: now.driver == "person" and now.tool[1] > start[1] + 0.05, "the tool goes to the left")
        assert live.moment().gripper == 1
        say(0, 0, 0, 0, "is_intervention")
        heeded(lambda now: now.gripper == 0, "the gripper closes")
        say(0, 0, 0, 1, "is_intervention")
        time_passes()
        assert live.moment().gripper == 0, "1 leaves it as it is"
        say(0, 1, 0, 1)
        heeded(lambda now: not now.engaged and now.at_rest, "it lets go, and the arm rests")
        say(0, 0, 0, 1, "success", "terminate_episode")
        heeded(lambda now: now.seed == 1, "the take ends, and the next scene comes")
        time_passes()
        assert [note.text for note in live.moment().notes if note.bad] == [], "a button that stays down says it once"
        recorder.settle()
        (kept,) = recorder.status().takes
        drivers = {frame.driver for frame in read_frames(tmp_path / "data.live" / "take-000000", TABLETOP)}
    assert kept.take.success and drivers == {"person", "nobody"}

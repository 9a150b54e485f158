"""The tabletop as a Gymnasium environment: a seven-joint arm does as it is told on a table of coloured things."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from gym_tabletop import arm
from gym_tabletop.assigned import AssignedTable
from gym_tabletop.events import Event
from gym_tabletop.instructions import SPLITS, choose
from gym_tabletop.kinematics import integrate_delta
from gym_tabletop.layout import Layout, sample_layout, sample_suite_layout
from gym_tabletop.palette import PAIRS
from gym_tabletop.perturbation import LOOKS, Area, Perturbation
from gym_tabletop.randomization import randomize_look
from gym_tabletop.still import FURTHER, PLAYED, WEIGHTS, play_for_still, pose_for_still
from gym_tabletop.tasks import SUITE, TASKS, Skill, Task

CAMERAS = ("front", "wrist")
CONTROL_HZ = 20
SERVO_HZ = 200
"""How often a body that runs in real time is told where its joints should be."""
MAX_EPISODE_STEPS = 240
ACTION_MODES = ("ee_delta", "joint_position")
DELTA_LIMIT = np.array([0.04] * 3 + [0.25] * 3)
"""Largest end-effector delta of one step: m and rad."""
CHANGE_STEPS = (10, 40)
"""When a mind is changed, in control steps."""
AREA = Area((0.36, -0.32), (0.72, 0.32))
"""Where distractors may stand."""
HOME_SPREAD = 0.06
"""The arm starts at HOME give or take this many radians per joint."""


class TabletopEnv(AssignedTable, gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Do things with coloured objects, as told in words: push, lift and place; in the `suite`, much more.

    Observation: `pixels` {"front", "wrist"}: uint8 (S, S, 3) RGB; `agent_pos`: float32 (17,): joint positions
    (7, rad), tool position (3, m), tool rotation (6, first two columns of its matrix), gripper opening (1, 1 = open).
    Action: `ee_delta` float32 (7,): translation (m per step) and axis-angle rotation (rad per step) in the base
    frame, gripper (1 = open, 0 = closed); or `joint_position` float32 (8,): joints (rad) and gripper.

    An episode's scene, words and outcome depend on its reset seed alone. `task`: a family or "all"; `split`: which
    words and targets may be drawn ("train", held-out "phrasing" or "pair", or "all"); `randomize`: vary colours,
    light, table and camera pose; `events`: in every other episode the target is moved by hand, or slips out of the
    gripper; `perturb`: some of `gym_tabletop.perturbation.LOOKS`, in the pictures only; `render=False` gives black
    images to whoever needs physics only.
    """

    metadata = {  # noqa: RUF012  gymnasium declares it as an instance variable
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
    }

    def __init__(
        self,
        task: str = "all",
        split: str = "all",
        obs_size: int = 96,
        action_mode: str = "ee_delta",
        quality: str = "fast",
        randomize: bool = False,
        suite: bool = False,
        events: bool = False,
        perturb: Sequence[str] = (),
        render: bool = True,
        render_mode: str | None = "rgb_array",
    ) -> None:
        tasks = SUITE if suite else TASKS
        _check_choice("task", task, ("all", *tasks))
        _check_choice("split", split, SPLITS)
        _check_choice("action_mode", action_mode, ACTION_MODES)
        _check_choice("quality", quality, ("fast", "high"))
        for look in perturb:
            _check_choice("perturb", look, LOOKS)
        self.families = tuple(tasks) if task == "all" else (task,)
        if split == "pair":
            self.families = tuple(f for f in self.families if _has_pair(tasks[f]))
            if not self.families:
                raise ValueError(f"split='pair' has nothing to hold out of task={task!r}, which names no objects")
        super().__init__(obs_size, quality == "high", tasks, split)
        self.suite, self.events, self.perturb = suite, events, tuple(perturb)
        self.action_mode, self.randomize = action_mode, randomize
        self.render_mode, self._max_episode_steps = render_mode, MAX_EPISODE_STEPS
        self._render_images = render
        image = spaces.Box(0, 255, (obs_size, obs_size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict({camera: image for camera in CAMERAS}),
                "agent_pos": spaces.Box(-10.0, 10.0, (17,), np.float32),
            }
        )
        if action_mode == "ee_delta":
            low, high = np.append(-DELTA_LIMIT, 0.0), np.append(DELTA_LIMIT, 1.0)
        else:
            low, high = np.append(arm.POSITION_LOW, 0.0), np.append(arm.POSITION_HIGH, 1.0)
        self._action_low, self._action_high = low.astype(np.float32), high.astype(np.float32)
        self._event: Event | None = None
        self._plays_on = False
        self.action_space = spaces.Box(self._action_low, self._action_high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        rng = self.np_random
        still = bool((options or {}).get("still", False))
        self._restore()
        while True:
            # Only the suite has families that need furniture of their own.
            families = (self._sample_family(rng, still),) if self.suite else self.families
            layout = self._sample_layout(rng, families)
            joints = arm.HOME + rng.uniform(-HOME_SPREAD, HOME_SPREAD, 7)
            self._place(layout, joints)
            assignment = choose(rng, self.scene(), {name: self.tasks[name] for name in families}, self.split)
            if assignment is not None:
                break
        if self.randomize:
            randomize_look(self.model, rng)
        played = still and rng.random() < PLAYED
        if still and not played:
            pose_for_still(self, rng)
        mujoco.mj_forward(self.model, self.data)
        self._steps, self._servo_calls, self._event, self._disturbed, self._plays_on = 0, 0, None, False, played
        self._joint_target = self.data.qpos[:7].copy()
        self._pose_target = self.kinematics.forward(self._joint_target)
        self._give(assignment)
        self._change_at = int(rng.integers(*CHANGE_STEPS)) if self._family == "changed" else None
        self._event = Event.sample(rng) if self.events and rng.random() < 0.5 else None
        if played:
            play_for_still(self, rng)
        if self.perturb:
            seed = int(rng.integers(2**31)) if seed is None else seed
            self.perturbation = Perturbation(self.perturb, seed, self.model, self.data, AREA)
        return self._observation(), self._info()

    def next_still(self, rng: np.random.Generator) -> bool:
        """Play a still scene on to a later moment; False if `reset` posed it, or its task is done.

        Most of a still's time goes into playing.
        """
        if not self._plays_on or self._success:
            return False
        play_for_still(self, rng, FURTHER)
        return True

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if not np.all(np.isfinite(action)):
            raise ValueError(f"action has a value that is not finite: {action}")
        command = np.clip(np.asarray(action, np.float64), self._action_low, self._action_high)
        self._begin_step()
        before = self._joint_target
        if self.action_mode == "ee_delta":
            self._pose_target = integrate_delta(*self._pose_target, command[:6])
            wanted = self.kinematics.inverse(before, *self._pose_target)
        else:
            wanted = command[:7]
        reach = arm.VELOCITY_LIMIT / CONTROL_HZ
        self._joint_target = before + np.clip(wanted - before, -reach, reach)
        self._drive(before, float(command[-1]), CONTROL_HZ)
        mujoco.mj_forward(self.model, self.data)
        self._judge()
        return self._observation(), float(self._success), self._success, False, self._info()

    def servo(self, joints: NDArray[np.float64], opening: float) -> bool:
        """Drive for 1 / SERVO_HZ seconds: the joints to `joints` (7, rad), the fingers towards `opening` (1 = open).

        For bodies that run in real time, instead of `step`, whose last part it is: deltas have been integrated and
        joints been found by whoever calls. Everything that happens once per control period, it does in every tenth
        call. Returns whether the task is done.
        """
        turn = self._servo_calls % (SERVO_HZ // CONTROL_HZ)
        self._servo_calls += 1
        if turn == 0:
            self._begin_step()
        before, self._joint_target = self._joint_target, np.array(joints, np.float64)
        self._drive(before, float(np.clip(opening, 0, 1)), SERVO_HZ)
        if turn == SERVO_HZ // CONTROL_HZ - 1:
            mujoco.mj_forward(self.model, self.data)
            self._judge()
        else:
            mujoco.mj_kinematics(self.model, self.data)
        return self._success

    def pose_arm(self, joints: NDArray[np.float64], opening: float) -> dict[str, Any]:
        """Put the arm at `joints` (7,) rad, its gripper `opening` wide (0 to 1), at rest, where nothing is in its way.

        Returns the observation. For replaying movements recorded in other scenes; until the next reset nothing on the
        table can be touched.
        """
        self._place(self.layout, np.clip(joints, arm.POSITION_LOW, arm.POSITION_HIGH))
        things = self.model.body_rootid[self.model.geom_bodyid] != self.model.body("base").id
        things &= self.model.geom_bodyid != 0
        self.model.geom_contype[things] = self.model.geom_conaffinity[things] = 0
        self.model.body_gravcomp[self._object_bodies] = 1
        self.data.qpos[7:9] = self.data.ctrl[7:9] = np.clip(opening, 0, 1) * arm.FINGER_TRAVEL
        mujoco.mj_forward(self.model, self.data)
        self._joint_target = self.data.qpos[:7].copy()
        self._pose_target = self.kinematics.forward(self._joint_target)
        self._gripper_target = float(opening)
        return self._observation()

    def render(self) -> NDArray[np.uint8]:
        """The front image (S, S, 3)."""
        return self.image("front")

    def _sample_family(self, rng: np.random.Generator, still: bool) -> str:
        if not still:
            return str(rng.choice(self.families))
        weights = np.array([WEIGHTS.get(name, 1.0) for name in self.families])
        return str(rng.choice(self.families, p=weights / weights.sum()))

    def _sample_layout(self, rng: np.random.Generator, families: tuple[str, ...]) -> Layout:
        turning = any(self.tasks[name].turning for name in families)
        layout = sample_suite_layout(rng, turning) if self.suite else sample_layout(rng)
        pairs = [self.tasks[name].held_out_pair for name in families if self.tasks[name].held_out_pair in PAIRS]
        if self.split != "pair" or not pairs:
            return layout
        return layout.with_pair(pairs[int(rng.integers(len(pairs)))])

    def _begin_step(self) -> None:
        if self._steps == self._change_at:
            self._change_mind(self.np_random)
        self._steps += 1
        self._pushed = self._begin_event()

    def _begin_event(self) -> Callable[[], None] | None:
        """What a hand does before each physics step of this control step, if it does anything."""
        self._disturbed = False
        if (event := self._event) is None:
            return None
        self.data.xfrc_applied[:] = 0
        target = self._assignment.stages[self.stage].request.target
        slot = self.layout.slot(target)
        if slot is None:
            return None
        if not event.lasts(self._steps):
            if event.lasts(self._steps - 1):
                event.end(self.model)
            return None
        self._disturbed = True
        gripped = target in self.physics().gripped
        event.begin(self.model, gripped)
        body, dof = self._object_bodies[slot], int(self.model.joint(f"object{slot}").dofadr[0])
        return None if gripped else functools.partial(event.push, self.data, body, dof)

    def _observation(self) -> dict[str, Any]:
        size = self.obs_size
        if self._render_images:
            pixels = {camera: self.image(camera) for camera in CAMERAS}
        else:
            pixels = {camera: np.zeros((size, size, 3), np.uint8) for camera in CAMERAS}
        return {"pixels": pixels, "agent_pos": self.agent_pos()}

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self._success,
            "task": self.task,
            "task_description": self.task_description,
            "disturbed": self._disturbed,
        }


def _has_pair(task: Task) -> bool:
    """Its own, or that of the skills it is made of."""
    return bool(task.held_out_pair) or not isinstance(task, Skill)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{what}={value!r} is not one of {', '.join(choices)}")

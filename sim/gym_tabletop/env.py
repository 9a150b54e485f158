"""The tabletop as a Gymnasium environment: a seven-joint arm does as it is told on a table of coloured things."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from gym_tabletop import arm, scene
from gym_tabletop.cells import class_of_geoms, majority
from gym_tabletop.events import Event
from gym_tabletop.instructions import SPLITS, Assignment, assignments, choose, half_done
from gym_tabletop.kinematics import ArmKinematics, integrate_delta
from gym_tabletop.layout import Layout, sample_layout, sample_suite_layout
from gym_tabletop.palette import DRAWER, PAIRS
from gym_tabletop.perturbation import LOOKS, Area, Perturbation
from gym_tabletop.randomization import randomize_look
from gym_tabletop.rendering import CameraRenderer, project
from gym_tabletop.scene_truth import Instruction, Scene, Thing
from gym_tabletop.still import PLAYED, WEIGHTS, play_for_still, pose_for_still
from gym_tabletop.tasks import SUITE, TASKS, PhysicsState, Skill, Task

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
PRESSED = 0.6
"""How far down its travel a button counts as pressed."""
AREA = Area((0.36, -0.32), (0.72, 0.32))
"""Where distractors may stand."""
HOME_SPREAD = 0.06
"""The arm starts at HOME give or take this many radians per joint."""


class TabletopEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Do things with coloured objects, as told in words: push, lift and place; in the `suite`, much more.

    Observation: `pixels` {"front", "wrist"}: uint8 (S, S, 3) RGB; `agent_pos`: float32 (17,): joint positions
    (7, rad), tool position (3, m), tool rotation (6, first two columns of its matrix), gripper opening (1, 1 = open).
    Action: `ee_delta` float32 (7,): translation (m per step) and axis-angle rotation (rad per step) in the base
    frame, gripper (1 = open, 0 = closed); or `joint_position` float32 (8,): joints (rad) and gripper.

    An episode's scene, words and outcome depend on its reset seed alone. `task`: a family or "all"; `split`: which
    words and targets may be drawn ("train", held-out "phrasing" or "pair", or "all"); `randomize`: vary colours,
    light, table and camera pose; `events`: in every other episode the target is moved by hand, or slips out of the
    gripper; `perturb`: some of `gym_tabletop.perturbation.LOOKS`, in the
    pictures only; `render=False` gives black images to whoever needs physics only.
    """

    metadata = {  # noqa: RUF012  gymnasium declares it as an instance variable
       "render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}

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
        self.tasks = SUITE if suite else TASKS
        _check_choice("task", task, ("all", *self.tasks))
        _check_choice("split", split, SPLITS)
        _check_choice("action_mode", action_mode, ACTION_MODES)
        _check_choice("quality", quality, ("fast", "high"))
        for look in perturb:
            _check_choice("perturb", look, LOOKS)
        self.families = tuple(self.tasks) if task == "all" else (task,)
        if split == "pair":
            self.families = tuple(f for f in self.families if _has_pair(self.tasks[f]))
            if not self.families:
                raise ValueError(f"split='pair' has nothing to hold out of task={task!r}, which names no objects")
        self.suite, self.events, self.perturb = suite, events, tuple(perturb)
        self._perturbation: Perturbation | None = None
        self.split, self.action_mode, self.randomize, self.obs_size = split, action_mode, randomize, obs_size
        self.render_mode, self._max_episode_steps = render_mode, MAX_EPISODE_STEPS
        self._render_images, self._high_quality = render, quality == "high"
        self.model = scene.build_model(obs_size, self._high_quality)
        self.data = mujoco.MjData(self.model)
        self._pristine = {name: getattr(self.model, name).copy() for name in _MUTABLE}
        self._renderer: CameraRenderer | None = None
        self.kinematics = ArmKinematics()
        self._tool = self.model.site("tool").id
        self._front = self.model.camera("front").id
        self._object_bodies = [self.model.body(f"object{slot}").id for slot in range(scene.SLOTS)]
        self._finger_bodies = {self.model.body(name).id for name in arm.FINGERS}
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
        self._held_steps, self._success, self._steps = 0, False, 0
        self._event: Event | None = None
        self._change_at: int | None = None
        self.action_space = spaces.Box(self._action_low, self._action_high, dtype=np.float32)

    @property
    def task(self) -> str:
        """The family the episode belongs to."""
        return self._family

    @property
    def task_description(self) -> str:
        """The current instruction."""
        return self._assignment.text

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        rng = self.np_random
        still = bool((options or {}).get("still", False))
        for name, values in self._pristine.items():
            getattr(self.model, name)[:] = values
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
        self._steps, self._servo_calls, self._event = 0, 0, None
        self._joint_target = self.data.qpos[:7].copy()
        self._pose_target = self.kinematics.forward(self._joint_target)
        self._give(assignment)
        self._change_at = int(rng.integers(*CHANGE_STEPS)) if self._family == "changed" else None
        self._event = Event.sample(rng) if self.events and rng.random() < 0.5 else None
        if played:
            play_for_still(self, rng)
        if self.perturb:
            seed = int(rng.integers(2**31)) if seed is None else seed
            self._perturbation = Perturbation(self.perturb, seed, self.model, self.data, AREA)
        return self._observation(), self._info()

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

    def image(self, camera: str) -> NDArray[np.uint8]:
        """RGB image (S, S, 3) of `camera` as things stand."""
        change = None if self._perturbation is None else self._perturbation.through(fixed=camera == "front")
        return self._camera_renderer().image(self.data, camera, change)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def agent_pos(self) -> NDArray[np.float32]:
        """What the robot feels: the (17,) of the observation."""
        rotation = self.data.site_xmat[self._tool].reshape(3, 3)
        joints, position = self.data.qpos[:7], self.data.site_xpos[self._tool]
        felt = np.concatenate([joints, position, rotation[:, 0], rotation[:, 1], [self.gripper_opening]])
        return felt.astype(np.float32)

    # What is true of the scene: for labels, experts and success checks.

    def scene(self) -> Scene:
        """Everything on the table as it stands now."""
        things = []
        for slot, pose in enumerate(self.layout.objects):
            place = self.data.xpos[self._object_bodies[slot]]
            things.append(self._thing(pose.pair, "object", place, pose.half))
        for index, (colour, _, _) in enumerate(self.layout.trays):
            things.append(self._thing(f"{colour} tray", "tray", self.data.body(f"tray{index}").xpos, 0.065))
        for index, colour in enumerate(self.layout.panel[1:]):
            things.append(self._thing(f"{colour} button", "button", self.data.body(f"button{index}").xpos, 0.024))
        opened = None
        if self.layout.drawer:
            things.append(self._thing(DRAWER, "drawer", self.data.site("knob").xpos, 0.05))
            opened = float(self.data.joint("drawer").qpos[0] / scene.DRAWER_TRAVEL)
        held = [name for name, fingers in self._touching_fingers().items() if len(fingers) == 2]
        return Scene(tuple(things), held[0] if held else None, self.layout.disc is not None, opened)

    def physics(self) -> PhysicsState:
        """What success checks need beside the scene."""
        speed = {
            pose.pair: float(np.linalg.norm(self.data.cvel[self._object_bodies[slot]][3:]))
            for slot, pose in enumerate(self.layout.objects)
        }
        gripped = frozenset(name for name, fingers in self._touching_fingers().items() if fingers)
        return PhysicsState(self.start, gripped, self.gripper_opening, speed, frozenset(self._pressed))

    @property
    def gripper_opening(self) -> float:
        """Measured, 0 (closed) to 1 (open)."""
        return float(np.clip(self.data.qpos[7:9].sum() / (2 * arm.FINGER_TRAVEL), 0, 1))

    @property
    def assignment(self) -> Assignment:
        """What the robot has been told to do."""
        return self._assignment

    @property
    def stage(self) -> int:
        """Which of the assignment's stages is due; the last one when all are done."""
        return min(self._stage, len(self._assignment.stages) - 1)

    def instruction(self) -> Instruction:
        """The current instruction with its labels."""
        return self._assignment.instruction(self.scene(), self._project, self.stage)

    def instructions(self) -> list[Instruction]:
        """Every instruction that could be given in this scene as it stands, in every phrasing."""
        now, project_once = self.scene(), functools.cache(self._project)  # a request has many phrasings
        return [a.instruction(now, project_once) for a in assignments(now, self._listed())]

    def paraphrases(self) -> list[str]:
        """What is asked now in words that no demonstration uses; of a held-out pair, in any other words.

        None while a mind is still to be changed: what is said next would be lost.
        """
        if self._change_at is not None:
            return []
        said = list(self._assignment.task.sentences(self._assignment.request))
        held_out = [text for text, split in said if split == "phrasing"]
        return held_out or [text for text, _ in said if text != self.task_description]

    def half_done(self) -> list[Instruction]:
        """Instructions to do two things of which the first is done already, labelled with the second."""
        now, project_once = self.scene(), functools.cache(self._project)
        return [a.instruction(now, project_once, 1) for a in half_done(now, self._listed())]

    def set_instruction(self, text: str) -> None:
        """Ask for something else in the same scene; it must be possible here (see `instructions`)."""
        for candidate in assignments(self.scene(), self._listed()):
            if candidate.text == text:
                self._change_at = None
                return self._give(candidate)
        raise ValueError(f"'{text}' cannot be asked for in this scene; see TabletopEnv.instructions()")

    def annotation(self) -> dict[str, NDArray[np.float32]]:
        """Where the current target and goal are in the front image, (2,) each in [0, 1]."""
        given = self.instruction()
        return {
            "target_pixel": np.array(given.target_pixel, np.float32),
            "goal_pixel": np.array(given.goal_pixel, np.float32),
        }

    def cells(self, cell: int = 8) -> NDArray[np.uint8]:
        """What most of each cell of the front image shows, as `gym_tabletop.cells.majority` says it."""
        seen = self._camera_renderer().geometry(self.data, "front")
        return majority(class_of_geoms(self.model, self.layout)[seen], cell)

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

    def _listed(self) -> dict[str, Task]:
        """The families that say something of their own; a changed mind uses the others' words."""
        return {name: task for name, task in self.tasks.items() if name != "changed"}

    def _place(self, layout: Layout, joints: NDArray[np.float64]) -> None:
        self.layout = layout
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = self.data.ctrl[:7] = joints
        self.data.qpos[7:9] = self.data.ctrl[7:9] = arm.FINGER_TRAVEL
        scene.apply_layout(self.model, self.data, layout)
        mujoco.mj_forward(self.model, self.data)

    def _begin_step(self) -> None:
        if self._steps == self._change_at:
            self._change_mind()
        self._steps += 1
        self._pushed = self._begin_event()

    def _drive(self, before: NDArray[np.float64], opening: float, rate: float) -> None:
        """In 1 / rate s the joint targets move evenly on from `before`, the fingers' at their speed to `opening`."""
        substeps = round(1 / (rate * scene.TIMESTEP))
        fingers = float(self.data.ctrl[7])
        stride = np.clip(opening * arm.FINGER_TRAVEL - fingers, -arm.FINGER_SPEED / rate, arm.FINGER_SPEED / rate)
        for substep in range(1, substeps + 1):
            self.data.ctrl[:7] = before + (self._joint_target - before) * substep / substeps
            self.data.ctrl[7:9] = fingers + stride * substep / substeps
            if self._pushed:
                self._pushed()
            mujoco.mj_step(self.model, self.data)

    def _give(self, assignment: Assignment) -> None:
        self._assignment, self._family = assignment, assignment.task.name
        self._stage, self._held_steps, self._success = 0, 0, False
        self._pressed: set[str] = set()
        self.start = {
            pose.pair: self.data.xpos[self._object_bodies[slot]].copy() for slot, pose in enumerate(self.layout.objects)
        }

    def _judge(self) -> None:
        """Note what is pressed, and whether the stage that is due has been done for long enough."""
        for index, colour in enumerate(self.layout.panel[1:]):
            if self.data.joint(f"button{index}").qpos[0] > PRESSED * scene.BUTTON_TRAVEL:
                self._pressed.add(f"{colour} button")
        stages = self._assignment.stages
        now = stages[self.stage]
        holds = now.skill.done(now.request, self.scene(), self.physics())
        self._held_steps = self._held_steps + 1 if holds else 0
        # Until the mind has been changed, what is done is not what will be wanted.
        pending = self._change_at is not None and self._steps <= self._change_at
        if self._held_steps >= now.skill.steps_to_hold and not pending:
            self._stage, self._held_steps = self._stage + 1, 0
            self._success = self._success or self._stage == len(stages)

    def _change_mind(self) -> None:
        """Ask for something else, with another target, if the scene allows it."""
        other = {"changed": self.tasks["changed"]}
        for _ in range(20):
            assignment = choose(self.np_random, self.scene(), other, self.split)
            if assignment is None or assignment.request.target != self._assignment.request.target:
                break
        if assignment is not None:
            self._give(assignment)

    def _begin_event(self) -> Callable[[], None] | None:
        """What a hand does before each physics step of this control step, if it does anything."""
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
        gripped = target in self.physics().gripped
        event.begin(self.model, gripped)
        body, dof = self._object_bodies[slot], int(self.model.joint(f"object{slot}").dofadr[0])
        return None if gripped else functools.partial(event.push, self.data, body, dof)

    def _thing(self, name: str, kind: str, place: NDArray[np.float64], size: float) -> Thing:
        colour, shape = name.split() if " " in name else ("", name)
        x, y, z = (float(v) for v in place)
        u, v = self._project((x, y, z))
        return Thing(name, colour, shape, kind, (x, y, z), (u, v), 0 <= u <= 1 and 0 <= v <= 1, size)

    def _project(self, place: tuple[float, float, float]) -> tuple[float, float]:
        return project(self.model, self.data, self._front, np.array(place))

    def _touching_fingers(self) -> dict[str, set[int]]:
        names = {self._object_bodies[slot]: pose.pair for slot, pose in enumerate(self.layout.objects)}
        if self.layout.drawer:
            names[self.model.body("drawer").id] = DRAWER
        touching: dict[str, set[int]] = {name: set() for name in names.values()}
        for one, two in self.model.geom_bodyid[self.data.contact.geom]:
            for finger, thing in ((one, two), (two, one)):
                if finger in self._finger_bodies and thing in names:
                    touching[names[thing]].add(int(finger))
        return touching

    def _camera_renderer(self) -> CameraRenderer:
        if self._renderer is None:
            self._renderer = CameraRenderer(self.model, self.obs_size, self._high_quality)
        return self._renderer

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
            "disturbed": self._event is not None and self._event.lasts(self._steps),
        }


_MUTABLE = (
    "geom_rgba", "geom_size", "geom_friction", "geom_rbound", "geom_aabb", "geom_group", "geom_contype",
    "geom_conaffinity", "body_pos", "body_gravcomp", "cam_pos", "cam_quat", "light_pos", "light_dir", "light_diffuse",
)  # fmt: skip
"""Model fields a layout or randomisation writes; every reset starts from their compiled values."""


def _has_pair(task: Task) -> bool:
    """Its own, or that of the skills it is made of."""
    return bool(task.held_out_pair) or not isinstance(task, Skill)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{what}={value!r} is not one of {', '.join(choices)}")

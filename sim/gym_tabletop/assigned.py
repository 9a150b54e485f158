"""What the robot has been told to do at the table, in words, and whether it is done."""

import functools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gym_tabletop import scene
from gym_tabletop.instructions import Assignment, assignments, choose, half_done
from gym_tabletop.scene_truth import Instruction
from gym_tabletop.table import Table
from gym_tabletop.tasks import PhysicsState, Task

PRESSED = 0.6
"""How far down its travel a button counts as pressed."""


class AssignedTable(Table):
    """A table where something is asked for. tasks: the families that may be; split: whose words and targets."""

    def __init__(self, obs_size: int, high_quality: bool, tasks: Mapping[str, Task], split: str) -> None:
        super().__init__(obs_size, high_quality)
        self.tasks, self.split = tasks, split
        self._held_steps, self._success, self._steps = 0, False, 0
        self._change_at: int | None = None

    @property
    def task(self) -> str:
        """The family the episode belongs to."""
        return self._family

    @property
    def task_description(self) -> str:
        """The current instruction."""
        return self._assignment.text

    def physics(self) -> PhysicsState:
        """What success checks need beside the scene."""
        speed = {
            pose.pair: float(np.linalg.norm(self.data.cvel[self._object_bodies[slot]][3:]))
            for slot, pose in enumerate(self.layout.objects)
        }
        gripped = frozenset(name for name, fingers in self._touching_fingers().items() if fingers)
        return PhysicsState(self.start, gripped, self.gripper_opening, speed, frozenset(self._pressed))

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

    def _listed(self) -> dict[str, Task]:
        """The families that say something of their own; a changed mind uses the others' words."""
        return {name: task for name, task in self.tasks.items() if name != "changed"}

    def _give(self, assignment: Assignment) -> None:
        self._assignment, self._family = assignment, assignment.task.name
        self._stage, self._held_steps, self._success = 0, 0, False
        self._too_early = False
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
        now, holds = stages[self.stage], self._holds()
        self._too_early = self._too_early and holds
        self._held_steps = self._held_steps + 1 if holds and not self._too_early else 0
        # Until the mind has been changed, what is done is not what will be wanted.
        pending = self._change_at is not None and self._steps <= self._change_at
        if self._held_steps >= now.skill.steps_to_hold and not pending:
            self._stage, self._held_steps = self._stage + 1, 0
            self._success = self._success or self._stage == len(stages)
            if self._stage < len(stages):  # what was done before its turn has to be undone and done anew
                self._pressed.clear()
                self._too_early = self._holds()

    def _holds(self) -> bool:
        """Whether what the stage that is due asks for is so at this instant."""
        now = self._assignment.stages[self.stage]
        return now.skill.done(now.request, self.scene(), self.physics())

    def _change_mind(self, rng: np.random.Generator) -> None:
        """Ask for something else, with another target, if the scene allows it.

        Where that has to be a held-out pair a scene mostly has one only: what is wanted then may be anything.
        """
        assignment = self._another(rng, self.split)
        if self.split == "pair" and (assignment is None or not self._is_new(assignment)):
            assignment = self._another(rng, "all")
        if assignment is not None:
            self._give(assignment)

    def _another(self, rng: np.random.Generator, split: str) -> Assignment | None:
        """What else could be asked for, of another target unless that is not to be had; None if nothing can."""
        other = {"changed": self.tasks["changed"]}
        for _ in range(20):
            assignment = choose(rng, self.scene(), other, split)
            if assignment is None or self._is_new(assignment):
                break
        return assignment

    def _is_new(self, assignment: Assignment) -> bool:
        return assignment.request.target != self._assignment.request.target

"""The lifecycle node `policy`: follows one instruction at a time, as the action `~/run_instruction`.

configure loads the policy; activate finds the robot; only then goals are taken and anything is published.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from vla_interfaces.action import RunInstruction

from vla.errors import UserError
from vla.evaluation.robot_episode import Episode, EpisodeSettings, Progress, Result
from vla.robots.dds import DdsRobot, Interrupted
from vla.runtime.guarded import GuardedRobot
from vla.runtime.loop import Timing
from vla.runtime.pilot import Policy
from vla_ros.emergency_stop import EmergencyStop
from vla_ros.parameters import PolicyParameters, declare, read, robot_spec
from vla_ros.reporting import Reporter
from vla_ros.ros_bus import RosBus
from vla_ros.running import run

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STOP_READERS = (
    QoSProfile(depth=10),
    QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT),
    QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL),
)
"""A reliable button is heard reliably, a best-effort one at all, and a latched one also if it was pressed before."""
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
CANCELED = "the client has canceled"
LEAVING_S = 30.0
"""So long a transition waits for an episode to end, which a chunk of S1 may delay."""


class PolicyNode(LifecycleNode):
    def __init__(self) -> None:
        super().__init__("policy")
        declare(self, PolicyParameters)
        self._given = PolicyParameters()
        self._policy: Policy | None = None
        self._robot: DdsRobot | None = None
        self._episode: Episode | None = None
        self._idle = threading.Condition()
        self._emergency_stop, self._active = EmergencyStop(), False
        self._reporter: Reporter | None = None
        self._said: Any = None
        self._saying = threading.Lock()
        groups = [MutuallyExclusiveCallbackGroup() for _ in range(2)]
        # A reader that a button does not suit is no fault: another one suits it.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)
        for qos in STOP_READERS:
            self.create_subscription(
                Bool, "e_stop", self._on_e_stop, qos, callback_group=groups[0], event_callbacks=quiet
            )
        self.create_service(Trigger, "~/e_stop", self._stop_service, callback_group=groups[0])
        self.create_service(Trigger, "~/reset_e_stop", self._reset_service, callback_group=groups[0])
        self._server = ActionServer(
            self,
            RunInstruction,
            "~/run_instruction",
            execute_callback=self._execute,
            goal_callback=self._consider,
            cancel_callback=self._cancel,
            callback_group=ReentrantCallbackGroup(),
        )

    # Lifecycle.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._attempt(self._activate) is not SUCCESS:
            self._leave_robot()
            return FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._leave_robot()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._leave_robot()
        self._policy = None
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_cleanup(state)

    def close(self) -> None:
        self._leave_robot()
        self._server.destroy()

    def _attempt(self, do: Any) -> TransitionCallbackReturn:
        try:
            do()
        except UserError as error:
            self.get_logger().error(str(error))
            return FAILURE
        except Interrupted:
            return FAILURE
        return SUCCESS

    def _configure(self) -> None:
        from vla.policies import REAL_TIME_PATIENCE_S, load_policy

        given = self._given = read(self, PolicyParameters)
        self._settings = EpisodeSettings(
            Timing(given.s2_delay, given.s2_period or None, given.s1_delay, s2_stop=given.s2_stop),
            gate=given.gate,
            seed=given.seed if given.seed >= 0 else None,
            words_s=given.words or None,
        )
        simulated = bool(self.get_parameter("use_sim_time").value)
        wanted = robot_spec(given.spec, simulated) if given.spec else None
        policy = load_policy(given.policy, REAL_TIME_PATIENCE_S, wanted, given.device)
        self._spec = wanted or robot_spec(policy.spec.name, simulated)
        policy.spec.check_robot(self._spec)
        if given.gate:
            self._check_gate()
        self._policy = policy

    def _check_gate(self) -> None:
        """What the gate lacks is told now, not at the first goal."""
        try:
            GuardedRobot(DdsRobot(self._spec))
        except UserError as error:
            raise UserError(f"{error}. Without a gate: set the parameter gate to false") from None

    def _activate(self) -> None:
        self._robot = DdsRobot(self._spec, patience=self._given.patience, bus=lambda types: RosBus(self, types))
        self._robot.connect()
        self._said = self.create_publisher(Bool, "~/e_stopped", LATCHED)
        self._reporter = Reporter(self, self._robot, self._given)
        self._active = True
        self._say_stopped()

    def _leave_robot(self) -> None:
        """No goal, no publisher and no subscriber for the robot is left."""
        self._active = False
        robot, self._robot = self._robot, None
        if robot is not None:
            with self._idle:
                if self._episode is not None:
                    self._episode.stop("canceled", "the node has been deactivated")
                self._idle.wait_for(lambda: self._episode is None, LEAVING_S)
        if self._reporter is not None:  # before the robot that it asks
            self._reporter.close()
            self._reporter = None
        if robot is not None:
            robot.interrupt()  # a connection still being made
            robot.close()
        with self._saying:
            said, self._said = self._said, None
            if said is not None:
                self.destroy_publisher(said)

    # The action.

    def _consider(self, goal: RunInstruction.Goal) -> GoalResponse:
        why = self._why_not(goal)
        if why:
            self.get_logger().warning(f"goal refused: {why}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _why_not(self, goal: RunInstruction.Goal) -> str:
        if not self._active:
            return "the node is not active"
        if self._emergency_stop.latched:
            return "the emergency stop is latched: call ~/reset_e_stop"
        if self._episode is not None:
            return "an instruction is being followed: cancel it first"
        if not 0 <= goal.time_limit < float("inf"):
            return f"time_limit is {goal.time_limit}: give seconds"
        return ""

    def _cancel(self, handle: Any) -> CancelResponse:
        with self._idle:
            if self._episode is not None:
                self._episode.stop("canceled", CANCELED)
        return CancelResponse.ACCEPT

    def _execute(self, handle: Any) -> RunInstruction.Result:
        goal = handle.request
        with self._idle:
            robot, refused = self._robot, self._why_not(goal)
            if robot is None or refused:
                handle.abort()
                return _result(Result("failed", refused or "the node is not active", 0))
            assert self._policy is not None and self._reporter is not None
            reporter = self._reporter
            seconds = goal.time_limit or self._given.time_limit

            def tell(progress: Progress) -> None:
                handle.publish_feedback(_feedback(progress))
                reporter.note(episode, progress)

            text = goal.instruction.strip()
            self._episode = episode = Episode(self._policy, robot, self._settings, text, seconds, tell)
        if handle.is_cancel_requested:
            episode.stop("canceled", CANCELED)
        try:
            result = episode.run()
        finally:
            with self._idle:
                self._episode = None
                self._idle.notify_all()
        for event in robot.take_events():
            self.get_logger().warning(event)
        said = f"{result.outcome} after {result.steps} steps"
        self.get_logger().info(f"{said}: {result.reason}" if result.reason else said)
        if result.outcome == "success":
            handle.succeed()
        elif result.reason == CANCELED and _is_canceling(handle):
            handle.canceled()
        else:
            handle.abort()
        return _result(result)

    # The emergency stop.

    def _on_e_stop(self, message: Bool) -> None:
        if self._emergency_stop.hear(message.data):
            self._end_by("the topic e_stop")

    def _stop_service(self, _: Any, response: Any) -> Any:
        if self._emergency_stop.latch():
            self._end_by("the service ~/e_stop")
        response.success, response.message = True, "stopped, until ~/reset_e_stop"
        return response

    def _reset_service(self, _: Any, response: Any) -> Any:
        refused = self._emergency_stop.reset()
        self._say_stopped()
        response.success, response.message = not refused, refused or "goals are taken again"
        return response

    def _end_by(self, who: str) -> None:
        self.get_logger().error(f"emergency stop by {who}")
        with self._idle:
            if self._episode is not None:
                self._episode.stop("stopped", f"emergency stop by {who}")
        self._say_stopped()

    def _say_stopped(self) -> None:
        with self._saying:
            if self._said is not None:
                self._said.publish(Bool(data=self._emergency_stop.latched))


def _is_canceling(handle: Any) -> bool:
    """rclpy says so only after `_cancel` has returned."""
    deadline = time.monotonic() + LEAVING_S
    while not handle.is_cancel_requested and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(handle.is_cancel_requested)


def _feedback(progress: Progress) -> RunInstruction.Feedback:
    age = float("nan") if progress.age_s is None else progress.age_s
    return RunInstruction.Feedback(
        subtask=progress.subtask, progress=progress.share, s2_age=float(age), steps=progress.steps
    )


def _result(result: Result) -> RunInstruction.Result:
    return RunInstruction.Result(outcome=result.outcome, reason=result.reason, steps=result.steps)


def main() -> None:
    run(PolicyNode)


if __name__ == "__main__":
    main()

"""The policy's server is killed while the robot moves: it ends what was sent, holds, and goes on once it is back."""

import os
import signal
from pathlib import Path

import pytest
from fault_run import PATIENCE, Run, assert_gone
from served import Server

from vla.policies import policy_maker
from vla.processes import Maker

SERVER = str(Path(__file__).parent / "swaying_server.py")


@pytest.fixture
def servers(tmp_path):
    (tmp_path / "mood").touch()
    started = []

    def start(port="0"):
        started.append(Server(SERVER, port, str(tmp_path / "mood")))
        return started[-1]

    yield start
    for server in started:
        server.kill()


def test_the_robot_ends_what_was_sent_holds_and_goes_on_once_it_is_back(servers, tmp_path):
    server = servers()
    made = policy_maker(server.url)
    patient = Maker(made.path, {**made.arguments, "timeout": PATIENCE})  # a busy machine answers late
    run = Run(tmp_path, patient)
    with run.supervisor:
        run.supervisor.instruct("sway")
        run.until_it_moves()
        server.kill()
        run.until(lambda: run.away, "S1 does not notice")
        run.holds_when_what_was_sent_is_used_up()
        assert run.waits == "no server" and server.url in run.away
        # A part that is started again meanwhile waits too.
        os.kill(run.supervisor.fast.pid, signal.SIGKILL)
        run.until(lambda: "s1 died: started again" in run.events, "nobody noticed")
        run.away = ""
        run.until(lambda: run.away, "S1 does not ask again")
        run.stays_at_rest()
        servers(server.port)
        run.until_it_moves()
        told = [event.replace(server.url, "URL") for event in run.events]
        for part in ("s1", "s2"):
            assert any(event.startswith(f"{part}: policy server URL ") for event in told)
            assert f"{part}: the policy server answers again" in told
        assert run.command.stopped is None
        processes = run.processes()
    assert_gone(processes)
    run.assert_within_limits()

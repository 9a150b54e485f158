"""What can be known of the ROS packages without ROS: what they need, what they install, what their parameters are."""

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import vla
from vla.errors import UserError
from vla.streams import extra
from vla_ros.parameters import PolicyParameters, RecorderParameters, SimParameters, robot_spec, sim_spec_name

SOURCE = Path(__file__).parents[2] / "ros2_ws" / "src"
KINDS = {"policy": PolicyParameters, "recorder": RecorderParameters, "sim": SimParameters}
FROM_PIP = {"vla", "numpy", "vla_ros"}
"""What is imported and no ROS package provides; rosdep must not be asked for torch."""


@pytest.mark.parametrize("package", ["vla_interfaces", "vla_ros"])
def test_a_package_says_who_made_it_and_has_the_version_of_the_project(package: str) -> None:
    root = ElementTree.parse(SOURCE / package / "package.xml").getroot()
    assert (root.findtext("name"), root.findtext("version")) == (package, vla.__version__)
    maintainer = root.find("maintainer")
    assert maintainer is not None and "@" in maintainer.attrib["email"]


def test_whatever_the_nodes_import_from_ros_is_declared() -> None:
    root = ElementTree.parse(SOURCE / "vla_ros" / "package.xml").getroot()
    declared = {one.text for kind in ("depend", "exec_depend") for one in root.findall(kind)}
    files = [*(SOURCE / "vla_ros" / "vla_ros").glob("*.py"), *(SOURCE / "vla_ros" / "launch").glob("*.py")]
    imported = {name for file in files for name in imports(ast.parse(file.read_text()))}
    import sys

    foreign = imported - set(sys.stdlib_module_names) - FROM_PIP - {"torch"}
    assert len(files) > 8 and foreign <= declared, foreign - declared
    assert "torch" not in declared


def test_every_installed_program_and_file_is_there() -> None:
    package = SOURCE / "vla_ros"
    setup = (package / "setup.py").read_text()
    for node in KINDS:
        assert f"{node} = vla_ros.{node}_node:main" in setup
        module = ast.parse((package / "vla_ros" / f"{node}_node.py").read_text())
        assert any(isinstance(one, ast.FunctionDef) and one.name == "main" for one in module.body)
    for launch in ("sim", "policy"):
        module = ast.parse((package / "launch" / f"{launch}.launch.py").read_text())
        assert any(
            isinstance(one, ast.FunctionDef) and one.name == "generate_launch_description" for one in module.body
        )


@pytest.mark.parametrize("node", KINDS)
def test_the_parameter_files_name_every_parameter_with_its_default(node: str) -> None:
    text = (SOURCE / "vla_ros" / "config" / f"{node}.yaml").read_text()
    assert f"ros2 run vla_ros {node} --ros-args --params-file mine.yaml" in text  # without --ros-args ROS ignores it
    file = yaml.safe_load(text)
    ((name, inner),) = file.items()
    given: dict[str, Any] = inner["ros__parameters"]
    assert name == f"/**/{node}"
    known = {field.name: field.default for field in fields(KINDS[node])}
    assert known.keys() <= given.keys() <= known.keys() | {"use_sim_time"}
    for key, value in given.items():
        if key in known:
            assert (type(value), value) == (type(known[key]), known[key]), key


def test_what_a_parameter_file_says_is_not_overruled_by_the_simulations_launch_file() -> None:
    package, known = SOURCE / "vla_ros", {field.name for field in fields(PolicyParameters)}
    policy = keys(package / "vla_ros" / "launching.py", "POLICY")
    assert policy - known == {"params_file", "use_sim_time"}
    assert keys(package / "launch" / "sim.launch.py", "ARGUMENTS") & policy == {"params_file", "use_sim_time"}
    ((name, inner),) = yaml.safe_load((package / "config" / "sim_policy.yaml").read_text()).items()
    assert name == "/**/policy" and inner["ros__parameters"].keys() <= known


def keys(file: Path, name: str) -> set[str]:
    """Of the dictionary that a module has under that name."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and ast.unparse(node.targets[0]) == name:
            return {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    raise AssertionError(f"no {name} in {file}")


def test_a_robot_on_simulated_time_follows_the_clock_whether_or_not_its_spec_lists_it(tmp_path: Path) -> None:
    shipped = robot_spec("tabletop", True)
    assert [stream.stream for stream in shipped.ros].count("clock") == 1
    data = shipped.to_dict()
    data["ros"] = [stream for stream in data["ros"] if stream["stream"] != "clock"]
    (tmp_path / "arm.yaml").write_text(yaml.safe_dump(data))
    assert extra(robot_spec(str(tmp_path / "arm.yaml"), False), "clock") is None
    clock = extra(robot_spec(str(tmp_path / "arm.yaml"), True), "clock")
    assert clock is not None and clock.topic == "/clock"


def test_a_spec_that_does_not_say_where_the_robot_lives_is_refused() -> None:
    with pytest.raises(UserError, match="has no ros section"):
        robot_spec("metaworld", False)


def test_the_simulation_has_the_topics_of_its_environments_robot_unless_told() -> None:
    assert sim_spec_name(SimParameters()) == "tabletop"
    assert sim_spec_name(SimParameters(spec="mine.yaml")) == "mine.yaml"
    with pytest.raises(UserError, match="environment"):
        sim_spec_name(SimParameters(env="moon"))


def imports(module: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - {"__future__"}

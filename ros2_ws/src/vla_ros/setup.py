from glob import glob

from setuptools import setup

PACKAGE = "vla_ros"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("launch/*.py")),
        (f"share/{PACKAGE}/config", glob("config/*.yaml")),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=True,
    maintainer="The vla maintainers",
    maintainer_email="maintainers@example.org",
    description="A two-speed vision-language-action policy, a recorder and a simulated robot as ROS 2 nodes",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "policy = vla_ros.policy_node:main",
            "recorder = vla_ros.recorder_node:main",
            "sim = vla_ros.sim_node:main",
        ],
    },
)

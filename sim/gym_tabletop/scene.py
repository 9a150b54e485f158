"""The MuJoCo model of the table, and how a layout is put into it.

One model serves every episode, because compiling a model and making a render context cost more than an episode's
first steps: each object slot carries all three shapes and shows one, and unused slots wait under the table.
"""

import mujoco
import numpy as np

from gym_tabletop import arm
from gym_tabletop.layout import DISC_RADIUS, DISC_TOP, PANEL_X, TRAY_FLOOR, TRAY_HALF, Layout
from gym_tabletop.palette import COLOURS, SHAPES

SLOTS = 4
TIMESTEP = 0.0025
FRONT_POSITION, FRONT_TARGET, FRONT_FOVY = np.array([1.22, 0.0, 0.80]), np.array([0.54, 0.0, 0.0]), 34.0
TABLE_COLOUR = np.array([0.72, 0.66, 0.58])
OBJECT_MASS = 0.08
BUTTON_TRAVEL, DRAWER_TRAVEL = 0.01, 0.09
"""How far a button goes down and the drawer comes out (m)."""
KNOB_X = -0.088
"""Of the drawer's knob, from the cabinet's middle, when closed (m)."""
_VISIBLE, _HIDDEN = 0, 5
_GEOM_TYPES = {
    "cube": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "ball": mujoco.mjtGeom.mjGEOM_SPHERE,
}


def build_model(size: int, high_quality: bool) -> mujoco.MjModel:
    """The compiled scene. `size`: largest camera image side in pixels; `high_quality`: antialiased, with shadows."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 5
    spec.option.iterations = 20
    spec.option.ls_iterations = 10
    spec.visual.global_.offwidth = spec.visual.global_.offheight = max(size, 64)
    spec.visual.quality.offsamples = 4 if high_quality else 0
    spec.visual.quality.numquads = 4 if high_quality else 1
    spec.visual.quality.numslices = 28 if high_quality else 12
    spec.visual.quality.numstacks = 16 if high_quality else 6
    spec.visual.quality.shadowsize = 4096
    spec.visual.headlight.ambient = [0.42, 0.42, 0.42]
    spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    spec.visual.headlight.specular = [0, 0, 0]
    spec.visual.map.znear = 0.02
    world = spec.worldbody
    world.add_light(name="sun", pos=[0.9, 0.5, 1.6], dir=[-0.3, -0.35, -1], diffuse=[0.55, 0.55, 0.55])
    world.add_camera(name="front", pos=FRONT_POSITION, quat=look_at(FRONT_POSITION, FRONT_TARGET), fovy=FRONT_FOVY)
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.6, 0.75, 0.02],
        pos=[0.45, 0, -0.02],
        rgba=[*TABLE_COLOUR, 1],
        contype=1,
        conaffinity=3,
        friction=[0.9, 0.005, 0.0005],
    )
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[4, 4, 0.1],
        pos=[0, 0, -0.8],
        rgba=[0.35, 0.37, 0.40, 1],
        contype=1,
        conaffinity=1,
    )
    arm.add_arm(spec)
    for index in range(2):
        _add_tray(world, index)
    _add_panel(world)
    _add_drawer(world)
    _add_disc(spec)
    for slot in range(SLOTS):
        _add_object(world, slot)
    return spec.compile()


def look_at(position: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Quaternion wxyz of a MuJoCo camera at `position` (3,) that looks at `target` (3,), upright."""
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    return quat


def apply_layout(model: mujoco.MjModel, data: mujoco.MjData, layout: Layout) -> None:
    """Write `layout` into a freshly reset model and data."""
    for index in range(2):
        if index < len(layout.trays):
            colour, x, y = layout.trays[index]
            model.body(f"tray{index}").pos[:] = [x, y, 0]
            model.geom_rgba[geoms_of(model, f"tray{index}"), :3] = COLOURS[colour]
        else:
            _remove(model, f"tray{index}")
    if layout.drawer:
        model.body("cabinet").pos[:] = [PANEL_X, layout.drawer.y, 0]
        data.qpos[int(model.joint("drawer").qposadr[0])] = layout.drawer.opened * DRAWER_TRAVEL
    else:
        _remove(model, "cabinet", "drawer")
    if layout.disc:
        model.body("disc").pos[:2] = layout.disc.centre
        data.ctrl[model.actuator("disc").id] = layout.disc.speed
    else:
        _remove(model, "disc")
    y, *colours = layout.panel
    model.body("panel").pos[:] = [PANEL_X, y, 0]
    for index, colour in enumerate(colours):
        model.geom(f"button{index}").rgba[:3] = COLOURS[colour]
    for slot in range(SLOTS):
        used = slot < len(layout.objects)
        thing = layout.objects[slot] if used else None
        for shape in SHAPES:
            geom = model.geom(f"object{slot}_{shape}")
            shown = thing is not None and thing.shape == shape
            geom.group[:] = _VISIBLE if shown else _HIDDEN
            geom.contype[:], geom.conaffinity[:] = (1, 3) if shown else (0, 0)
            if thing is not None and shown:
                geom.rgba[:3] = COLOURS[thing.colour]
                geom.size[:] = _geom_size(shape, thing.half)
                geom.rbound[:] = np.linalg.norm(_corner(shape, thing.half))
                half = _corner(shape, thing.half)
                model.geom_aabb[geom.id] = [0, 0, 0, *half]
        # An unused slot has no geometry that collides: a fall of its own would cost nothing but would never end.
        joint = model.joint(f"object{slot}")
        model.body_gravcomp[model.body(f"object{slot}").id] = 0 if used else 1
        address = int(joint.qposadr[0])
        pose = [slot * 0.2, 0, -0.5, 1, 0, 0, 0]
        if thing:
            pose = [*thing.place, thing.floor + thing.half, np.cos(thing.yaw / 2), 0, 0, np.sin(thing.yaw / 2)]
        data.qpos[address : address + 7] = pose


def geoms_of(model: mujoco.MjModel, body: str) -> slice:
    """The ids of a body's own geoms."""
    first = int(model.body(body).geomadr[0])
    return slice(first, first + int(model.body(body).geomnum[0]))


def _remove(model: mujoco.MjModel, *bodies: str) -> None:
    """Take what a layout does not have out of sight and reach; its first body goes below the floor."""
    model.body(bodies[0]).pos[2] = -2.0
    for body in bodies:
        geoms = geoms_of(model, body)
        model.geom_group[geoms] = _HIDDEN
        model.geom_contype[geoms] = model.geom_conaffinity[geoms] = 0


def _corner(shape: str, half: float) -> list[float]:
    return [half, half, half * (1.15 if shape == "cylinder" else 1.0)]


def _geom_size(shape: str, half: float) -> list[float]:
    return {"cube": [half] * 3, "cylinder": [half, half * 1.15, 0.0], "ball": [half, 0.0, 0.0]}[shape]


def _add_object(world: mujoco.MjsBody, slot: int) -> None:
    body = world.add_body(name=f"object{slot}")
    body.add_joint(name=f"object{slot}", type=mujoco.mjtJoint.mjJNT_FREE)
    body.gravcomp = 1  # so that the model compiles with gravity compensation on; each layout sets its own
    for shape in SHAPES:
        body.add_geom(
            name=f"object{slot}_{shape}",
            type=_GEOM_TYPES[shape],
            size=_geom_size(shape, 0.024),
            mass=OBJECT_MASS / 3,
            condim=6,
            friction=[0.9, 0.01, 0.004],
            group=_HIDDEN,
        )


def _add_tray(world: mujoco.MjsBody, index: int) -> None:
    tray = world.add_body(name=f"tray{index}")
    half, wall, height = TRAY_HALF, 0.005, 0.012
    sides = [([half, half, TRAY_FLOOR / 2], [0, 0, TRAY_FLOOR / 2])]
    for sign in (-1, 1):
        sides.append(([wall, half, height], [sign * (half - wall), 0, height]))
        sides.append(([half, wall, height], [0, sign * (half - wall), height]))
    for size, pos in sides:
        tray.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=pos, contype=1, conaffinity=3, friction=[0.9, 0.01, 0.003]
        )


def _add_panel(world: mujoco.MjsBody) -> None:
    panel = world.add_body(name="panel")
    panel.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.035, 0.075, 0.012],
        pos=[0, 0, 0.012],
        rgba=[0.3, 0.31, 0.33, 1],
        contype=1,
        conaffinity=3,
    )
    for index, side in enumerate((-1, 1)):
        button = panel.add_body(name=f"button{index}", pos=[0, side * 0.037, 0.03], gravcomp=1)
        button.add_joint(
            name=f"button{index}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, 0, -1],
            limited=True,
            range=[0, BUTTON_TRAVEL],
            stiffness=60,
            damping=1.0,
            armature=0.01,
        )
        button.add_geom(
            name=f"button{index}",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[0.024, 0.008, 0],
            mass=0.02,
            contype=1,
            conaffinity=3,
        )


def _add_drawer(world: mujoco.MjsBody) -> None:
    """A low cabinet whose drawer comes out towards the robot, with an upright knob to hold it by."""
    wood, light, metal = [0.45, 0.33, 0.22, 1], [0.78, 0.70, 0.58, 1], [0.25, 0.26, 0.28, 1]
    cabinet = world.add_body(name="cabinet")
    for size, pos in (
        ([0.05, 0.05, 0.003], [0, 0, 0.063]),
        ([0.05, 0.004, 0.03], [0, -0.05, 0.03]),
        ([0.05, 0.004, 0.03], [0, 0.05, 0.03]),
        ([0.004, 0.05, 0.03], [0.05, 0, 0.03]),
    ):
        cabinet.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=pos, rgba=wood, contype=1, conaffinity=3)
    drawer = cabinet.add_body(name="drawer", gravcomp=1)
    drawer.add_joint(
        name="drawer",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[-1, 0, 0],
        limited=True,
        range=[0, DRAWER_TRAVEL],
        damping=8.0,
        frictionloss=1.5,
        armature=0.05,
    )
    for size, pos, rgba in (
        ([0.004, 0.043, 0.024], [-0.054, 0, 0.03], light),
        ([0.045, 0.043, 0.003], [-0.008, 0, 0.01], light),
        ([0.014, 0.004, 0.004], [-0.070, 0, 0.03], metal),
        ([0.007, 0.007, 0.022], [KNOB_X, 0, 0.036], metal),
    ):
        drawer.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=size,
            pos=pos,
            rgba=rgba,
            mass=0.05,
            contype=1,
            conaffinity=2,
            condim=4,
            friction=[1.0, 0.02, 0.002],
        )
    drawer.add_site(name="knob", pos=[KNOB_X, 0, 0.036])


def _add_disc(spec: mujoco.MjSpec) -> None:
    """A turntable, driven at constant speed; the stripe shows that it turns."""
    disc = spec.worldbody.add_body(name="disc", gravcomp=1)
    disc.add_joint(name="disc", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], armature=0.05)
    thick = (DISC_TOP - 0.001) / 2
    disc.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[DISC_RADIUS, thick, 0],
        pos=[0, 0, 0.001 + thick],
        rgba=[0.50, 0.53, 0.58, 1],
        mass=1.0,
        contype=1,
        conaffinity=3,
        friction=[0.9, 0.005, 0.0005],
    )
    disc.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[DISC_RADIUS * 0.98, 0.006, 0.0004],
        pos=[0, 0, DISC_TOP],
        rgba=[0.32, 0.34, 0.38, 1],
        mass=0.0,
        contype=0,
        conaffinity=0,
    )
    motor = spec.add_actuator(name="disc", target="disc", trntype=mujoco.mjtTrn.mjTRN_JOINT)
    motor.gainprm[0] = 5.0
    motor.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    motor.biasprm[2] = -5.0

"""Names of the tasks of public benchmarks, known without the packages that hold them."""

from collections.abc import Mapping

METAWORLD_GROUPS: Mapping[str, tuple[str, ...]] = {
    "easy": (
        *("button-press-v3", "button-press-topdown-v3", "button-press-topdown-wall-v3", "button-press-wall-v3"),
        *("coffee-button-v3", "dial-turn-v3", "door-close-v3", "door-lock-v3", "door-open-v3", "door-unlock-v3"),
        *("drawer-close-v3", "drawer-open-v3", "faucet-close-v3", "faucet-open-v3", "handle-press-v3"),
        *("handle-press-side-v3", "handle-pull-v3", "handle-pull-side-v3", "lever-pull-v3", "plate-slide-v3"),
        *("plate-slide-back-v3", "plate-slide-back-side-v3", "plate-slide-side-v3", "reach-v3", "reach-wall-v3"),
        *("window-close-v3", "window-open-v3", "peg-unplug-side-v3"),
    ),
    "medium": (
        *("basketball-v3", "bin-picking-v3", "box-close-v3", "coffee-pull-v3", "coffee-push-v3", "hammer-v3"),
        *("peg-insert-side-v3", "push-wall-v3", "soccer-v3", "sweep-v3", "sweep-into-v3"),
    ),
    "hard": ("assembly-v3", "hand-insert-v3", "pick-out-of-hole-v3", "pick-place-v3", "push-v3", "push-back-v3"),
    "very_hard": ("shelf-place-v3", "disassemble-v3", "stick-pull-v3", "stick-push-v3", "pick-place-wall-v3"),
}
"""MT50 by difficulty, as Seo et al. (Masked World Models, arXiv 2206.14244) sorted it and LeRobot's evaluation
(`envs/metaworld_config.json`), SmolVLA (arXiv 2506.01844) and later work report it."""

METAWORLD_MT50 = tuple(sorted(task for tasks in METAWORLD_GROUPS.values() for task in tasks))

METAWORLD_MT10 = (
    *("reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3"),
    *("button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3"),
)
"""In the order of `metaworld.MT10`."""

ALOHA_TASKS = ("transfer_cube", "insertion")

LIBERO_SUITES = ("spatial", "object", "goal", "10")
"""The four of ten tasks each that results are quoted on."""

LIBERO_TASKS = tuple(str(index) for index in range(10))
"""By LIBERO's own numbers, which are LeRobot's `task_ids`."""

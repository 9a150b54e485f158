"""ROS 2 message types as `cyclonedds` sees them, made from their definitions.

Two forms of every type. The *stock* one is described field by field, and `cyclonedds` writes and reads it itself,
value by value in Python. The *raw* one has the same name and the same description, but carries the bytes of a whole
message, which `rosbags` makes much faster. Both are keyless, final and XCDR1, as ROS 2 has them.
"""

# No `from __future__ import annotations`: cyclonedds reads the annotations of its types.

from dataclasses import dataclass
from typing import Any

import numpy as np
from cyclonedds.idl import IdlStruct, make_idl_struct, types
from cyclonedds.idl.annotations import autoid, final

from vla.ros_types import ARRAY, BASE, NAME, MessageTypes

_BASES: dict[str, Any] = {
    **{f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "bool": bool, "string": str, "float32": types.float32, "float64": types.float64,
    "octet": types.uint8, "byte": types.uint8, "char": types.uint8,
}  # fmt: skip


def dds_name(ros_type: str) -> str:
    """`sensor_msgs/msg/Image` -> `sensor_msgs::msg::dds_::Image_`."""
    package, kind, name = ros_type.split("/")
    return f"{package}::{kind}::dds_::{name}_"


def dds_topic(topic: str) -> str:
    """`/joint_states` -> `rt/joint_states`."""
    return f"rt{topic}"


@dataclass(frozen=True)
class TypePair:
    """Both forms of one message type."""

    stock: type[IdlStruct]
    raw: type[IdlStruct]


def type_pair(types_: MessageTypes, ros_type: str) -> TypePair:
    """Raises UserError for an unknown type."""
    stock = _struct(types_, ros_type, {})
    return TypePair(stock, _raw(stock))


def to_stock(types_: MessageTypes, stock: type[IdlStruct], message: Any, ros_type: str) -> IdlStruct:
    """A message of `vla.ros_types` as `cyclonedds` wants it: Python lists and numbers."""
    values = {}
    for name, (kind, inner) in types_.fields(ros_type):
        value = getattr(message, name)
        field_type = stock.__annotations__[name]
        if kind == NAME:
            value = to_stock(types_, field_type, value, inner)
        elif kind != BASE and inner[0][0] == NAME:
            value = [to_stock(types_, _element(field_type), item, inner[0][1]) for item in value]
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        values[name] = value
    return stock(**values)


def _struct(types_: MessageTypes, ros_type: str, made: dict[str, type[IdlStruct]]) -> type[IdlStruct]:
    if ros_type not in made:
        fields = {name: _annotation(types_, definition, made) for name, definition in types_.fields(ros_type)}
        struct = make_idl_struct(ros_type.split("/")[-1], dds_name(ros_type).replace("::", "."), fields)
        made[ros_type] = final(autoid("sequential")(struct))
    return made[ros_type]


def _annotation(types_: MessageTypes, definition: Any, made: dict[str, type[IdlStruct]]) -> Any:
    kind, inner = definition
    if kind == BASE:
        return _BASES[inner[0]]
    if kind == NAME:
        return _struct(types_, inner, made)
    element, count = inner
    of = _annotation(types_, element, made)
    if kind == ARRAY:
        return types.array[of, count]  # type: ignore[misc]
    return types.sequence[of, count] if count else types.sequence[of]  # type: ignore[misc]


def _element(sequence: Any) -> Any:
    return sequence.__metadata__[0].subtype


def _raw(stock: type[IdlStruct]) -> type[IdlStruct]:
    """`stock` but for its bytes, which it carries as they are, in `cdr`."""
    raw = make_idl_struct(stock.__name__, stock.__idl_typename__, dict(stock.__annotations__), dataclassify=False)

    def init(self: Any, cdr: bytes) -> None:
        self.cdr = cdr

    # A subclass would announce a base type, which ROS's types do not have.
    raw.__init__ = init  # type: ignore[method-assign, assignment]
    raw.serialize = lambda self, *_, **__: self.cdr  # type: ignore[method-assign]
    raw.deserialize = classmethod(lambda cls, data, *_, **__: cls(data))  # type: ignore[assignment]
    raw.deserialize_key = classmethod(lambda cls, data, *_, **__: None)  # type: ignore[assignment]
    return final(autoid("sequential")(raw))

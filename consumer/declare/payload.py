"""What can be known of a payload type before the first message arrives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from consumer.declare.complaints import did_you_mean, type_name

__all__ = ["decoder_of", "foreign_type", "key_fault", "same_fault"]

_Fielded = inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType
_KEYS = (
    inspect.StrType,
    inspect.BytesType,
    inspect.IntType,
    inspect.UUIDType,
    inspect.AnyType,
    inspect.NoneType,
)


def decoder_of(kind: Any) -> msgspec.json.Decoder[Any] | str:
    """Return a decoder for the payload type `kind`, or why there is none."""
    try:
        foreign = foreign_type(kind)
        if foreign is None:
            return msgspec.json.Decoder(kind)
    except (TypeError, NameError, RecursionError) as fault:
        return f"msgspec cannot decode {type_name(kind)}: {fault}"
    inside = "" if foreign is kind else f" inside {type_name(kind)}"
    return (
        f"{type_name(foreign)}{inside} is no payload type: use a msgspec.Struct, a dataclass, a TypedDict, "
        "dict, list, str, int, bytes or Any"
    )


def foreign_type(kind: Any) -> type | None:
    """Return a class within `kind` that msgspec can neither decode nor encode by itself, or `None`.

    Raises:
        TypeError: msgspec refuses the whole type (a union of two structs without tags).
    """
    for part in _walk(inspect.type_info(kind), set()):
        if isinstance(part, inspect.CustomType):
            return part.cls
    return None


def key_fault(kind: Any, path: Sequence[str], rule: object) -> str | None:
    """Return why the field at `path` of the payload type `kind` cannot be the key, or `None`."""
    if not path or not all(isinstance(name, str) for name in path):
        return f'{rule!r} needs the names of fields: Key.field("payment_id")'
    here: list[inspect.Type] = [inspect.type_info(kind)]
    owner = type_name(kind)
    for name in path:
        found: list[inspect.Type] = []
        for option in _options(here):
            field = _step(option, name)
            if isinstance(field, str):
                return f"{rule!r}, but {owner} {field}"
            if isinstance(field, inspect.Field):
                if _has_default(field):
                    return (
                        f"{rule!r}, but {owner}.{name} has a default, which would be the key of every message without it; "
                        "remove the default"
                    )
                found.append(field.type)
            else:
                found.append(field)
        here, owner = found, f"{owner}.{name}"
    for option in _options(here):
        if not isinstance(option, _KEYS):
            return f"{rule!r} is of type {_word(option)}, which cannot be a key; str, bytes, int and UUID can"
    return None


def same_fault(kind: Any, fields: object) -> str | None:
    """Return why `same=` cannot be `fields` for the payload type `kind`, or `None`."""
    if isinstance(fields, str):
        return f"same={fields!r} is one text; write same=({fields!r},)"
    if not isinstance(fields, list | tuple) or not all(isinstance(name, str) for name in fields):
        return 'same= takes the names of fields: same=("account", "amount")'
    for option in _options([inspect.type_info(kind)]):
        for name in fields:
            field = _step(option, name)
            if isinstance(field, str):
                return f"same= names {name!r}, but {type_name(kind)} {field}"
    return None


def _step(option: inspect.Type, name: str) -> inspect.Type | inspect.Field | str:
    """Return what `name` is in one of the types that a value may have, or why there is no such thing."""
    if isinstance(option, _Fielded):
        for field in option.fields:
            if field.name == name:
                return field
        return f"has no field {name!r}{did_you_mean(name, [field.name for field in option.fields])}"
    if isinstance(option, inspect.DictType):
        return option.value_type
    if isinstance(option, inspect.AnyType):
        return option
    return f"has no fields (it is of type {_word(option)})"


def _options(kinds: Sequence[inspect.Type]) -> Iterator[inspect.Type]:
    """Yield the types that a value may have, without None: a missing key is found when the message is there."""
    for kind in kinds:
        plain = kind.type if isinstance(kind, inspect.Metadata) else kind
        if isinstance(plain, inspect.UnionType):
            yield from _options([part for part in plain.types if not isinstance(part, inspect.NoneType)])
        else:
            yield plain


def _has_default(field: inspect.Field) -> bool:
    if field.default_factory is not msgspec.NODEFAULT:
        return True
    return (
        field.default is not msgspec.NODEFAULT
        and field.default is not None
        and field.default is not msgspec.UNSET
    )


def _walk(kind: inspect.Type, seen: set[type]) -> Iterator[inspect.Type]:
    """Yield `kind` and every type within it, each class once (types may hold themselves)."""
    if isinstance(kind, _Fielded):
        if kind.cls in seen:
            return
        seen.add(kind.cls)
        inner: Sequence[Any] = [field.type for field in kind.fields]
    elif isinstance(kind, inspect.UnionType):
        inner = kind.types
    elif isinstance(kind, inspect.Metadata):
        inner = [kind.type]
    elif isinstance(kind, inspect.DictType):
        inner = [kind.key_type, kind.value_type]
    elif isinstance(kind, inspect.TupleType):
        inner = kind.item_types
    else:
        inner = [kind.item_type] if hasattr(kind, "item_type") else []
    yield kind
    for part in inner:
        yield from _walk(part, seen)


def _word(kind: inspect.Type) -> str:
    """Return the Python name of a type that msgspec describes: `float` for `FloatType`."""
    named: Any = getattr(kind, "cls", None)
    return type_name(named) if named is not None else type(kind).__name__.removesuffix("Type").lower()

"""Fields of configs that a class does not have."""

from collections.abc import Collection, Mapping
from typing import Any


def refuse_left_behind(
    type: str, place: str, others: Collection[str], note: str = ""
) -> None:
    """Refuse fields that a base config's other type may have left behind.

    Raises:
        ValueError: There are some.
    """
    if others:
        raise ValueError(
            f"mmwood.{type} has no field {sorted(others)}. In place of what a base "
            f"config has there write {place}=dict(_delete_=True, "
            f"type='mmwood.{type}', ...): without _delete_=True the other type's "
            f"fields stay. {note}".rstrip()
        )


def with_defaults(
    field: str, given: Mapping[str, Any] | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of a field that holds a dict, defaults where nothing is given.

    Raises:
        ValueError: There is no such option; names the field and its options.
    """
    unknown = set(given or ()) - set(defaults)
    if unknown:
        raise ValueError(
            f"{field} has no field {sorted(unknown)}; it has {sorted(defaults)}"
        )
    return {**defaults, **(given or {})}

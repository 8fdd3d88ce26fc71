"""Fields that a base config's other type has left behind."""

from collections.abc import Collection

__all__ = ["refuse_left_behind"]


def refuse_left_behind(
    type: str, place: str, others: Collection[str], note: str = ""
) -> None:
    """Refuse fields that a class has not, and say where they may come from.

    Args:
        type: The class's name in a config, without the prefix.
        place: The config's field that holds it.
        others: The unknown fields.
        note: What else there is to say.

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

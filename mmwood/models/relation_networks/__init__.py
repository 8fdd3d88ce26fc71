"""Networks that say where objects end."""

from .irn import IRN

__all__ = ["IRN"]

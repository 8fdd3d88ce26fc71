from .irn import IRN

__all__ = ["IRN"]

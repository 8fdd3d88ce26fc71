"""The widest numbers that a device has."""

import torch

__all__ = ["widest_dtype"]


def widest_dtype(device: torch.device) -> torch.dtype:
    """float64 where the device has it, float32 on Apple's GPUs, which have not.

    Example:
        >>> widest_dtype(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64

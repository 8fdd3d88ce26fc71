"""The algorithms: pure functions on tensors and arrays."""

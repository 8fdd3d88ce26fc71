"""Small helpers that several folders share."""

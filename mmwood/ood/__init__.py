"""Candidates for out-of-distribution images: mining and its manifest."""

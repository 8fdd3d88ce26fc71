"""Candidates for out-of-distribution images: mining, its manifest, and the review."""

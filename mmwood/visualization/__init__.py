"""Pictures and charts: arrays in, drawings out."""

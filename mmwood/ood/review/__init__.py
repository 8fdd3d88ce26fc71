"""The app in which a person reviews mined out-of-distribution candidates."""

"""The files that stages hand to each other, each kind with its reader and writer."""

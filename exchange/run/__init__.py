"""Running a node: once, by schedule, or with several workers; and what a monitor reads."""

"""The course: assignments from one source, and the grading of what students hand in."""

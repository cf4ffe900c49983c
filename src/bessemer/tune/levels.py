"""The words for how schedules are chosen; apart, so that they are known without a compiler."""

LEVELS = ("none", "default", "max")
"""By formula; a few timed for each kernel that matters; searched for as long as is allowed."""

"""What a build can leave out besides passes: methods that trade exactness or memory for speed."""

SWITCHES: dict[str, str] = {
    "winograd": "3x3 convolutions by minimal filtering: errors up to 1e-5 of the largest output, "
    "where the direct form has 1e-6",
}
"""What each name that `disable` may hold stands for; it is also the schedule rule's name."""

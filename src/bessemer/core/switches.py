"""What a build can leave out besides passes: methods that trade exactness or memory for speed."""

SWITCHES: dict[str, str] = {
    "winograd": "convolutions by minimal filtering: errors up to 1e-5 of the largest output (2e-5 "
    "for 7 taps), where the direct form has 1e-6; an infinite or NaN input spoils the tile of "
    "outputs around it, up to 4x4",
}
"""What each name that `disable` may hold stands for; it is also the schedule rule's name."""

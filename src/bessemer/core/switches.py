"""What a build can leave out besides passes: methods that trade exactness or memory for speed."""

SWITCHES: dict[str, str] = {
    "winograd": "convolutions by minimal filtering: errors up to 1e-5 of the largest output (2e-5 "
    "for 7 taps), where the direct form has 1e-6; an infinite or NaN input spoils the tile of "
    "outputs around it, up to 4x4",
    "pad-rows": "a cache line between the rows of matrices that products read, where the rows "
    "would meet in one set of the first cache: up to 2 % more memory for them",
}
"""What each name that `disable` may hold stands for: a schedule rule, or a step of its own."""

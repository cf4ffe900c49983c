"""What a build can leave out besides passes: methods that trade exactness or memory for speed."""

SWITCHES: dict[str, str] = {
    "winograd": "convolutions by minimal filtering: errors up to 1e-5 of the largest output (2e-5 "
    "for 7 taps), where the direct form has 1e-6; an infinite or NaN input spoils the tile of "
    "outputs around it, up to 4x4",
    "matrix_unit": "products of matrices by the matrix unit AMX, each number as three bf16: errors "
    "as in f32; an infinite input makes its row of results NaN, numbers below 1e-38 count as 0",
    "pad-rows": "a cache line between the rows of matrices that products read, where the rows "
    "would meet in one set of the first cache: up to 2 % more memory for them",
}
"""What each name that `disable` may hold stands for: a schedule rule, or a step of its own."""

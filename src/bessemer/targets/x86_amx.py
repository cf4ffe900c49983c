"""x86 with AVX-512 and the matrix unit AMX for bf16 (Intel Sapphire Rapids and later)."""

import dataclasses

from bessemer.targets.target import target
from bessemer.targets.x86_avx512 import X86_AVX512

X86_AMX = target(dataclasses.replace(
    X86_AVX512,
    name="x86-amx",
    features=f"{X86_AVX512.features},+amx-tile,+amx-bf16",
    l1_bytes=48 << 10,
    l2_bytes=2 << 20,
    requires=(*X86_AVX512.requires, "amx_bf16", "amx_tile"),
    has_matrix_unit=True,
))

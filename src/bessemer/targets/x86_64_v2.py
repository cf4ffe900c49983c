"""Generic x86-64 with SSE4.2: runs on every x86 machine since about 2009."""

from bessemer.targets.target import Target, target

X86_64_V2 = target(Target(
    name="x86-64-v2",
    triple="x86_64-unknown-linux-gnu",
    cpu="x86-64-v2",
    features="",
    vector_bits=128,
    vector_registers=16,
    l1_bytes=32 << 10,
    l2_bytes=256 << 10,
    l3_bytes=8 << 20,
    cores=4,
    requires=("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"),
))

"""x86 with AVX2 and FMA (Intel Haswell, AMD Excavator and later)."""

from bessemer.targets.target import Target, target

X86_AVX2 = target(Target(
    name="x86-avx2",
    triple="x86_64-unknown-linux-gnu",
    cpu="haswell",
    features="",
    vector_bits=256,
    vector_registers=16,
    l1_bytes=32 << 10,
    l2_bytes=256 << 10,
    l3_bytes=8 << 20,
    cores=4,
    requires=("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "popcnt", "sse4_2"),
))

"""64-bit Arm with NEON, half precision and dot product (Neoverse N1, Apple M1 and later)."""

from bessemer.targets.target import Target, target

AARCH64_NEON = target(Target(
    name="aarch64-neon",
    triple="aarch64-unknown-linux-gnu",
    cpu="neoverse-n1",
    features="",
    vector_bits=128,
    vector_registers=32,
    l1_bytes=64 << 10,
    l2_bytes=1 << 20,
    l3_bytes=8 << 20,
    cores=4,
    requires=("asimd", "asimddp", "asimdhp", "asimdrdm", "atomics", "crc32", "fphp", "lrcpc"),
))

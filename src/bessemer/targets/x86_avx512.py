"""x86 with AVX-512 F, BW, CD, DQ, VL (Intel Skylake-X, AMD Zen 4 and later); VNNI is not needed."""

from bessemer.targets.target import Target, target

# LLVM's model of this chip prefers 256-bit vectors, which would split every 512-bit operation.
X86_AVX512 = target(Target(
    name="x86-avx512",
    triple="x86_64-unknown-linux-gnu",
    cpu="skylake-avx512",
    features="-prefer-256-bit",
    vector_bits=512,
    vector_registers=32,
    l1_bytes=32 << 10,
    l2_bytes=1 << 20,
    l3_bytes=16 << 20,
    cores=4,
    requires=(
        "abm", "avx", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "bmi1",
        "bmi2", "f16c", "fma", "movbe", "popcnt", "sse4_2",
    ),
))

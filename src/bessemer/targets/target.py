"""The hardware description that schedules and code generation read, and the registry of targets."""

from dataclasses import dataclass

from bessemer.core.dtypes import DType
from bessemer.core.errors import TargetError
from bessemer.core.registry import Registry


@dataclass(frozen=True)
class Target:
    """A chip as data.

    `triple`, `cpu` and `features` are LLVM's words. `requires` lists the flags, named as in
    /proc/cpuinfo, that a machine must show to run code of this target. Cache sizes are those of
    one core (`l3_bytes` is shared) and typical; `host_target` replaces them with real ones.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int
    requires: tuple[str, ...]
    has_matrix_unit: bool = False
    """It multiplies tiles of bf16 and sums in f32 (AMX)."""

    @property
    def architecture(self) -> str:
        """The first part of the triple: x86_64 or aarch64 (the word of `platform.machine()`)."""
        return self.triple.split("-", 1)[0]

    @property
    def vector_bytes(self) -> int:
        """Bytes one vector register holds."""
        return self.vector_bits // 8

    def lanes(self, dtype: DType) -> int:
        """Elements of a dtype that one vector register holds."""
        return max(1, self.vector_bytes // dtype.size_bytes)

    def describe(self) -> str:
        """One line for people: vector registers, caches, cores, needed CPU flags."""
        caches = " ".join(
            f"{level} {size >> 10} KiB"
            for level, size in (("L1", self.l1_bytes), ("L2", self.l2_bytes), ("L3", self.l3_bytes))
        )
        return (
            f"{self.name}: {self.triple} {self.cpu}, {self.vector_registers} vector registers of "
            f"{self.vector_bits} bits, {caches}, {self.cores} cores, "
            f"needs {' '.join(self.requires)}"
        )


TARGETS: Registry[Target] = Registry("target", "bessemer.targets", TargetError)


def target(entry: Target) -> Target:
    """Registers a target under its name and returns it."""
    return TARGETS.add(entry.name, entry)

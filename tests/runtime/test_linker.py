"""The loader of object code: right on every relocation, and strict against anything else."""

import ctypes
import random
import struct

import numpy as np
import pytest

from bessemer.codegen.llvm.driver import driver_module
from bessemer.codegen.llvm.emit import emit_object
from bessemer.core.errors import BessemerError, EngineFormatError, TargetError
from bessemer.runtime import relocate
from bessemer.runtime.elf import MACHINE_AARCH64, MACHINE_X86_64, parse_elf
from bessemer.runtime.linker import EXTERNALS, LinkedCode, external_address
from bessemer.runtime.memory import Region
from bessemer.targets import get_target

HOST = get_target("host")
ARM = get_target("aarch64-neon")


def link(*texts: str) -> LinkedCode:
    return LinkedCode([emit_object(text, HOST, passes="none") for text in texts], "test code")


def call(code: LinkedCode, name: str, value: float) -> float:
    kind = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_float)
    return float(kind(code.address(name))(value))


def test_math_function() -> None:
    code = link("declare float @sinf(float)\ndefine float @f(float %x) {\n"
                "  %y = call float @sinf(float %x)\n  ret float %y\n}")
    assert call(code, "f", 1.0) == pytest.approx(np.sin(1.0), rel=1e-6)


def test_far_function_through_a_slot() -> None:
    code = link("""
@table = internal constant [2 x ptr] [ptr @expf, ptr @logf]
declare float @expf(float)
declare float @logf(float) nonlazybind
define float @f(float %x) {
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 0
  %e = load volatile ptr, ptr %p
  %y = call float %e(float %x)
  %z = call float @logf(float %y)
  ret float %z
}""")
    assert call(code, "f", 0.5) == pytest.approx(0.5)


def test_constants_and_writable_data() -> None:
    code = link("""
@values = internal constant [4 x float] [float 1.0, float 2.0, float 4.0, float 8.0], align 32
@count = internal global float 3.0
@zeros = internal global [100 x float] zeroinitializer
define float @f(float %x) {
  %i = fptosi float %x to i64
  %p = getelementptr [4 x float], ptr @values, i64 0, i64 %i
  %v = load float, ptr %p
  %c = load float, ptr @count
  store float 5.0, ptr @count
  %z = load float, ptr @zeros
  %s = fadd float %v, %c
  %r = fadd float %s, %z
  ret float %r
}""")
    assert [call(code, "f", value) for value in (0, 1, 2, 3)] == [4, 7, 9, 13]


def test_functions_of_several_objects_find_each_other() -> None:
    code = link(
        "declare float @g(float)\ndefine float @f(float %x) {\n"
        "  %y = call float @g(float %x)\n  ret float %y\n}",
        "@shift = external global float\ndefine float @g(float %x) {\n"
        "  %s = load float, ptr @shift\n  %y = fadd float %x, %s\n  ret float %y\n}",
        "@shift = global float 10.0",
    )
    assert call(code, "f", 1.0) == 11.0
    assert (code.owner("f"), code.owner("g"), code.owner("h")) == (0, 1, None)


def test_weak_definitions_give_way() -> None:
    weak = "define weak float @f(float %x) {\n  ret float 1.0\n}"
    strong = "define float @f(float %x) {\n  ret float 2.0\n}"
    assert call(link(weak, strong), "f", 0.0) == 2.0
    assert call(link(weak, weak), "f", 0.0) == 1.0


def test_code_is_never_writable_and_executable() -> None:
    code = link("define float @f(float %x) {\n  ret float %x\n}", "@g = global float 1.0")
    address = code.address("f")
    with open("/proc/self/maps", encoding="ascii") as file:
        for line in file:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                assert line.split()[1].startswith("r-x")
                return
    raise AssertionError("the code is not mapped")


@pytest.mark.parametrize("name", ["system", "printf", "execve", "dlopen"])
def test_other_functions_are_refused(name: str) -> None:
    text = f"declare i32 @{name}(ptr)\ndefine void @f(ptr %p) {{\n" \
           f"  %y = call i32 @{name}(ptr %p)\n  ret void\n}}"
    with pytest.raises(EngineFormatError, match=f"calls '{name}', which engines must not"):
        link(text)


@pytest.mark.parametrize("text, words", [
    ("@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] "
     "[{ i32, ptr, ptr } { i32 1, ptr @f, ptr null }]\ndefine void @f() {\n  ret void\n}",
     "init_array|ctors"),
    ("@t = thread_local global i32 5\ndefine ptr @f() {\n  ret ptr @t\n}", "must not hold|kind"),
])
def test_refused_sections(text: str, words: str) -> None:
    with pytest.raises(EngineFormatError, match=words):
        LinkedCode([emit_object(text, HOST)], "test code")


def test_writable_code_is_refused() -> None:
    content = bytearray(emit_object("define void @f() {\n  ret void\n}", HOST))
    (table,) = struct.unpack_from("<Q", content, 40)
    (count,) = struct.unpack_from("<H", content, 60)
    for number in range(count):
        at = table + 64 * number + 8
        (flags,) = struct.unpack_from("<Q", content, at)
        if flags & 4:
            struct.pack_into("<Q", content, at, flags | 1)
    with pytest.raises(EngineFormatError, match="both writable and executable"):
        LinkedCode([bytes(content)], "test code")


def test_every_allowed_function_resolves_or_says_why() -> None:
    lacking = []
    for name in EXTERNALS:
        try:
            assert external_address(name)
        except TargetError as error:
            lacking.append((name, str(error)))
    assert all(name in text and "does not offer" in text for name, text in lacking)


def test_object_of_another_architecture() -> None:
    other = ARM if HOST.architecture == "x86_64" else get_target("x86-64-v2")
    content = emit_object("define void @f() {\n  ret void\n}", other)
    with pytest.raises(TargetError, match=f"code for {other.architecture}; this machine is"):
        LinkedCode([content], "test code")


def test_damaged_objects_never_crash() -> None:
    """Every cut and many flips either parse or are refused by an error of ours."""
    content = emit_object(driver_module(HOST), HOST)
    generator = random.Random(1)
    outcomes = set()
    for turn in range(1500):
        damaged = bytearray(content)
        if turn % 3 == 0:
            damaged = damaged[: generator.randrange(len(content))]
        for _ in range(generator.randrange(1, 4)):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        try:
            LinkedCode([bytes(damaged)], "test code").close()
            outcomes.add("linked")
        except (EngineFormatError, TargetError):
            outcomes.add("refused")
    assert outcomes == {"linked", "refused"}


# --- AArch64: the bits are checked, since the code cannot run here -------------------------------

def patched(kind: int, word: int, target: int, addend: int = 0, address: int = 0x10000) -> int:
    image = memoryview(bytearray(struct.pack("<I", word) + bytes(4)))
    site = relocate.Site(image, 0, 8, address, "s", target, addend, lambda: 0x20008,
                         lambda: address + 0x1000)
    relocate.apply(MACHINE_AARCH64, kind, site)
    return int(struct.unpack_from("<I", image)[0])


@pytest.mark.parametrize("kind, word, target, expected", [
    (283, 0x94000000, 0x10010, 0x94000004),  # bl #16
    (282, 0x14000000, 0x0FFFC, 0x17FFFFFF),  # b #-4
    (283, 0x94000000, 1 << 40, 0x94000400),  # too far: bl to the stub 0x1000 bytes on
    (275, 0x90000000, 0x13008, 0xF0000000),  # adrp x0, 3 pages on: immlo 3
    (275, 0x90000000, 0x14008, 0x90000020),  # 4 pages on: immhi 1
    (275, 0x90000000, 0x0F000, 0xF0FFFFE0),  # the page before
    (277, 0x91000000, 0x12345, 0x910D1400),  # add x0, x0, #0x345
    (278, 0x39400000, 0x12345, 0x394D1400),  # ldrb, byte offset
    (286, 0xF9400000, 0x12348, 0xF941A400),  # ldr x0, [x0, #0x348]: scaled by 8
    (285, 0xBD400000, 0x12344, 0xBD434400),  # ldr s0, scaled by 4
    (299, 0x3DC00000, 0x12340, 0x3DC0D000),  # ldr q0, scaled by 16
    (311, 0x90000000, 0x99999, 0x90000080),  # adrp to the slot at 0x20008
    (312, 0xF9400000, 0x99999, 0xF9400400),  # ldr x0, [x0, #8]
])
def test_aarch64_fields(kind: int, word: int, target: int, expected: int) -> None:
    assert hex(patched(kind, word, target)) == hex(expected)


@pytest.mark.parametrize("kind, target, words", [
    (286, 0x12345, "not aligned to 8"), (275, 1 << 45, "out of range"), (999, 0, "not supported"),
    (283, 0x10002, "out of range"),
])
def test_aarch64_refusals(kind: int, target: int, words: str) -> None:
    with pytest.raises(EngineFormatError, match=words):
        patched(kind, 0, target)


def test_x86_fields() -> None:
    def apply(kind: int, target: int, addend: int = 0) -> bytes:
        image = memoryview(bytearray(8))
        site = relocate.Site(image, 0, 8, 0x1000, "s", target, addend, lambda: 0x2000,
                             lambda: 0x3000)
        relocate.apply(MACHINE_X86_64, kind, site)
        return bytes(image)

    assert apply(1, 0x1122334455667788) == struct.pack("<Q", 0x1122334455667788)
    assert apply(2, 0x1010, -4) == struct.pack("<iI", 0xC, 0)
    assert apply(4, 1 << 40, -4) == struct.pack("<iI", 0x3000 - 4 - 0x1000, 0)
    assert apply(41, 5, -4) == struct.pack("<iI", 0x2000 - 4 - 0x1000, 0)
    assert apply(24, 0) == struct.pack("<q", -0x1000)
    assert apply(11, 0, -5) == struct.pack("<iI", -5, 0)
    for kind in (10, 11):
        with pytest.raises(EngineFormatError, match="does not fit"):
            apply(kind, 1 << 40)


def test_field_beyond_its_section() -> None:
    site = relocate.Site(memoryview(bytearray(8)), 0, 4, 0, "s", 0, 0, lambda: 0, lambda: 0)
    with pytest.raises(EngineFormatError, match="goes beyond its section"):
        relocate.apply(MACHINE_X86_64, 1, site)


def test_aarch64_objects_use_only_known_relocations() -> None:
    text = """
@values = internal constant [4 x float] [float 1.0, float 2.0, float 4.0, float 8.0]
@shared = external global <4 x float>
declare float @expf(float)
define float @f(i64 %i) {
  %p = getelementptr [4 x float], ptr @values, i64 0, i64 %i
  %v = load float, ptr %p
  %q = load <4 x float>, ptr @shared
  %w = extractelement <4 x float> %q, i64 1
  %s = fadd float %v, %w
  %y = call float @expf(float %s)
  ret float %y
}"""
    for content in (emit_object(text, ARM), emit_object(driver_module(ARM), ARM)):
        parsed = parse_elf(content, "arm")
        assert {int(kind) for found in parsed.relocations for kind in found.rows["kind"]} <= set(
            relocate.HANDLERS[MACHINE_AARCH64])


def test_region_bounds() -> None:
    region = Region(4096)
    with pytest.raises(BessemerError):
        region.array(0, 4097)
    region.close()
    region.close()

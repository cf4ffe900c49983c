"""Links ELF objects in memory: lays out sections, binds symbols, relocates, protects."""

import ctypes
import platform
from collections.abc import Sequence
from functools import partial

import numpy as np

from bessemer.core.errors import EngineFormatError, TargetError
from bessemer.runtime import relocate
from bessemer.runtime.elf import MACHINES, ElfObject, Section, Symbol, parse_elf
from bessemer.runtime.memory import EXECUTE, PAGE, READ, Region, round_up

_MATH = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign",
    "cos", "cosh", "erf", "erfc", "exp", "exp10", "exp2", "expm1", "fabs", "fdim", "floor",
    "fma", "fmax", "fmin", "fmod", "frexp", "hypot", "ldexp", "lgamma", "log", "log10",
    "log1p", "log2", "logb", "nearbyint", "nextafter", "pow", "remainder", "rint", "round",
    "roundeven", "sin", "sincos", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc",
)
_MEMORY = ("memcpy", "memset", "memmove", "memcmp", "bzero")
# Conversions and wide divisions that the code generator calls where the CPU lacks them.
_COMPILER = (
    "__truncsfhf2", "__truncdfhf2", "__extendhfsf2", "__truncsfbf2", "__truncdfbf2",
    "__extendbfsf2", "__divti3", "__udivti3", "__modti3", "__umodti3", "__multi3",
)
_LIBRARIES = {"libm.so.6": {name + suffix for name in _MATH for suffix in ("", "f")},
              "libc.so.6": set(_MEMORY), "libgcc_s.so.1": set(_COMPILER)}
EXTERNALS = frozenset().union(*_LIBRARIES.values())
"""The only outside functions that machine code of an engine may call."""

_found: dict[str, int] = {}


def external_address(name: str) -> int:
    """The address of an allowed outside function.

    Raises: EngineFormatError for a name that is not allowed, TargetError if the system lacks it.
    """
    if name in _found:
        return _found[name]
    for library, names in _LIBRARIES.items():
        if name in names:
            try:
                function = getattr(ctypes.CDLL(library), name)
            except (OSError, AttributeError) as error:
                raise TargetError(
                    f"the engine's code calls {name}, which {library} of this system does not "
                    f"offer ({error}); build the engine for this machine"
                ) from None
            _found[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
            return _found[name]
    raise EngineFormatError(
        f"machine code calls {name!r}, which engines must not; build the engine again"
    )


class LinkedCode:
    """Machine code in memory; `address` finds a function. The code lives as long as this object."""

    def __init__(self, objects: Sequence[bytes | memoryview], label: str) -> None:
        self.label = label
        parsed = [parse_elf(content, f"{label}, object {i}") for i, content in enumerate(objects)]
        _check_machine(parsed, label)
        self._machine = parsed[0].machine if parsed else 0
        self._layout(parsed)
        self._bind(parsed)
        self._owners = {
            symbol.name: index for index, part in enumerate(parsed) for symbol in part.symbols
            if symbol.is_global and symbol.section is not None
        }
        for index, part in enumerate(parsed):
            self._relocate(index, part)
        del self._image
        self._protect()

    def address(self, name: str) -> int:
        """The address of a global function. Raises: EngineFormatError if it is not defined."""
        if name not in self._globals:
            raise EngineFormatError(f"{self.label}: the code defines no function {name!r}")
        return self._globals[name]

    def owner(self, name: str) -> int | None:
        """The index of the object that defines a global symbol."""
        return self._owners.get(name)

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the code takes."""
        return self._region.size_bytes

    def close(self) -> None:
        """Frees the code; calling into it afterwards is a fault."""
        self._region.close()

    def _layout(self, parsed: Sequence[ElfObject]) -> None:
        """Offsets: code and stubs, then read-only data and the GOT, then writable data."""
        sections = [(i, s) for i, part in enumerate(parsed) for s in part.sections.values()]
        externals = {s.name for part in parsed for s in part.symbols if s.section is None}
        self._at: dict[tuple[int, int], int] = {}
        self._starts = [0]
        position = 0
        for executable, writable in ((True, False), (False, False), (False, True)):
            for index, section in sections:
                if (section.executable, section.writable) == (executable, writable):
                    position = round_up(position, section.alignment)
                    self._at[index, section.number] = position
                    position += section.size_bytes
            if executable:
                self._stubs_at = position = round_up(position, relocate.STUB_BYTES)
                position += relocate.STUB_BYTES * len(externals)
            elif not writable:
                self._slots_at = position = round_up(position, 8)
                position += 8 * _count_symbols(parsed)
            position = round_up(position, PAGE)
            self._starts.append(position)
        self._region = Region(position)
        self._image = self._region.array().data
        self._stubs: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        for index, section in sections:
            self._copy(self._at[index, section.number], section)

    def _copy(self, at: int, section: Section) -> None:
        if section.content is not None:
            self._image[at : at + section.size_bytes] = section.content

    def _bind(self, parsed: Sequence[ElfObject]) -> None:
        self._globals: dict[str, int] = {}
        weak: dict[str, int] = {}
        for index, part in enumerate(parsed):
            for symbol in part.symbols:
                if not symbol.is_global or (index, symbol.section) not in self._at:
                    continue
                assert symbol.section is not None
                address = self._region.address + self._at[index, symbol.section] + symbol.value
                if symbol.weak:
                    weak.setdefault(symbol.name, address)
                elif symbol.name in self._globals:
                    raise EngineFormatError(
                        f"{self.label}: the function {symbol.name!r} is defined twice"
                    )
                else:
                    self._globals[symbol.name] = address
        self._globals = weak | self._globals

    def _resolve(self, index: int, part: ElfObject, number: int) -> int:
        symbol = part.symbols[number]
        if symbol.section is None:
            if symbol.name in self._globals:
                return self._globals[symbol.name]
            return external_address(symbol.name)
        if symbol.section == -1:
            return symbol.value
        at = self._at.get((index, symbol.section))
        if at is None:
            raise EngineFormatError(
                f"{self.label}: {symbol.name!r} lies in a section that is not loaded"
            )
        return self._region.address + at + symbol.value

    def _relocate(self, index: int, part: ElfObject) -> None:
        image = np.frombuffer(self._image, np.uint8)
        targets = np.array([self._known_address(index, symbol) for symbol in part.symbols],
                           np.int64)
        for section, rows in part.relocations:
            start, size = self._at[index, section], part.sections[section].size_bytes
            done = relocate.apply_near(
                part.machine, image[start : start + size], self._region.address + start, rows,
                targets)
            for offset, kind, symbol, addend in rows[~done].tolist():
                target = self._resolve(index, part, symbol)
                name = part.symbols[symbol].name
                site = relocate.Site(
                    self._image, start + offset, start + size,
                    self._region.address + start + offset, name, target, addend,
                    partial(self._slot, target), partial(self._stub, name, target),
                )
                relocate.apply(part.machine, kind, site)

    def _known_address(self, index: int, symbol: Symbol) -> int:
        """The address of what is defined in these objects, 0 for anything else."""
        if symbol.section is None:
            return self._globals.get(symbol.name, 0)
        at = self._at.get((index, symbol.section))
        return 0 if at is None else self._region.address + at + symbol.value

    def _slot(self, target: int) -> int:
        if target not in self._slots:
            at = self._slots_at + 8 * len(self._slots)
            self._image[at : at + 8] = target.to_bytes(8, "little")
            self._slots[target] = self._region.address + at
        return self._slots[target]

    def _stub(self, name: str, target: int) -> int:
        if name not in self._stubs:
            at = self._stubs_at + relocate.STUB_BYTES * len(self._stubs)
            if at + relocate.STUB_BYTES > self._starts[1]:
                raise EngineFormatError(f"{self.label}: {name!r} is too far away to be called")
            code = relocate.stub_code(self._machine, target)
            self._image[at : at + relocate.STUB_BYTES] = code
            self._stubs[name] = self._region.address + at
        return self._stubs[name]

    def _protect(self) -> None:
        code, data = self._starts[1], self._starts[2]
        if code:
            self._region.protect(0, code, READ | EXECUTE)
        if data > code:
            self._region.protect(code, data - code, READ)


def _count_symbols(parsed: Sequence[ElfObject]) -> int:
    return sum(len(part.symbols) for part in parsed)


def _check_machine(parsed: Sequence[ElfObject], label: str) -> None:
    here = platform.machine()
    for part in parsed:
        name = MACHINES.get(part.machine)
        if name is None:
            raise EngineFormatError(f"{label}: unknown architecture number {part.machine}")
        if name != here:
            raise TargetError(f"{label} holds code for {name}; this machine is {here}")

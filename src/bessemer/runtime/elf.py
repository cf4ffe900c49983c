"""Reads ELF64 relocatable objects; every number is checked against the object before use."""

import struct
from typing import Any, NamedTuple

import numpy as np

from bessemer.core.errors import EngineFormatError

MACHINE_X86_64 = 62
MACHINE_AARCH64 = 183
MACHINES = {MACHINE_X86_64: "x86_64", MACHINE_AARCH64: "aarch64"}

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = np.dtype(
    [("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

_SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 2, 3, 4, 8, 9
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECUTE, _SHF_TLS = 1, 2, 4, 0x400
_SHN_UNDEFINED, _SHN_RESERVED, _SHN_ABSOLUTE = 0, 0xFF00, 0xFFF1
_BIND_LOCAL, _BIND_GLOBAL, _BIND_WEAK = 0, 1, 2
_TYPE_TLS, _TYPE_IFUNC = 6, 10

_MAX_ALIGNMENT = 4096
_MAX_NOBITS = 1 << 26
_IGNORED = (".eh_frame", ".note", ".comment", ".llvm")
_REFUSED = (".init_array", ".fini_array", ".ctors", ".dtors", ".init", ".fini", ".preinit_array")


class Section(NamedTuple):
    """A section that must be in memory: its content (None: zeros), alignment and kind."""

    number: int
    name: str
    content: memoryview | None
    size_bytes: int
    alignment: int
    writable: bool
    executable: bool


class Symbol(NamedTuple):
    """A symbol: `section` is the index of its section, None if undefined, -1 if absolute."""

    name: str
    section: int | None
    value: int
    is_global: bool
    weak: bool


class Relocations(NamedTuple):
    """The fields of a section that take values: rows of offset, kind, symbol and addend."""

    section: int
    rows: np.ndarray[Any, Any]


class ElfObject(NamedTuple):
    """What the linker needs of one object."""

    machine: int
    sections: dict[int, Section]
    symbols: tuple[Symbol, ...]
    relocations: tuple[Relocations, ...]


class _Header(NamedTuple):
    name: int
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Reader:
    """One parse: the bytes and the name used in errors."""

    def __init__(self, content: bytes | memoryview, label: str) -> None:
        self.content = memoryview(content)
        self.label = label
        self.machine = 0
        self.headers: list[_Header] = []
        self.names: list[str] = []

    def fail(self, text: str) -> EngineFormatError:
        return EngineFormatError(
            f"{self.label}: {text}; the object code is damaged or was made for another release"
        )

    def slice(self, offset: int, size: int, what: str) -> memoryview:
        if offset > len(self.content) or size > len(self.content) - offset:
            raise self.fail(
                f"{what} at byte {offset} of {size} bytes goes beyond the {len(self.content)} bytes"
            )
        return self.content[offset : offset + size]

    def read_headers(self) -> None:
        head = self.slice(0, _HEADER.size, "the ELF header")
        (ident, kind, self.machine, _, _, _, table, _, _, _, _, entry, count, names) = (
            _HEADER.unpack(head)
        )
        if ident[:4] != b"\x7fELF":
            raise self.fail(f"magic {bytes(ident[:4])!r} is not ELF")
        if ident[4:7] != b"\x02\x01\x01" or kind != 1:
            raise self.fail("not a 64-bit little-endian relocatable object")
        if count and entry != _SECTION.size:
            raise self.fail(f"e_shentsize {entry} is not {_SECTION.size}")
        rows = self.slice(table, count * _SECTION.size, "the section table")
        for row in _SECTION.iter_unpack(rows):
            name, type_, flags, _, offset, size, link, info, alignment, entry_size = row
            self.headers.append(
                _Header(name, type_, flags, offset, size, link, info, alignment, entry_size)
            )
        if names >= count:
            raise self.fail(f"e_shstrndx {names} is not below {count}")
        table_names = self.strings(names)
        self.names = [self.text(table_names, header.name) for header in self.headers]

    def strings(self, index: int) -> bytes:
        if index >= len(self.headers) or self.headers[index].type != _SHT_STRTAB:
            raise self.fail(f"section {index} is not a string table")
        header = self.headers[index]
        return bytes(self.slice(header.offset, header.size, "a string table"))

    def text(self, table: bytes, offset: int) -> str:
        end = table.find(b"\0", offset) if offset < len(table) else -1
        if end < 0:
            raise self.fail(f"name at {offset} lies outside its string table")
        return table[offset:end].decode("utf-8", "replace")

    def read_sections(self) -> dict[int, Section]:
        found = {}
        for index, (header, name) in enumerate(zip(self.headers, self.names, strict=True)):
            if not header.flags & _SHF_ALLOC or name.startswith(_IGNORED):
                continue
            if header.flags & _SHF_TLS or name.startswith(_REFUSED):
                raise self.fail(f"section {name!r} is of a kind that engines must not hold")
            if header.flags & _SHF_WRITE and header.flags & _SHF_EXECUTE:
                raise self.fail(f"section {name!r} is both writable and executable")
            alignment = header.alignment or 1
            if alignment & (alignment - 1) or alignment > _MAX_ALIGNMENT:
                raise self.fail(f"section {name!r} has the alignment {alignment}")
            content = None
            if header.type != _SHT_NOBITS:
                content = self.slice(header.offset, header.size, f"section {name!r}")
            elif header.size > _MAX_NOBITS:
                raise self.fail(f"section {name!r} asks for {header.size} bytes")
            found[index] = Section(
                index, name, content, header.size, alignment,
                bool(header.flags & _SHF_WRITE), bool(header.flags & _SHF_EXECUTE),
            )
        return found

    def read_symbols(self, sections: dict[int, Section]) -> tuple[int, tuple[Symbol, ...]]:
        tables = [i for i, header in enumerate(self.headers) if header.type == _SHT_SYMTAB]
        if len(tables) != 1:
            raise self.fail(f"{len(tables)} symbol tables instead of one")
        header = self.headers[tables[0]]
        if header.size % _SYMBOL.size:
            raise self.fail(f"symbol table of {header.size} bytes is not whole")
        strings = self.strings(header.link)
        rows = _SYMBOL.iter_unpack(self.slice(header.offset, header.size, "the symbol table"))
        return tables[0], tuple(self.symbol(strings, row, sections) for row in rows)

    def symbol(
        self, strings: bytes, row: tuple[int, ...], sections: dict[int, Section]
    ) -> Symbol:
        name_at, info, _, where, value, _ = row
        name, bind, kind = self.text(strings, name_at), info >> 4, info & 15
        if kind in (_TYPE_TLS, _TYPE_IFUNC) or bind > _BIND_WEAK:
            raise self.fail(f"symbol {name!r} is of kind {kind}, binding {bind}")
        section: int | None = where
        if where == _SHN_UNDEFINED:
            section = None
        elif where == _SHN_ABSOLUTE:
            section = -1
        elif where >= _SHN_RESERVED or where >= len(self.headers):
            raise self.fail(f"symbol {name!r} is in section {where}")
        elif where in sections and value > sections[where].size_bytes:
            raise self.fail(f"symbol {name!r} at {value} lies outside its section")
        return Symbol(name, section, value, bind != _BIND_LOCAL, bind == _BIND_WEAK)

    def read_relocations(
        self, table: int, symbols: tuple[Symbol, ...], sections: dict[int, Section]
    ) -> tuple[Relocations, ...]:
        found = []
        for header, name in zip(self.headers, self.names, strict=True):
            if header.type == _SHT_REL and header.info in sections:
                raise self.fail(f"relocations of {name!r} have no addends")
            if header.type != _SHT_RELA or header.info not in sections:
                continue
            if header.link != table or header.size % _RELOCATION.itemsize:
                raise self.fail(f"relocations {name!r} are malformed")
            size = sections[header.info].size_bytes
            content = self.slice(header.offset, header.size, f"relocations {name!r}")
            rows = np.frombuffer(content, _RELOCATION)
            wrong = (rows["symbol"] >= len(symbols)) | (rows["offset"] >= size)
            if wrong.any():
                offset = rows["offset"][wrong][0]
                raise self.fail(f"relocation at {offset} of {name!r} is out of range")
            found.append(Relocations(header.info, rows))
        return tuple(found)


def parse_elf(content: bytes | memoryview, label: str) -> ElfObject:
    """Parses one object; `label` names it in errors.

    Raises: EngineFormatError for anything inconsistent or unsupported.
    """
    reader = _Reader(content, label)
    reader.read_headers()
    sections = reader.read_sections()
    table, symbols = reader.read_symbols(sections)
    return ElfObject(
        reader.machine, sections, symbols, reader.read_relocations(table, symbols, sections)
    )


def elf_machine(content: bytes | memoryview) -> int:
    """The architecture number of an object, 0 if it is no ELF64 object."""
    if len(content) < _HEADER.size or bytes(content[:4]) != b"\x7fELF":
        return 0
    return int(_HEADER.unpack_from(content)[2])

"""Applies relocations: the few kinds that position-independent kernel code needs."""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bessemer.core.errors import EngineFormatError
from bessemer.runtime.elf import MACHINE_AARCH64, MACHINE_X86_64


class Site(NamedTuple):
    """A field to patch: image bytes, its position there, its address, and the value's parts.

    `slot` gives the address of a word that holds the symbol's address (a small GOT); `stub` gives
    an address near the code that jumps to the symbol if it is far away.
    """

    image: memoryview
    position: int
    limit: int
    address: int
    symbol: str
    target: int
    addend: int
    slot: Callable[[], int]
    stub: Callable[[], int]

    def fail(self, text: str) -> EngineFormatError:
        """An error that names the symbol."""
        return EngineFormatError(f"relocation against {self.symbol!r}: {text}")

    def room(self, size: int) -> None:
        """Raises EngineFormatError if the field does not lie inside its section."""
        if self.position + size > self.limit:
            raise self.fail(f"a field of {size} bytes goes beyond its section")

    def put(self, form: str, value: int) -> None:
        """Writes a number; `form` is a struct code."""
        self.room(struct.calcsize(form))
        try:
            struct.pack_into(form, self.image, self.position, value)
        except struct.error:
            raise self.fail(f"the value {value:#x} does not fit its field") from None

    def instruction(self) -> int:
        """The 32-bit instruction at the site."""
        self.room(4)
        return int(struct.unpack_from("<I", self.image, self.position)[0])


def _fits(value: int, bits: int) -> bool:
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1)


# --- x86-64 ------------------------------------------------------------------------------------

def _absolute64(site: Site) -> None:
    site.put("<Q", (site.target + site.addend) & (1 << 64) - 1)


def _absolute32(site: Site) -> None:
    site.put("<I", site.target + site.addend)


def _absolute32_signed(site: Site) -> None:
    site.put("<i", site.target + site.addend)


def _relative32(site: Site) -> None:
    value = site.target + site.addend - site.address
    if not _fits(value, 32):
        value = site.stub() + site.addend - site.address
    site.put("<i", value)


def _relative64(site: Site) -> None:
    site.put("<q", site.target + site.addend - site.address)


def _got_relative32(site: Site) -> None:
    site.put("<i", site.slot() + site.addend - site.address)


# --- AArch64 -----------------------------------------------------------------------------------

def _branch26(site: Site) -> None:
    distance = site.target + site.addend - site.address
    if not _fits(distance, 28):
        distance = site.stub() + site.addend - site.address
    if distance & 3 or not _fits(distance, 28):
        raise site.fail(f"the branch distance {distance:#x} is out of range")
    word = site.instruction() & ~0x03FFFFFF
    site.put("<I", word | (distance >> 2) & 0x03FFFFFF)


def _page_of(site: Site, value: int) -> None:
    pages = (value >> 12) - (site.address >> 12)
    if not _fits(pages, 21):
        raise site.fail(f"the page distance {pages:#x} is out of range")
    word = site.instruction() & ~((3 << 29) | (0x7FFFF << 5))
    site.put("<I", word | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _adr_page(site: Site) -> None:
    _page_of(site, site.target + site.addend)


def _adr_got_page(site: Site) -> None:
    _page_of(site, site.slot() + site.addend)


def _low12(shift: int, got: bool = False) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        base = site.slot() if got else site.target
        low = base + site.addend & 0xFFF
        if low & (1 << shift) - 1:
            raise site.fail(f"offset {low:#x} is not aligned to {1 << shift}")
        word = site.instruction() & ~(0xFFF << 10)
        site.put("<I", word | (low >> shift) << 10)

    return apply


def _relative32_data(site: Site) -> None:
    site.put("<i", site.target + site.addend - site.address)


HANDLERS: dict[int, dict[int, Callable[[Site], None]]] = {
    MACHINE_X86_64: {
        1: _absolute64, 2: _relative32, 4: _relative32, 9: _got_relative32, 10: _absolute32,
        11: _absolute32_signed, 24: _relative64, 41: _got_relative32, 42: _got_relative32,
    },
    MACHINE_AARCH64: {
        257: _absolute64, 260: _relative64, 261: _relative32_data, 275: _adr_page, 276: _adr_page,
        277: _low12(0), 278: _low12(0), 282: _branch26, 283: _branch26, 284: _low12(1),
        285: _low12(2), 286: _low12(3), 299: _low12(4), 311: _adr_got_page,
        312: _low12(3, got=True),
    },
}

STUB_BYTES = 16


def apply_near(
    machine: int, image: np.ndarray[Any, Any], address: int, rows: np.ndarray[Any, Any],
    targets: np.ndarray[Any, Any],
) -> np.ndarray[Any, Any]:
    """Patches the distances within reach of x86-64 code all at once; True for each that it did.

    They are almost all relocations there are, and one by one they took half of the time to load.
    `image` holds the bytes of the section at `address`, `rows` its relocations, `targets` the
    address of each symbol, 0 where it is not known.
    """
    if machine != MACHINE_X86_64:
        return np.zeros(len(rows), bool)
    kinds, offsets, addends = rows["kind"], rows["offset"].astype(np.int64), rows["addend"]
    known = targets[rows["symbol"]]
    values = known + addends - (address + offsets)
    done: np.ndarray[Any, Any] = ((kinds == 2) | (kinds == 4)) & (known != 0)
    done &= offsets <= len(image) - 4
    for numbers in (addends, values):
        done &= (numbers > -(1 << 31)) & (numbers < 1 << 31)
    places = offsets[done, None] + np.arange(4)
    image[places] = values[done].astype("<i4").view(np.uint8).reshape(-1, 4)
    return done


def stub_code(machine: int, target: int) -> bytes:
    """Code of STUB_BYTES bytes that jumps to any address; x16 is free for this on AArch64."""
    if machine == MACHINE_X86_64:
        return b"\xff\x25\x02\x00\x00\x00\x66\x90" + struct.pack("<Q", target)
    return struct.pack("<IIQ", 0x58000050, 0xD61F0200, target)


def apply(machine: int, kind: int, site: Site) -> None:
    """Patches one site. Raises: EngineFormatError for an unknown kind or a value out of range."""
    handler = HANDLERS[machine].get(kind)
    if handler is None:
        raise site.fail(f"kind {kind} is not supported")
    handler(site)

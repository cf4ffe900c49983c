"""Permission to use the registers of AMX, which Linux gives to processes that ask for it."""

import ctypes
from functools import lru_cache

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@lru_cache(maxsize=1)
def may_use_tiles() -> bool:
    """Asks once for all threads of this process; False if the system refuses.

    Source: Linux, Documentation/arch/x86/xstate.rst.
    """
    try:
        refused = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
        return int(refused) == 0
    except (OSError, AttributeError):
        return False


def is_allowed(flag: str) -> bool:
    """True unless a CPU flag, in any spelling, is of AMX and its registers may not be used."""
    return not flag.lstrip("+").startswith("amx") or may_use_tiles()

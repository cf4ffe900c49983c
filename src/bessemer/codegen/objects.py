"""Loops to machine code: equal loops are compiled once and kept under the hash of their text."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import bessemer
from bessemer.codegen.cache import ObjectCache, object_key
from bessemer.codegen.llvm.emit import DEFAULT_PASSES, compiler_version
from bessemer.codegen.llvm.emitter import module_text
from bessemer.codegen.llvm.pool import CompilePool
from bessemer.lower.loops import Function


def loops_text(function: Function) -> str:
    """What decides the machine code of a function."""
    params = [(b.strides, b.offset, b.dtype.name) for b in function.params]
    return f"{function}\n{params}\n{sorted(function.notes.items())}"


def name_by_content(function: Function) -> str:
    """Names a function by the hash of its loops, so that equal ones share code."""
    function.name = "kernel"
    digest = hashlib.sha256(loops_text(function).encode()).hexdigest()
    function.name = f"k_{digest[:20]}"
    return function.name


def _fingerprint() -> str:
    """A hash of the code generator's sources: an object in the cache is valid for one generator."""
    root = Path(bessemer.__file__).parent
    digest = hashlib.sha256(bessemer.__version__.encode())
    sources = [*(root / "codegen").glob("**/*.py"), root / "lower" / "affine.py"]
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Taken on import: sources that change while this process runs are not the ones that it runs.
GENERATOR_FINGERPRINT = _fingerprint()


def compile_functions(functions: Sequence[Function], pool: CompilePool, cache: ObjectCache,
                      on_done: Callable[[int, int], None] | None = None,
                      extra: Sequence[str] = ()) -> list[bytes]:
    """Objects of the functions, which differ in their names, then of the extra LLVM modules.

    Raises: CodegenError if LLVM refuses one.
    """
    target = pool.target
    version = f"{compiler_version()} {GENERATOR_FINGERPRINT}"
    keys = [object_key(loops_text(each), target, DEFAULT_PASSES, version) for each in functions]
    found = [cache.load(key) for key in keys]
    missing = [k for k, code in enumerate(found) if code is None]
    done, total = len(functions) - len(missing), len(functions) + len(extra)
    texts = (module_text([functions[k]], target) for k in missing)
    report = (lambda d, _: on_done(done + d, total)) if on_done is not None else None
    codes = pool.compile_many(itertools.chain(texts, extra), report, len(missing) + len(extra))
    for k, code in zip(missing, codes, strict=False):
        found[k] = code
        cache.store(keys[k], code)
    return [*(code for code in found if code is not None), *codes[len(missing):]]

"""LLVM IR text to machine code: parse, verify, optimise, emit an ELF object or assembly.

The text carries explicit vectors and unrolled tiles, so LLVM's vectorisers and unrollers stay off.
The result depends only on the text, the target, the pass choice and the version of LLVM.
"""

import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from bessemer.core.errors import CodegenError
from bessemer.targets import Target

DEFAULT_PASSES = "sroa,instcombine,simplifycfg"
"""What `emit_object` runs when it is not told: see `pass_names`."""

_PIPELINES = {"O0": 0, "O1": 1, "O2": 2, "O3": 3}


def compiler_version() -> str:
    """Names the code generator exactly; part of every cache key."""
    return f"llvmlite {llvmlite.__version__} llvm {'.'.join(map(str, llvm.llvm_version_info))}"


@lru_cache(maxsize=1)
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()  # inline assembly aborts the process without it


@lru_cache(maxsize=32)
def _machine(triple: str, cpu: str, features: str) -> Any:  # llvmlite has no types
    _initialize()
    try:
        description = llvm.Target.from_triple(triple)
    except RuntimeError as error:
        raise CodegenError(f"LLVM has no code generator for {triple!r}: {error}") from error
    return description.create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )


def target_machine(target: Target) -> Any:
    """The llvmlite TargetMachine of a target, made once per process."""
    return _machine(target.triple, target.cpu, target.features)


def _excerpt(text: str, message: str) -> str:
    """The line an LLVM message points at, with two lines before it."""
    found = re.search(r"<string>:(\d+):", message)
    if found is None:
        return "\n".join(text.splitlines()[:8])
    number = int(found.group(1))
    lines = text.splitlines()
    first = max(0, number - 3)
    return "\n".join(f"{first + k + 1:5d}| {line}" for k, line in enumerate(lines[first:number]))


@contextmanager
def parsed_module(text: str, target: Target) -> Iterator[Any]:
    """The verified llvmlite module of an IR text, set to the target; freed at the end.

    Raises: CodegenError with LLVM's message and the lines it points at.
    """
    if " asm " in text and target.architecture != platform.machine():
        # LLVM would end the process: the wheel has the assembly parser of the build machine only.
        raise CodegenError(f"inline assembly cannot be compiled for {target.name} on this machine")
    machine = target_machine(target)
    # A context of its own: types and metadata of one kernel must not rename those of the next.
    context = llvm.create_context()
    try:
        module = llvm.parse_assembly(text, context)
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        module.verify()
    except RuntimeError as error:
        message = str(error).strip()
        raise CodegenError(
            f"LLVM rejects the IR for {target.name}: {message}\n{_excerpt(text, message)}"
        ) from error
    try:
        yield module
    finally:
        module.close()


def _pass_builder(machine: Any, level: int) -> Any:
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = False
    options.loop_interleaving = False
    return llvm.create_pass_builder(machine, options)


def _adders(manager: Any) -> dict[str, Callable[[], Any]]:
    return {
        "sroa": manager.add_sroa_pass,
        "simplifycfg": manager.add_simplify_cfg_pass,
        "instcombine": manager.add_instruction_combine_pass,
        "newgvn": manager.add_new_gvn_pass,
        "dce": manager.add_dead_code_elimination_pass,
        "adce": manager.add_aggressive_dce_pass,
        "dse": manager.add_dead_store_elimination_pass,
        "sccp": manager.add_sccp_pass,
        "reassociate": manager.add_reassociate_pass,
        "loopsimplify": manager.add_loop_simplify_pass,
        "looprotate": manager.add_loop_rotate_pass,
        "lcssa": manager.add_lcssa_pass,
        "sink": manager.add_sinking_pass,
        "inline": manager.add_always_inliner_pass,
    }


def pass_names() -> list[str]:
    """What a pass choice may be: one of O0..O3, `none`, or the others separated by commas."""
    return [*_PIPELINES, "none", *_adders(llvm.create_new_module_pass_manager())]


def optimize(module: Any, target: Target, passes: str = DEFAULT_PASSES) -> None:
    """Runs the passes on a module in place.

    Raises: CodegenError for a pass that does not exist.
    """
    machine = target_machine(target)
    if passes == "none":
        return
    builder = _pass_builder(machine, _PIPELINES.get(passes, 1))
    if passes in _PIPELINES:
        builder.getModulePassManager().run(module, builder)
        return
    manager = llvm.create_new_module_pass_manager()
    adders = _adders(manager)
    for name in passes.split(","):
        if name not in adders:
            raise CodegenError(f"unknown LLVM pass {name!r}; known are {', '.join(pass_names())}")
        adders[name]()
    manager.run(module, builder)


def emit_object(text: str, target: Target, *, passes: str = DEFAULT_PASSES) -> bytes:
    """The relocatable ELF object of an LLVM IR text.

    Raises: CodegenError if LLVM rejects the text.
    """
    with parsed_module(text, target) as module:
        optimize(module, target, passes)
        return bytes(_emit(target, module, "emit_object"))


def emit_assembly(text: str, target: Target, *, passes: str = DEFAULT_PASSES) -> str:
    """The assembly that `emit_object` would assemble, for people and tests."""
    with parsed_module(text, target) as module:
        optimize(module, target, passes)
        return str(_emit(target, module, "emit_assembly"))


def emit_llvm(text: str, target: Target, *, passes: str = DEFAULT_PASSES) -> str:
    """The optimised LLVM IR text, for people and tests."""
    with parsed_module(text, target) as module:
        optimize(module, target, passes)
        return str(module)


def _emit(target: Target, module: Any, method: str) -> Any:
    try:
        return getattr(target_machine(target), method)(module)
    except RuntimeError as error:
        raise CodegenError(f"LLVM cannot generate code for {target.name}: {error}") from error

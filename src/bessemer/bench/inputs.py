"""Inputs to measure and compare with: seeded random data, or arrays read from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bessemer.core.dtypes import DTYPES, DType
from bessemer.core.errors import InputError
from bessemer.core.shapes import Dim, Sym, is_static, substitute, symbol
from bessemer.engine.plan import Binding

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Sizes = Mapping[str, int | tuple[int, ...]]
"""Sizes by name: of a symbol (one number) or of a whole input (its shape)."""


@dataclass(frozen=True)
class InputSpec:
    """Name, dtype and (perhaps symbolic) shape of one input."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


def specs_of_bindings(bindings: Sequence[Binding]) -> list[InputSpec]:
    """The inputs of an engine. Raises: InputError for one that is no tensor of known rank."""
    specs = []
    for number, binding in enumerate(bindings):
        if not binding.dtype or binding.shape is None:
            raise InputError(
                f"input {binding.name!r} is no tensor of known rank; no data can be made for it"
            )
        dims: list[Dim] = []
        for axis, extent in enumerate(binding.shape):
            unknown = f"dim{number}_{axis}"
            dims.append(extent if isinstance(extent, int) else symbol(extent or unknown))
        specs.append(InputSpec(binding.name, DTYPES[binding.dtype], tuple(dims)))
    return specs


def parse_sizes(texts: Sequence[str]) -> dict[str, int | tuple[int, ...]]:
    """Sizes from texts: `N=1` is a symbol, `input=1x3x224x224` the shape of an input.

    `input=[]` is a scalar. Raises: InputError for text of another form.
    """
    sizes: dict[str, int | tuple[int, ...]] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        numbers = value.strip("[]").replace(",", "x").split("x") if value != "[]" else []
        if not equals or not name or not all(number.strip().isdigit() for number in numbers):
            raise InputError(
                f"--shape {text!r}: expected NAME=SIZES such as input=1x3x224x224 or N=1"
            )
        extents = tuple(int(number) for number in numbers)
        sizes[name] = extents[0] if len(extents) == 1 and not value.startswith("[") else extents
    return sizes


def static_shape(spec: InputSpec, sizes: Sizes) -> tuple[int, ...]:
    """The shape with sizes filled in; symbols without a size become 1.

    Raises: InputError if a given shape does not fit the declared one.
    """
    given = sizes.get(spec.name)
    if given is not None:
        shape = (given,) if isinstance(given, int) else tuple(given)
        fits = len(shape) == len(spec.shape) and all(
            isinstance(dim, Sym) or dim == extent
            for dim, extent in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"input {spec.name!r} is {spec.dtype}[{','.join(map(str, spec.shape))}]; "
                f"the shape {'x'.join(map(str, shape))} does not fit"
            )
        return shape
    known: dict[str, Dim] = {k: v for k, v in sizes.items() if isinstance(v, int)}
    names = {n for dim in spec.shape if isinstance(dim, Sym) for n in dim.symbols()}
    filled = tuple(
        substitute(dim, {**dict.fromkeys(names, 1), **known}) for dim in spec.shape
    )
    assert is_static(filled), f"{spec.name}: {filled}"
    return tuple(int(dim) for dim in filled)  # type: ignore[arg-type]


def random_inputs(
    specs: Sequence[InputSpec], *, seed: int = 0, sizes: Sizes | None = None
) -> Arrays:
    """Seeded arrays for all inputs: floats normal, integers 0 or 1, booleans either.

    Integers stay in 0..1 because they are often indices whose legal range the model does not tell.
    """
    generator = np.random.default_rng(seed)
    return {
        spec.name: _random(generator, spec.dtype, static_shape(spec, sizes or {}))
        for spec in specs
    }


def _random(generator: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Array:
    if dtype.kind == "string":
        return np.full(shape, "a", dtype=object)
    if dtype.kind in ("float", "complex"):
        return generator.standard_normal(shape).astype(dtype.numpy)
    return generator.integers(0, 2, shape).astype(dtype.numpy)


def read_arrays(texts: Sequence[str], specs: Sequence[InputSpec]) -> Arrays:
    """Arrays from `name=file.npy` texts; `file.npz` alone gives all its arrays.

    Where there is one input its name may be left out. Raises: InputError naming the file,
    what was expected and the inputs that the model has.
    """
    arrays: Arrays = {}
    names = [spec.name for spec in specs]
    for text in texts:
        name, equals, path = text.rpartition("=")
        if path.endswith(".npz"):
            arrays.update(_load(path))
        elif equals:
            arrays[name] = _load(path)["array"]
        elif len(names) == 1:
            arrays[names[0]] = _load(path)["array"]
        else:
            raise InputError(f"--input {text!r}: say which input it is: {names[0]}={text}")
    unknown = [name for name in arrays if name not in names]
    if unknown:
        raise InputError(f"no input is named {unknown[0]!r}; the inputs are {', '.join(names)}")
    return arrays


def _load(path: str) -> Arrays:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file (expected a .npy or .npz file)")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy or .npz file: {error}") from error
    if isinstance(loaded, np.ndarray):
        return {"array": loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def complete_inputs(
    given: Arrays, specs: Sequence[InputSpec], *, seed: int = 0, sizes: Sizes | None = None
) -> Arrays:
    """The given arrays, and random ones for the inputs that are missing.

    Symbols take their sizes from the given arrays where they can be read off.
    """
    known: dict[str, int | tuple[int, ...]] = dict(sizes or {})
    for spec in specs:
        array = given.get(spec.name)
        if array is not None:
            for dim, extent in zip(spec.shape, array.shape, strict=False):
                if isinstance(dim, Sym):
                    known.setdefault(str(dim), int(extent))
    missing = [spec for spec in specs if spec.name not in given]
    return {**random_inputs(missing, seed=seed, sizes=known), **given}

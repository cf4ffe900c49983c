"""LLVM text to objects: every target, determinism, errors; the cache and the worker processes."""

import os

import pytest

from bessemer.codegen.cache import ObjectCache, object_key
from bessemer.codegen.llvm import pool
from bessemer.codegen.llvm.emit import (
    compiler_version,
    emit_assembly,
    emit_llvm,
    emit_object,
    pass_names,
)
from bessemer.codegen.llvm.pool import CompilePool, compile_many
from bessemer.core.errors import CodegenError
from bessemer.targets import TARGETS, get_target

HOST = get_target("host")


def add_kernel(name="k", value=1.0):
    return f"""
define void @{name}(ptr %args, i64 %thread, i64 %threads) {{
  %t = alloca <16 x float>
  %p = load ptr, ptr %args
  %v = load <16 x float>, ptr %p, align 4
  %w = fadd <16 x float> %v, splat (float {value!r})
  store <16 x float> %w, ptr %t
  %x = load <16 x float>, ptr %t
  store <16 x float> %x, ptr %p, align 4
  ret void
}}
"""


@pytest.mark.parametrize("name", TARGETS.names())
def test_object_for_every_target(name):
    target = get_target(name)
    body = emit_object(add_kernel(), target)
    machine = {"x86_64": 62, "aarch64": 183}[target.architecture]
    assert body[:4] == b"\x7fELF"
    assert int.from_bytes(body[16:20], "little") == (machine << 16) + 1  # relocatable
    assert emit_object(add_kernel(), target) == body


def test_wide_vectors_stay_wide():
    assert "zmm" in emit_assembly(add_kernel(), get_target("x86-avx512"))


def test_allocas_become_registers():
    assert "alloca" not in emit_llvm(add_kernel(), HOST)
    assert "alloca" in emit_llvm(add_kernel(), HOST, passes="none")


@pytest.mark.parametrize("passes", ["O1", "O2", "none", "sroa,newgvn,simplifycfg"])
def test_pass_choices(passes):
    assert emit_object(add_kernel(), HOST, passes=passes)


def test_pass_errors():
    assert {"O1", "none", "sroa"} <= set(pass_names())
    with pytest.raises(CodegenError, match=r"unknown LLVM pass 'sorry'; known are .*sroa"):
        emit_object(add_kernel(), HOST, passes="sorry")


def test_syntax_error_shows_the_line():
    with pytest.raises(CodegenError, match=r"expected instruction opcode(.|\n)*6\|.*fadq"):
        emit_object(add_kernel().replace("fadd", "fadq"), HOST)


def test_foreign_inline_assembly_is_refused():
    foreign = "aarch64-neon" if HOST.architecture == "x86_64" else "x86-avx2"
    text = 'define void @k() {\n call void asm sideeffect "nop", ""()\n ret void\n}'
    with pytest.raises(CodegenError, match="inline assembly"):
        emit_object(text, get_target(foreign))


def test_key_depends_on_all_parts():
    version = compiler_version()
    base = object_key("a", HOST, "O1", version)
    assert base == object_key("a", HOST, "O1", version)
    others = [
        object_key("b", HOST, "O1", version), object_key("a", HOST, "O2", version),
        object_key("a", HOST, "O1", "1"),
        object_key("a", get_target("aarch64-neon"), "O1", version),
    ]
    assert len({base, *others}) == 5


def test_cache_ignores_damage_and_writes_anew(tmp_path, caplog):
    cache = ObjectCache(tmp_path)
    cache.store("ab12", b"body")
    assert cache.load("ab12") == b"body"
    path = cache.path("ab12")
    for damage in (b"", b"short", path.read_bytes()[:-1] + b"?"):
        path.write_bytes(damage)
        assert cache.load("ab12") is None
    assert "damaged cache entry" in caplog.text
    cache.store("ab12", b"body")
    assert cache.load("ab12") == b"body"


def test_cache_deletes_the_longest_unused(tmp_path):
    cache = ObjectCache(tmp_path, limit_bytes=300)
    for position, key in enumerate(("aa1", "bb2", "cc3")):
        cache.store(key, b"x" * 100)
        os.utime(cache.path(key), (position, position))
    assert cache.load("aa1") is not None  # a use makes it the newest
    assert cache.prune() > 0
    assert cache.load("bb2") is None
    assert cache.load("aa1") is not None


def test_unwritable_cache_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ObjectCache(tmp_path / "file")
    cache.store("ab12", b"body")
    assert cache.load("ab12") is None


def test_compile_many_in_process(tmp_path, monkeypatch):
    cache = ObjectCache(tmp_path)
    modules = [add_kernel("a"), add_kernel("b"), add_kernel("a")]
    seen = []
    objects = compile_many(modules, HOST, cache=cache, on_done=lambda *done: seen.append(done))
    assert objects == [emit_object(text, HOST) for text in modules]
    assert seen == [(1, 2), (2, 2)]
    monkeypatch.setattr(pool, "emit_object", None)  # all further ones must come from the cache
    assert compile_many(modules, HOST, cache=cache) == objects


@pytest.fixture
def parallel(monkeypatch):
    monkeypatch.setattr(pool, "_SMALL_JOB_BYTES", 0)
    # This process compiles nothing, so that the helpers get all jobs.
    monkeypatch.setattr(pool, "_take", lambda todo: None)


def test_compile_many_in_helpers(parallel, tmp_path):
    modules = [add_kernel(f"k{i}", float(i)) for i in range(6)]
    with CompilePool(HOST, workers=1, cache=ObjectCache(tmp_path)) as compile_pool:
        objects = compile_pool.compile_many(modules)
        process = compile_pool._workers[0].process
        broken = [f"{add_kernel()} define void @e{i}() {{ x }}" for i in range(5)]
        with pytest.raises(CodegenError, match="expected instruction opcode"):
            compile_pool.compile_many(broken)
    assert process.poll() is not None
    assert objects == [emit_object(text, HOST) for text in modules]


def test_texts_may_be_made_one_by_one(parallel):
    texts = [add_kernel(f"k{i % 5}", float(i % 5)) for i in range(8)]
    seen = []
    with CompilePool(HOST, workers=1) as compile_pool:
        objects = compile_pool.compile_many(iter(texts), lambda *done: seen.append(done), 5)
        assert objects == [emit_object(text, HOST) for text in texts]
        assert seen == [(k, 5) for k in range(1, 6)]

        def failing():
            yield from texts[:2]
            raise CodegenError("no text")

        with pytest.raises(CodegenError, match="no text"):
            compile_pool.compile_many(failing())


def test_a_crashing_helper_is_an_error(parallel):
    # LLVM aborts on an intrinsic that the chip does not have.
    text = """
declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)
define void @crash%d(ptr %%p) {
  %%a = load <16 x i32>, ptr %%p
  %%b = load <64 x i8>, ptr %%p
  %%c = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %%a, <64 x i8> %%b, <64 x i8> %%b)
  store <16 x i32> %%c, ptr %%p
  ret void
}
"""
    with pytest.raises(CodegenError, match=r"worker ended.*kernel crash"):
        compile_many([text % i for i in range(4)], get_target("x86-64-v2"), workers=1)

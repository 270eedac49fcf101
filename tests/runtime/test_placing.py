"""Object files placed in memory: as LLVM does it, and left to LLVM where they are of another kind."""

import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import binding

import chainrule as cr
from chainrule.runtime import linking, placing
from chainrule.runtime.cache import read_entry

HERE = sys.platform == "linux" and platform.machine() == "x86_64"
only_here = pytest.mark.skipif(not HERE, reason="object files are placed on Linux on x86-64")

# It has constants, calls something of the C library and something that is provided, and jumps by a table.
TEXT = """
@numbers = internal constant [4 x double] [double 1.5, double 2.5, double 3.5, double 4.5]
declare double @cbrt(double)
declare double @chainrule_tried(double)
define double @tried(i64 %k, double %x) {
  %place = getelementptr [4 x double], [4 x double]* @numbers, i64 0, i64 %k
  %number = load double, double* %place
  switch i64 %k, label %other [ i64 0, label %zero  i64 1, label %one  i64 2, label %two  i64 3, label %three ]
zero:
  %a = call double @cbrt(double %x)
  br label %end
one:
  %b = call double @chainrule_tried(double %x)
  br label %end
two:
  %c = fmul double %x, 3.25
  br label %end
three:
  %d = fsub double %x, %number
  br label %end
other:
  ret double -1.0
end:
  %r = phi double [ %a, %zero ], [ %b, %one ], [ %c, %two ], [ %d, %three ]
  %s = fadd double %r, %number
  ret double %s
}
"""


def object_file(text: str, **how: Any) -> bytes:
    """What LLVM makes of a text, as it makes kernels."""
    made = linking.target_machine()
    if how:
        target = binding.Target.from_triple(binding.get_process_triple())
        made = target.create_target_machine(opt=3, **how)
    parsed = binding.parse_assembly(text)
    parsed.verify()
    code: bytes = made.emit_object(parsed)
    return code


@pytest.fixture(autouse=True)
def provided() -> Any:
    """A function that machine code finds by its name."""
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: 10 * x)
    linking.provide("chainrule_tried", ctypes.cast(function, ctypes.c_void_p).value)
    return function


def results(address: int) -> list[float]:
    function = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64, ctypes.c_double)(address)
    return [function(k, 8.0) for k in range(4)]


WANTED = [2 + 1.5, 80 + 2.5, 26 + 3.5, 8.0]


def test_both_ways_give_the_same() -> None:
    code = object_file(TEXT)
    assert results(placing.linked(code, "tried")) == WANTED
    assert results(linking.linked(code, "tried")) == WANTED


@only_here
def test_what_llvm_makes_for_kernels_is_placed_here() -> None:
    assert results(placing.placed(object_file(TEXT), "tried", ())) == WANTED
    assert placing.placed(object_file(TEXT), "another", ()) == 0


@only_here
def test_no_memory_is_written_and_run() -> None:
    """What runs can no longer be changed, and constants do not run."""
    place = placing.placed(object_file(TEXT), "tried", ())
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [(*(int(x, 16) for x in line[0].split("-")), line[1]) for line in lines]
    (run,) = [use for first, last, use in ranges if first <= place < last]
    assert run == "r-xp"
    begin = next(first for first, last, _ in ranges if first <= place < last)
    size = len(placing._kept[-1])
    uses = {use for first, last, use in ranges if begin <= first < begin + size}
    assert uses == {"r-xp", "r--p"}


@only_here
@pytest.mark.parametrize("kind", ["near addresses", "writable data", "another processor", "no object file", "unknown"])
def test_other_object_files_are_left_to_llvm(kind: str) -> None:
    code = object_file(TEXT)
    if kind == "near addresses":
        code = object_file(TEXT, codemodel="small", reloc="pic")
    elif kind == "writable data":
        code = object_file(TEXT.replace("internal constant", "internal global").replace(
            "%number = load", "store double 1.0, double* %place\n  %number = load"))  # fmt: skip
    elif kind == "another processor":
        code = code[:18] + b"\xb7" + code[19:]
    elif kind == "no object file":
        code = b"text"
    else:
        code = object_file(TEXT.replace("chainrule_tried", "chainrule_unknown"))
    with pytest.raises(placing.ForLLVM):
        placing.placed(code, "tried", ())
    if kind == "near addresses":
        assert results(placing.linked(code, "tried")) == WANTED
    if kind == "unknown":  # unless nobody calls it
        assert placing.linked(code, "tried", absent=["chainrule_unknown"])


@only_here
def test_a_process_with_a_full_cache_loads_no_llvm(tmp_path: Path) -> None:
    """Neither to train nor to predict, and it trains to the same bits as where LLVM links."""
    lines = """
import sys, json, numpy as np, chainrule as cr
from chainrule.runtime import linking, placing
if sys.argv[1] == "by LLVM":
    placing.placed = lambda *given: (_ for _ in ()).throw(placing.ForLLVM)
x = np.random.default_rng(0).normal(size=(60, 3))
t = cr.Trainer(cr.Model(3, [cr.Dense(5, "tanh"), cr.Dense(2, "softmax")], "cross_entropy"), batch_size=8)
t.fit(x, (x[:, 0] > 0).astype(int), epochs=3, verbose=0)
y = t.predict(x)
print(json.dumps(["llvmlite.binding" in sys.modules, y.tobytes().hex()]))
"""
    environment = {**os.environ, "CHAINRULE_CACHE": str(tmp_path)}
    found = {}
    for way in ("first", "placed", "by LLVM"):
        run = subprocess.run([sys.executable, "-c", lines, way], env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        found[way] = json.loads(run.stdout)
    assert not found["placed"][0]  # the first may compile by itself, where there is one core
    assert found["by LLVM"][0]
    assert len({bits for _, bits in found.values()}) == 1


@only_here
def test_kernels_of_numba_are_placed_here() -> None:
    """Their object files hold calls of Numba's own functions, too."""
    trainer = cr.Trainer(cr.Model(2, [cr.Dense(3, "gelu"), cr.Dense(1)]), batch_size=4)
    trainer.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=1, verbose=0)
    code = trainer.kernels.machine().code
    for name in ("train_phase_0", "train_phase_1"):
        entry = read_entry(code.path(name))
        assert entry is not None
        line, _, content = entry.partition(b"\n")
        head = json.loads(line)
        assert placing.placed(content, head["symbol"], head["of_numba"])


def test_what_is_provided_is_known_to_llvm_at_once_where_it_is_loaded() -> None:
    """So that it can be called by functions that Numba compiles."""
    linking.provide("chainrule_provided_late", linking.address_of_abort())
    assert binding.address_of_symbol("chainrule_provided_late") == linking.address_of_abort()

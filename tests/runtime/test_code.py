"""Functions written as LLVM instructions do what the same text does in Python."""

import ctypes
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from chainrule.runtime.assembly import Assembled, written

NUMBERS = (0, 1, 2, 3, 7, 8, 30)


def made(emit: Callable[..., None], count: int) -> Callable[..., None]:
    """The function that is emitted, with so many arguments."""
    module = ir.Module("tried")
    written(module, "tried", emit)
    compiled = Assembled(module, "tried")
    assert compiled.address == compiled.address
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * count)(compiled.address)


def test_operators() -> None:
    operators: list[Callable[[Any, Any], Any]] = [
        lambda a, b: a + b, lambda a, b: 3 + a, lambda a, b: a - b, lambda a, b: 3 - a, lambda a, b: a * b,
        lambda a, b: 3 * b, lambda a, b: a // (b + 1), lambda a, b: 9 // (b + 1), lambda a, b: a % (b + 1),
        lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a << (b & 7), lambda a, b: a >> (b & 7),
    ]  # fmt: skip

    def emit(code: Any, a: Any, b: Any, out: Any) -> None:
        results = code.words(out)
        for k, operator in enumerate(operators):
            results[k] = operator(a, b)

    function, out = made(emit, 3), np.zeros(len(operators), np.int64)
    for a, b in itertools.product(NUMBERS, NUMBERS):
        function(a, b, out.ctypes.data)
        assert out.tolist() == [operator(a, b) for operator in operators]


def test_comparisons_and_choices() -> None:
    def emit(code: Any, a: Any, b: Any, out: Any) -> None:
        results = code.words(out)
        comparisons = [a < b, a <= b, a > b, a >= b, a == b, a != b, ~(a < b), (a < b) & (a != 0), (a < b) | (b == 2)]
        for k, comparison in enumerate(comparisons):
            results[k] = code.choose(comparison, 1, 0)
        results[len(comparisons)], results[len(comparisons) + 1] = code.smaller(a, b), code.larger(a, b)

    function, out = made(emit, 3), np.zeros(11, np.int64)
    for a, b in itertools.product((-3, *NUMBERS), (-3, *NUMBERS)):
        function(a, b, out.ctypes.data)
        right = [a < b, a <= b, a > b, a >= b, a == b, a != b, a >= b, a < b and a != 0, a < b or b == 2]
        assert out.tolist() == [*map(int, right), min(a, b), max(a, b)]


def test_a_condition_is_not_known_while_the_code_is_written() -> None:
    def emit(code: Any, a: Any) -> None:
        if a < 3:
            code.leave()

    with pytest.raises(TypeError, match=r"nobody knows yet: use `code\.when`"):
        made(emit, 1)


def gcd_of_all(code: Any, first: Any, last: Any, step: Any, out: Any) -> None:
    """out = [how often, sum, the greatest common divisor of all]; nothing where there are more than 20."""
    results = code.words(out)
    count, total, divisor = code.variable(0), code.variable(0), code.variable(0)
    for k in code.range(first, last, step):
        count.set(count.get() + 1)
        total.set(total.get() + k)
        a, b = code.variable(divisor.get()), code.variable(k)
        for rest in code.whilst(lambda a=a, b=b: (b.get() != 0, a.get() % code.larger(b.get(), 1))):
            a.set(b.get())
            b.set(rest)
        divisor.set(a.get())
    with code.when(count.get() > 20):
        code.leave()
    with code.either(count.get() == 0) as (none, some):
        with none:
            results[0] = -1
        with some:
            results[0] = count.get()
            results[1] = total.get()
            results[2] = divisor.get()


@pytest.mark.parametrize("step", [1, 3])
def test_loops_and_branches(step: int) -> None:
    function, out = made(gcd_of_all, 4), np.zeros(3, np.int64)
    for first, last in itertools.product((0, 4, 6), (0, 5, 18, 90)):
        out[:] = 0
        function(first, last, step, out.ctypes.data)
        numbers = range(first, last, step)
        if len(numbers) > 20:
            assert out.tolist() == [0, 0, 0]
        elif not numbers:
            assert out.tolist() == [-1, 0, 0]
        else:
            assert out.tolist() == [len(numbers), sum(numbers), np.gcd.reduce(numbers)]


def test_words_that_threads_share() -> None:
    def emit(code: Any, place: Any, out: Any) -> None:
        results = code.words(out)
        code.store(place, 5)
        code.add(place, 2)
        results[0] = code.load(place)
        results[1] = code.choose(code.exchange(place, 5, 9), 1, 0)
        results[2] = code.choose(code.exchange(place, 7, 9), 1, 0)
        code.settle()
        code.offer_core()
        results[3] = code.load(place)

    word, out = np.zeros(1, np.int64), np.zeros(4, np.int64)
    made(emit, 2)(word.ctypes.data, out.ctypes.data)
    assert out.tolist() == [7, 0, 1, 9]


def test_the_stack_and_calls() -> None:
    module = ir.Module("tried")

    def double(code: Any, numbers: Any, count: Any) -> None:
        for k in code.range(count):
            code.words(numbers)[k] = 2 * code.words(numbers)[k]

    call = written(module, "double", double, inside=True)

    def emit(code: Any, other: Any, out: Any) -> None:
        kept = code.stack(80)
        for k in code.range(10):
            code.words(kept)[k] = k
        call(code, kept, 10)
        code.call_at(other, kept, 10)
        code.words(out)[0] = kept & 63
        for k in code.range(10):
            code.words(out)[k + 1] = code.words(kept)[k]

    written(module, "tried", emit)
    compiled, out = Assembled(module, "tried"), np.zeros(11, np.int64)
    other = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(lambda numbers, count: _add_one(numbers, count))
    address = ctypes.cast(other, ctypes.c_void_p).value
    ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(compiled.address)(address, out.ctypes.data)
    assert out.tolist() == [0, *(2 * k + 1 for k in range(10))]


def _add_one(numbers: int, count: int) -> None:
    array = (ctypes.c_int64 * count).from_address(numbers)
    for k in range(count):
        array[k] += 1

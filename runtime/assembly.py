"""Functions written as LLVM instructions, with loops and branches that read as Python's do, and compiled by LLVM alone.

What all kernels stand on, the matrix products and the loops of the threads, is written so: it needs vectors and atomic
numbers, which Python lacks, and it is the same for every model, so that Numba has nothing to find out about it. LLVM
takes a quarter of the time that Numba takes for the same function.

The body of a function is written by a Python function `emit(code, *arguments)`, which runs once. Its arguments, and all
that it computes with them, are words: integers of 64 bits, addresses among them.

    def total(code, count, numbers, result):
        so_far = code.variable(0)
        for k in code.range(count):                  # the body is emitted once, and runs many times
            with code.when(code.words(numbers)[k] > 0):
                so_far.set(so_far.get() + code.words(numbers)[k])
        code.words(result)[0] = so_far.get()
"""

import inspect
from contextlib import contextmanager

from llvmlite import binding, ir

from .linking import linked, target_machine

WORD, HALF, BYTE, NOTHING = ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.VoidType()
LINE = 64  # bytes in a cache line


class Word:
    """A number that the function will have; operators emit the instruction. It is not negative where it is divided."""

    __hash__ = None

    def __init__(self, code, raw):
        self.code, self.raw = code, raw

    def _made(self, instruction, a, b):
        return Word(self.code, getattr(self.code.builder, instruction)(self.code.raw(a), self.code.raw(b)))

    def _compared(self, sign, other):
        return Truth(self.code, self.code.builder.icmp_signed(sign, self.raw, self.code.raw(other)))

    def __add__(self, other):
        return self._made("add", self, other)

    def __sub__(self, other):
        return self._made("sub", self, other)

    def __rsub__(self, other):
        return self._made("sub", other, self)

    def __mul__(self, other):
        return self._made("mul", self, other)

    def __floordiv__(self, other):
        return self._made("sdiv", self, other)

    def __rfloordiv__(self, other):
        return self._made("sdiv", other, self)

    def __mod__(self, other):
        return self._made("srem", self, other)

    def __and__(self, other):
        return self._made("and_", self, other)

    def __or__(self, other):
        return self._made("or_", self, other)

    def __xor__(self, other):
        return self._made("xor", self, other)

    def __lshift__(self, other):
        return self._made("shl", self, other)

    def __rshift__(self, other):
        return self._made("lshr", self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __lt__(self, other):
        return self._compared("<", other)

    def __le__(self, other):
        return self._compared("<=", other)

    def __gt__(self, other):
        return self._compared(">", other)

    def __ge__(self, other):
        return self._compared(">=", other)

    def __eq__(self, other):
        return self._compared("==", other)

    def __ne__(self, other):
        return self._compared("!=", other)


class Truth:
    """Whether something will be so."""

    def __init__(self, code, raw):
        self.code, self.raw = code, raw

    def __and__(self, other):
        return Truth(self.code, self.code.builder.and_(self.raw, other.raw))

    def __or__(self, other):
        return Truth(self.code, self.code.builder.or_(self.raw, other.raw))

    def __invert__(self):
        return Truth(self.code, self.code.builder.not_(self.raw))

    def __bool__(self):
        raise TypeError("nobody knows yet: use `code.when`, `code.choose`, & and |")


class Variable:
    """A word that changes."""

    def __init__(self, code, start):
        self.code = code
        with code.builder.goto_entry_block():
            self.place = code.builder.alloca(WORD)
        self.set(start)

    def get(self):
        return Word(self.code, self.code.builder.load(self.place))

    def set(self, value):
        self.code.builder.store(self.code.raw(value), self.place)


class Words:
    """Words that stand at an address."""

    def __init__(self, code, address):
        self.code, self.address = code, address

    def _place(self, k):
        return self.code.pointer(self.address + 8 * k)

    def __getitem__(self, k):
        return Word(self.code, self.code.builder.load(self._place(k)))

    def __setitem__(self, k, value):
        self.code.builder.store(self.code.raw(value), self._place(k))


class Code:
    """The instructions of a function, in the order in which they are emitted."""

    def __init__(self, function):
        self.function, self.module = function, function.module
        begin, inside = function.append_basic_block("begin"), function.append_basic_block("inside")
        self.builder = ir.IRBuilder(begin)
        self.builder.branch(inside)
        self.builder.position_at_end(inside)

    # words

    def raw(self, value):
        """What LLVM knows a word, or an integer of Python, as."""
        return WORD(value) if isinstance(value, int) else value.raw

    def word(self, value):
        return Word(self, self.raw(value))

    def choose(self, condition, a, b):
        """a or b, both of which are computed."""
        return Word(self, self.builder.select(condition.raw, self.raw(a), self.raw(b)))

    def smaller(self, a, b):
        return self.choose(self.word(a) < b, a, b)

    def larger(self, a, b):
        return self.choose(self.word(a) > b, a, b)

    def variable(self, start):
        return Variable(self, start)

    def words(self, address):
        return Words(self, address)

    def pointer(self, address, kind=WORD):
        """What LLVM knows an address of something as."""
        return self.builder.inttoptr(self.raw(address), kind.as_pointer())

    def stack(self, size):
        """The address of so many bytes on the stack, from the beginning of a cache line on."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(ir.ArrayType(BYTE, size + LINE))
        return (Word(self, self.builder.ptrtoint(place, WORD)) + (LINE - 1)) & -LINE

    # words that other threads change

    def load(self, address):
        """A word; everything that another thread wrote before it is seen as well."""
        return Word(self, self.builder.load_atomic(self.pointer(address), "acquire", 8))

    def store(self, address, value):
        """Write a word; whoever reads it sees everything that was written before."""
        self.builder.store_atomic(self.raw(value), self.pointer(address), "release", 8)

    def add(self, address, value):
        """Add to a word that others add to as well."""
        self.builder.atomic_rmw("add", self.pointer(address), self.raw(value), "acq_rel")

    def exchange(self, address, expected, value):
        """Replace a word if it still is what is expected; whether it was."""
        place = self.pointer(address)
        result = self.builder.cmpxchg(place, self.raw(expected), self.raw(value), "acq_rel", "acquire")
        return Truth(self, self.builder.extract_value(result, 1))

    def settle(self):
        """What was written before is there for all, before anything is read after it: even processors that keep the
        order of writes and that of reads let a read pass an earlier write."""
        self.builder.fence("seq_cst")

    def offer_core(self):
        """Let another thread run on this core."""
        self.call("sched_yield", [], HALF)

    # loops and branches

    def when(self, condition):
        """with code.when(condition): ..."""
        return self.builder.if_then(condition.raw)

    def either(self, condition):
        """with code.either(condition) as (so, otherwise): with so: ...; with otherwise: ..."""
        return self.builder.if_else(condition.raw)

    def range(self, first, last=None, step=1):
        """for k in code.range(first, last, step): ..., as Python's."""
        first, last = (0, first) if last is None else (first, last)
        before, head = self.builder.block, self.function.append_basic_block("range")
        self.builder.branch(head)
        self.builder.position_at_end(head)
        raw = self.builder.phi(WORD)
        raw.add_incoming(self.raw(first), before)
        k = Word(self, raw)
        with self._turn(head, k < last):
            yield k
            following = (k + step).raw
            raw.add_incoming(following, self.builder.block)

    def whilst(self, look):
        """for value in code.whilst(look): ..., as long as `look()`, which gives (condition, value), is true."""
        head = self.function.append_basic_block("whilst")
        self.builder.branch(head)
        self.builder.position_at_end(head)
        condition, value = look()
        with self._turn(head, condition):
            yield value

    @contextmanager
    def _turn(self, head, condition):
        """The body of a loop, after which it goes back to its head."""
        body, after = self.function.append_basic_block("body"), self.function.append_basic_block("after")
        self.builder.cbranch(condition.raw, body, after)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def leave(self):
        """Return from the function."""
        self.builder.ret_void()

    # other functions

    def call(self, name, arguments, result=NOTHING):
        """Call a function by its name, with what LLVM knows the arguments as."""
        known = self.module.globals.get(name)
        if known is None:
            known = ir.Function(self.module, ir.FunctionType(result, [a.type for a in arguments]), name)
        return self.builder.call(known, arguments)

    def call_at(self, address, *words):
        """Call a function that stands at an address."""
        kind = ir.FunctionType(NOTHING, [WORD] * len(words))
        self.builder.call(self.pointer(address, kind), [self.raw(w) for w in words])


def written(module, name, emit, kind=Code, inside=False):
    """Write a function of words into a module; what emits a call of it.

    kind     of the `code` that `emit` is given
    inside   it is called in this module only; it stays a function of its own, whose registers are all for it
    """
    count = len(inspect.signature(emit).parameters) - 1
    function = ir.Function(module, ir.FunctionType(NOTHING, [WORD] * count), name)
    if inside:
        function.linkage = "internal"
        function.attributes.add("noinline")
    code = kind(function)
    emit(code, *(Word(code, argument) for argument in function.args))
    if not code.builder.block.is_terminated:
        code.leave()

    def call(code, *words):
        code.builder.call(function, [code.raw(w) for w in words])

    return call


# ---- compiling


class Assembled:
    """The machine code of a module's function."""

    def __init__(self, module, symbol):
        self.symbol = symbol
        target = target_machine()
        module.triple, module.data_layout = binding.get_process_triple(), str(target.target_data)
        parsed = binding.parse_assembly(str(module))
        parsed.verify()
        options = binding.create_pipeline_tuning_options()
        options.speed_level, options.loop_vectorization, options.slp_vectorization = 3, True, False
        options.loop_unrolling = False
        passes = binding.create_pass_builder(target, options)
        passes.getModulePassManager().run(parsed, passes)
        self.code, self._address = target.emit_object(parsed), None

    @property
    def address(self):
        """Where it stands in this process."""
        if self._address is None:
            self._address = linked(self.code, self.symbol)
        return self._address

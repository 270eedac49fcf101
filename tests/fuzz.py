"""Hostile formulas, specs, checkpoints and data: whatever is read is read, or refused by an error of ours, in a second.

    python tests/fuzz.py --inputs 1000000                  some hours; prints what became of the inputs of each kind
    python tests/fuzz.py --what spec --seed 3 --first 1234 --inputs 1       one input again, as a finding names it

Inputs are made by grammars (formulas, keys and values of specs, manifests, headers of arrays), and changed by tokens
and by bytes. A finding is another exception, a warning, `InternalError`, more than a second of the processor until one
is refused (or ten until it is read), or 200 MB more of memory; exits 1 where there is one.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import numpy as np
import sympy as sp

from chainrule.runtime import store
from chainrule.runtime.checkpoint import files_of, trainer_from
from chainrule.runtime.data import Selection, read_dataset
from chainrule.runtime.run import spec_of
from chainrule.runtime.spec import read_spec
from chainrule.runtime.trainer import Trainer
from chainrule.symbolic.errors import ChainruleError, InternalError, SpecError
from chainrule.symbolic.formula import Names, parse_expression, parse_formula, split_equations
from chainrule.symbolic.language import Tensor, index
from chainrule.symbolic.layers import Activation, Dense
from chainrule.symbolic.model import Model
from chainrule.symbolic.optimisers import Momentum
from chainrule.symbolic.schedules import ReduceOnPlateau

EXAMPLES: Final = Path(__file__).resolve().parent.parent / "examples"
SECONDS: Final = 1.0  # of the processor, until an input is refused
READ: Final = 10  # times as long it may take where it is read: a spec may have hundreds of layers
MEMORY: Final = 200_000_000
MOST_FINDINGS: Final = 20

Make = Callable[[random.Random], Any]
Read = Callable[[Any], object]


class TooLongError(BaseException):
    """One input has taken more than a second; nobody on the way may swallow it."""


# --- texts


OPERATORS: Final = ("+", "-", "*", "/", "**", "<", "<=", ">", ">=", "==", "!=", " and ", " or ", " if ", " else ")
NUMBERS: Final = ("0", "1", "2", "3", "0.5", "-1", "1e308", "1e-320", "1000", "1001", "10**18", "99999999999999999999")
STRANGE: Final = (
    "^", "//", "%", "@", "~", "=", ":=", ".", ",", ";", ":", "\\", "'a'", '"', "1j", "None", "True", "lambda z: z",
    "[", "]", "{", "}", "(", ")", "z.real", "z.__class__", "__import__('os')", "f(*z)", "z for z in z", "await z",
    "\x00", "\n", "\x1b[2J", "\u03b1", "\u200b", "#", "...", "n", "x[n,j]", "x[z]", "W[i,j+1]", "x", "E[n]",
)  # fmt: skip
CALLS: Final = (
    "exp", "log", "sqrt", "abs", "tanh", "sin", "asin", "acosh", "erf", "floor", "ceil", "sign", "sigmoid", "softplus",
    "relu", "heaviside", "log1p", "expm1", "min", "max", "clip", "where", "sum", "mean", "argmax", "nothing",
)  # fmt: skip
ATOMS: Final = ("z", "y", "u", "pi", "e", "x[n,j]", "W[i,j]", "i", "j", *NUMBERS)
TOKEN: Final = re.compile(r"\w+|\*\*|[<>=!]=|\s+|.", re.DOTALL)


def formula(rng: random.Random, depth: int = 4) -> str:
    """A formula as the grammar has it, or nearly so."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(ATOMS)
    one = formula(rng, depth - 1)
    match rng.randrange(6):
        case 0 | 1:
            return f"{one}{rng.choice(OPERATORS[:5])}{formula(rng, depth - 1)}"
        case 2:
            return f"({one})"
        case 3:
            index_first = rng.choice(("", "j, ", "i, j, ", "n, "))
            return f"{rng.choice(('sum', 'mean', 'max', 'argmax'))}({index_first}{one})"
        case 4:
            return (
                f"where({one}{rng.choice(OPERATORS[5:11])}{formula(rng, depth - 1)}, {formula(rng, depth - 1)}, {one})"
            )
    more = [formula(rng, depth - 1) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
    return f"{rng.choice(CALLS)}({', '.join((one, *more))})"


def by_tokens(rng: random.Random, text: str) -> str:
    """A text with some of its tokens left out, doubled, exchanged, or repeated many times."""
    parts = TOKEN.findall(text) or ["z"]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, new = rng.randrange(len(parts)), rng.choice((*OPERATORS, *STRANGE, *CALLS, *ATOMS))
        match rng.randrange(7):
            case 0:
                parts[at : at + 1] = []
            case 1:
                parts.insert(at, new)
            case 2:
                parts[at] = new
            case 3:
                other = rng.randrange(len(parts))
                parts[at], parts[other] = parts[other], parts[at]
            case 4:
                parts[at:at] = parts[at : at + rng.randint(1, 6)] * rng.choice((1, 3, 40, 400))
            case 5:
                deep = rng.choice((2, 20, 99, 101, 3000))
                parts[at : at + 1] = [*["("] * deep, parts[at], *[")"] * deep]
            case 6:
                parts[at : at + 1] = ["-"] * rng.choice((2, 30, 300)) + [parts[at]]
        parts = parts or ["z"]
    return "".join(parts)


def by_bytes(rng: random.Random, content: bytes) -> bytes:
    """Some bytes changed, left out, put in, or cut off."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 9))):
        at = rng.randint(0, len(made))
        made[at : at + rng.choice((0, 1, 1, 4, 40))] = rng.randbytes(rng.choice((0, 1, 1, 4, 9)))
    return bytes(made[: rng.randint(0, len(made))] if rng.random() < 0.1 else made)


def make_formula(rng: random.Random) -> str:
    text = formula(rng, rng.randint(1, 5))
    return by_tokens(rng, text) if rng.random() < 0.6 else text


def read_formula(text: str) -> None:
    """As an activation, as a formula in tensors, and as the right side of an equation."""
    z, y = sp.symbols("z y", real=True)
    i, j, n = index("i", 3), index("j", 2), index("n", 4)
    tensors = {t.name: t for t in (Tensor("x", (n, j)), Tensor("W", (i, j)))}
    readers = {name: lambda where, t=t: _element(t, where) for name, t in tensors.items()}
    errors = []
    for read in (
        lambda: parse_formula(text, {"z": z, "y": y, "u": y}, units=True),
        lambda: parse_expression(text, Names({"z": z}, readers, {k.name: k.extent for k in (i, j, n)}), "line 1"),
        lambda: Dense(2, Activation("own", text)),
        lambda: split_equations(f"h[n,i] = {text}", "layer"),
    ):
        try:
            read()
        except ChainruleError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _element(tensor: Tensor, where: tuple[sp.Expr, ...]) -> sp.Expr:
    if len(where) != len(tensor.indices):
        raise SpecError(f"{tensor.name} has {len(tensor.indices)} indices")
    return tensor[where]


# --- specs


VALUES: Final[tuple[Any, ...]] = (
    0, 1, 2, 3, -1, 10**9, 2**63 - 1, 2**63, -(2**63), 0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"), True,
    False, None, "", "tanh", "softmax", "adam", "l2", "cosine", "z", "w", "y", "y - y_hat", "9**9**9", "a" * 300,
    "../../../etc/passwd", "~nobody_/x", "\x1b[2J", "a\nb", "\u202e", "__import__('os').system('true')", [], [[]], {},
    ["z"], [1, 2], [0], ["i", "j"], {"name": "tanh"}, {"formula": "z*a", "parameters": {"a": 1.0}}, {"x": {"x": {}}},
    "h[n,i] = sum(j, V[i,j]*x[n,j])", {"i": 3}, "dense", "equations", "dropout", "lbfgs", "roll_back",
)  # fmt: skip
SEED_SPECS: Final = (
    {
        "model": {"inputs": 3, "loss": "cross_entropy", "penalties": ["l2", {"name": "l1", "on": "all"}]},
        "layer": [
            {"type": "dense", "units": 4, "activation": {"formula": "z*tanh(a*z)", "parameters": {"a": 1.0}}},
            {"type": "dropout", "rate": 0.2},
            {"type": "equations", "equations": "h[n,i] = sum(j, V[i,j]*x[n,j]) + c[i]", "output": "h",
             "indices": {"i": 2}, "parameters": {"V": ["i", "j"], "c": ["i"]}, "initialisers": {"c": "zeros"}},
            {"type": "dense", "units": 3, "activation": "softmax", "initialiser": {"formula": "1/fan_in"}},
        ],
        "training": {
            "optimiser": {"name": "adam", "lr": 0.01}, "schedule": {"name": "cosine", "warm_up": 3}, "epochs": 3,
            "validation": 0.2, "early_stopping": {"patience": 3}, "clip_norm": 1.0, "metrics": ["accuracy"],
            "divergence": {"policy": "roll_back", "factor": 0.5}, "checkpoint": {"epochs": 1, "seconds": False},
        },
        "data": {"file": "d.csv", "inputs": ["a", "b", "0:2"], "targets": "kind", "scale": "standard", "test": 0.1},
    },
    {
        "model": {"inputs": [2, 2], "loss": {"formula": "log(1 + k*(y - y_hat)**2)", "k": 0.5}, "name": "own"},
        "layer": [{"type": "dense", "units": 1}],
        "training": {
            "optimiser": {"name": "mine", "updates": {"m": "b*m + g", "w": "w - lr*m/c"}, "states": {"m": 0.0},
                          "scalars": {"c": 1.0}, "scalar_updates": {"c": "c*0.9 + t"}, "hyperparameters": {"b": 0.5}},
            "schedule": "lr*0.9**epoch", "metrics": ["mean(abs(y - y_hat))"], "threads": 2, "dtype": "float64",
        },
    },
)  # fmt: skip


def specs() -> list[dict[str, Any]]:
    """The tables of the examples, and some that say more."""
    files = sorted(EXAMPLES.rglob("*.toml"))
    return [*map(dict, SEED_SPECS), *(tomllib.loads(path.read_text("utf-8")) for path in files)]


def spots(table: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list in a table, with every key or position of it."""
    for key in list(table if isinstance(table, dict) else range(len(table))):
        yield table, key
        if isinstance(table[key], dict | list):
            yield from spots(table[key])


def by_keys(rng: random.Random, given: dict[str, Any]) -> dict[str, Any]:
    """Tables with some keys left out, renamed or moved, and some values exchanged or changed."""
    made = copy.deepcopy(given)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        there = list(spots(made))
        if not there:
            break
        table, key = rng.choice(there)
        old, new = table[key], copy.deepcopy(rng.choice(VALUES))
        match rng.randrange(7):
            case 0:
                del table[key]
            case 1 if isinstance(table, dict):
                table[rng.choice((by_tokens(rng, str(key)), str(new)[:80], "type", "name", "formula"))] = table.pop(key)
            case 2:
                other, at = rng.choice(there)
                table[key] = (
                    copy.deepcopy(other[at]) if at in (other if isinstance(other, dict) else range(len(other))) else new
                )
            case 3 if isinstance(old, str):
                table[key] = by_tokens(rng, old)
            case 4 if isinstance(old, str):
                table[key] = formula(rng, 3)
            case 5 if isinstance(old, list):
                table[key] = old * rng.choice((2, 30, 600))
            case _:
                table[key] = new
    return made


def toml(value: Any) -> str:
    """A value as TOML has it, tables in a line; None becomes a text."""
    match value:
        case dict():
            return f"{{{', '.join(f'{json.dumps(str(k))} = {toml(v)}' for k, v in value.items())}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case bool() | str():
            return json.dumps(value)
        case None:
            return '"none"'
    return str(value)


class Specs:
    """Specs as files, and `key=value` of the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seeds = folder, specs()

    def make(self, rng: random.Random) -> tuple[str, bytes, list[str]]:
        tables = by_keys(rng, rng.choice(self.seeds)) if rng.random() < 0.9 else rng.choice(self.seeds)
        as_json = rng.random() < 0.5
        text = json.dumps(tables) if as_json else "\n".join(f"{json.dumps(k)} = {toml(v)}" for k, v in tables.items())
        content = text.encode("utf-8", "surrogatepass")
        if rng.random() < 0.2:
            content = by_bytes(rng, content)
        overrides = []
        if rng.random() < 0.2:
            path = rng.choice(
                ("training.epochs", "layer.0.units", "layer.9.units", "model.loss", "training.optimiser.lr")
            )
            overrides = [by_tokens(rng, f"{path}={rng.choice(VALUES)}"[:2000])]
        return ("spec.json" if as_json else "spec.toml"), content, overrides

    def read(self, made: tuple[str, bytes, list[str]]) -> None:
        name, content, overrides = made
        (self.folder / name).write_bytes(content)
        read_spec(self.folder / name, overrides)


# --- checkpoints


class Checkpoints:
    """What a checkpoint holds with the right hashes, and its files on the disk with any."""

    def __init__(self, folder: Path) -> None:
        model = Model(2, [Dense(1)])
        rng = np.random.default_rng(0)
        trainer = Trainer(model, Momentum(), 5, schedule=ReduceOnPlateau(), divergence="roll_back")
        trainer.fit(rng.normal(size=(10, 2)), rng.normal(size=(10, 1)), epochs=2, validation=0.2, verbose=0)
        self.folder = folder / "run"
        self.files = dict(files_of(trainer, self.folder))
        self.whole = store.Saved(self.folder, "me", {}, self.files)
        trainer_from(self.whole)

    def manifest(self) -> bytes:
        return store.manifest_of({name: store.entry_of(content) for name, content in self.files.items()}, "me", {})

    def make(self, rng: random.Random) -> tuple[str, str, bytes]:
        kind, name = rng.choice(("inside", "inside", "inside", "disk")), rng.choice(sorted(self.files))
        if kind == "disk":
            name = rng.choice((name, store.MANIFEST, store.MANIFEST))
        content = self.manifest() if name == store.MANIFEST else self.files[name]
        if name.endswith(".json") and rng.random() < 0.7:
            content = self._by_keys(rng, name, content)
        elif name.endswith(".safetensors") and rng.random() < 0.5:
            content = self._by_header(rng, content)
        else:
            content = by_bytes(rng, content)
        return kind, name, content

    def _by_keys(self, rng: random.Random, name: str, content: bytes) -> bytes:
        made = by_keys(rng, json.loads(content))
        if name == store.MANIFEST and rng.random() < 0.8:
            made.pop("sha256", None)
            return store.signed(made)
        return json.dumps(made).encode()

    def _by_header(self, rng: random.Random, content: bytes) -> bytes:
        """Names, types, shapes and places of the arrays in a file, with the length of the header put right."""
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        made = json.dumps(by_keys(rng, header) if header else {"a": 1}).encode()
        body = content[8 + size :]
        return len(made).to_bytes(8, "little") + made + (by_bytes(rng, body) if rng.random() < 0.3 else body)

    def read(self, made: tuple[str, str, bytes]) -> None:
        kind, name, content = made
        if kind == "disk":
            self._read_disk(name, content)
            return
        saved = store.Saved(self.folder, "me", {}, {**self.files, name: content})
        if name == "spec.json":  # of another model kernels would be compiled
            spec_of(saved)
        else:
            trainer_from(saved)

    def _read_disk(self, name: str, content: bytes) -> None:
        path = self.folder / "checkpoint-000001"
        path.mkdir(parents=True, exist_ok=True)
        everything = {**self.files, store.MANIFEST: self.manifest(), name: content}
        for file, written in everything.items():
            (path / file).write_bytes(written)
        store.latest(self.folder)


# --- data


CSV: Final = "a,b,kind\n1,2,0\n3,4,1\n-1e3, 2.5 ,1\n"
CELLS: Final = (
    "", " ", "nan", "inf", "-inf", "1e400", "0x1", "1_000", "\u0661", "'", '"', '"a', "a,b", ",,", "\n", "\r", "\0",
    "1e5", "9" * 400, "None", "True", "1;2", "\ufeff", "#",
)  # fmt: skip
MODEL: Final = Model(2, [Dense(1)])


def array_file(rng: random.Random) -> bytes:
    """An array with a header that says something else than what there is."""
    header = {"descr": rng.choice(("<f8", ">f4", "|O", "<U9", "|b1", "<i8", "<c16", "|V8", "<M8[s]", [("a", "<f8")])),
              "fortran_order": rng.choice((True, False, 1)),
              "shape": rng.choice(((4, 3), (), (0, 3), (10**12, 3), (-1, 3), "x", (1.5,), (2**62, 2)))}  # fmt: skip
    text = (by_tokens(rng, str(header)) if rng.random() < 0.4 else str(header)).encode("latin-1", "replace")
    return (
        b"\x93NUMPY" + bytes((rng.choice((1, 1, 1, 2, 3, 9)), 0)) + len(text).to_bytes(2, "little") + text + bytes(96)
    )


class Data:
    """Samples in .npy, .npz and .csv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        array, archive = io.BytesIO(), io.BytesIO()
        np.save(array, np.arange(12.0).reshape(4, 3))
        np.savez(archive, x=np.eye(2), y=np.zeros(2))
        self.seeds = {"d.npy": array.getvalue(), "d.npz": archive.getvalue(), "d.csv": CSV.encode()}

    def make(self, rng: random.Random) -> tuple[str, bytes]:
        name = rng.choice(sorted(self.seeds))
        content = self.seeds[name]
        match name:
            case "d.csv" if rng.random() < 0.7:
                parts = re.findall(r"[^,\n]+|[,\n]", CSV)
                for _ in range(rng.choice((1, 1, 2, 5))):
                    parts[rng.randrange(len(parts))] = rng.choice((*CELLS, *STRANGE, *NUMBERS))
                content = "".join(parts).encode("utf-8", "surrogatepass")
            case "d.npy" if rng.random() < 0.5:
                content = array_file(rng)
            case "d.npz" if rng.random() < 0.5:
                content = self._archive(rng)
        return name, by_bytes(rng, content) if rng.random() < 0.5 else content

    def _archive(self, rng: random.Random) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name in rng.sample(
                ("x.npy", "y.npy", "sample_weight.npy", "x", "../x.npy", "a\n.npy"), rng.randint(0, 3)
            ):
                archive.writestr(name, rng.choice((array_file(rng), self.seeds["d.npy"], b"", rng.randbytes(50))))
        return made.getvalue()

    def read(self, made: tuple[str, bytes]) -> None:
        name, content = made
        (self.folder / name).write_bytes(content)
        read_dataset(self.folder / name, Selection() if name == "d.npz" else Selection(targets=(2,)), MODEL)


# --- running


@dataclass(frozen=True)
class Kind:
    make: Make
    read: Read


def kind(what: str, folder: Path) -> Kind:
    """How inputs of a kind are made and read."""
    if what == "formula":
        return Kind(make_formula, read_formula)
    readers = {"spec": Specs, "checkpoint": Checkpoints, "data": Data}[what](folder)
    return Kind(readers.make, readers.read)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooLongError after so many seconds of this process's own time."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def outcome(read: Read, made: Any) -> tuple[str, str]:
    """What becomes of an input: "read", the name of an error of ours, or a finding and where it was made."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = time.process_time()
    try:
        with within(SECONDS * READ):
            read(made)
        result = "read", ""
    except InternalError as error:
        result = "InternalError", str(error)
    except ChainruleError as error:
        text = str(error)
        result = (type(error).__name__, "") if text.isprintable() else ("not one line", text)
        if time.process_time() - before > SECONDS:
            result = "refused late", text
    except TooLongError:
        result = "too long", traceback.format_exc(limit=-8)
    except Exception as error:  # noqa: BLE001  it is what is looked for
        result = type(error).__name__, traceback.format_exc(limit=-8)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    return ("too much memory", f"{grown} bytes") if grown > MEMORY else result


def fuzz(what: str, inputs: int, seed: int = 0, first: int = 0) -> tuple[Counter[str], list[str]]:
    """So many inputs of a kind: how often each outcome was seen, and the findings."""
    seen: Counter[str] = Counter()
    findings: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        chosen = kind(what, Path(name))
        warnings.simplefilter("error")
        for k in range(first, first + inputs):
            made = chosen.make(random.Random(f"{what} {seed} {k}"))
            result, where = outcome(chosen.read, made)
            seen[result] += 1
            if where and len(findings) < MOST_FINDINGS:
                again = f"--what {what} --seed {seed} --first {k} --inputs 1"
                findings.setdefault(f"{result}{where[-300:]}", f"{result}: {again}\n{repr(made)[:1500]}\n{where}")
    return seen, list(findings.values())


def main(inputs: int, what: list[str], seed: int, first: int) -> int:
    """Inputs shared out to the kinds; the number of findings."""
    found = 0
    for name in what:
        seen, findings = fuzz(name, inputs // len(what), seed, first)
        print(f"{name}: {', '.join(f'{count} {result}' for result, count in seen.most_common())}", flush=True)
        for finding in findings:
            print(f"\n{finding}", flush=True)
        found += len(findings)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ("formula", "spec", "checkpoint", "data")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--what", action="append", choices=kinds, help="one kind, or several")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    sys.exit(bool(main(given.inputs, given.what or list(kinds), given.seed, given.first)))

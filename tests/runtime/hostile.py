"""Hostile specs, each read in a process of its own: what is said of it, and what that costs beyond the imports.

Run as a program, with a folder to write specs to: one line of JSON for each spec.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MEGABYTE = 2**20
LARGE = 50 * 10**6
HEAD = '[model]\ninputs = 2\n[[layer]]\ntype = "dense"\nunits = 2\n'

Write = Callable[[], str]


def toml(model: str = "inputs = 2", layer: str = 'type = "dense"\nunits = 2', more: str = "") -> Write:
    return lambda: f"[model]\n{model}\n[[layer]]\n{layer}\n{more}\n"


def dense(line: str) -> Write:
    return toml(layer=f'type = "dense"\nunits = 2\n{line}')


def formula(text: str) -> Write:
    return dense(f"activation = {json.dumps(text)}")


def equations(text: str, output: str = "h", more: str = "") -> Write:
    return toml(layer=f'type = "equations"\noutput = {json.dumps(output)}\nequations = {json.dumps(text)}\n{more}')


def tables(**layer: object) -> Write:
    given = {"model": {"inputs": 2}, "layer": [{"type": "dense", "units": 2, **layer}]}
    return lambda: json.dumps(given)


REFUSED: dict[str, tuple[str, Write]] = {
    "a layer of 10^9 units": (".toml", toml(layer='type = "dense"\nunits = 1000000000')),
    "two layers of 10^8 units": (".toml", toml(more='[[layer]]\ntype = "dense"\nunits = 100000000\n' * 2)),
    "an integer of a million digits": (".toml", lambda: f'{HEAD.replace("units = 2", "units = " + "9" * 10**6)}'),
    "hexadecimal of a million digits": (".toml", lambda: f'{HEAD.replace("units = 2", "units = 0x" + "9" * 10**5)}'),
    "10^9 inputs": (".toml", toml("inputs = 1000000000")),
    "10^5 by 10^5 by 10^5 inputs": (".toml", toml("inputs = [100000, 100000, 100000]")),
    "10^9 tokens": (".toml", toml("inputs = 2\ntokens = 1000000000")),
    "10^5 layers": (".toml", lambda: HEAD + '[[layer]]\ntype = "dense"\nunits = 2\n' * 100_000),
    "600 layers": (".toml", lambda: HEAD + '[[layer]]\ntype = "dense"\nunits = 2\n' * 600),
    "a tower of powers": (".toml", formula("z*9**9**9")),
    "a tower in brackets": (".toml", formula("z + ((9**9)**9)**9**9")),
    "a tower of a symbol": (".toml", formula("z**9**9**9")),
    "powers of powers": (".toml", formula("(((((z+1)**999)**999)**999)**999)")),
    "a tower as extent": (".toml", equations("h[n,i] = sum(k, x[n,i])", more="indices = {k = 99999999999}")),
    "10,000 brackets": (".toml", formula("(" * 10_000 + "z" + ")" * 10_000)),
    "10,000 brackets that are not closed": (".toml", formula("(" * 10_000)),
    "10,000 brackets in an equation": (".toml", equations("h[n,i] = " + "(" * 10_000 + "x[n,i]" + ")" * 10_000)),
    "10,000 signs": (".toml", formula("-" * 10_000 + "z")),
    "10,000 not": (".toml", formula("where(" + "not " * 10_000 + "z > 0, z, 0)")),
    "10,000 calls": (".toml", formula("tanh(" * 10_000 + "z" + ")" * 10_000)),
    "tanh of tanh": (".toml", formula("tanh(z*" * 90 + "z" + ")" * 90)),
    "10,000 terms": (".toml", formula(" + ".join(["z"] * 9_000))),
    "10,000 powers": (".toml", formula("**".join(["z"] * 6_000))),
    "10,000 comparisons": (".toml", formula("where(" + " < ".join(["z"] * 5_000) + ", 1, 0)")),
    "10,000 indices": (".toml", equations("h[n,i] = x[" * 3000 + "0" + "]" * 3000)),
    "many sums": (".toml", equations("h[n,i] = " + "*".join(f"(x[n,i] + {k})" for k in range(300)))),
    "50 MB formula": (".toml", lambda: formula("z" * LARGE)()),
    "50 MB formula, JSON": (".json", lambda: tables(activation="z" * LARGE)()),
    "50 MB name": (".toml", lambda: toml(f'inputs = 2\nname = "{"a" * LARGE}"')()),
    "50 MB name, JSON": (".json", lambda: tables(name="a" * LARGE)()),
    "50 MB key": (".toml", lambda: HEAD + "a" * LARGE + " = 1"),
    "50 MB key, JSON": (".json", lambda: json.dumps({"a" * LARGE: 1})),
    "50 MB of spaces": (".toml", lambda: HEAD + " " * LARGE),
    "50 MB of a comment": (".toml", lambda: HEAD + "#" * LARGE),
    "900 kB name": (".toml", lambda: toml(f'inputs = 2\nname = "{"a" * 900_000}"')()),
    "900 kB formula": (".toml", lambda: formula("z+" * 450_000)()),
    "900 kB formula, JSON": (".json", lambda: tables(activation="(" * 900_000)()),
    "900 kB of equations": (".toml", lambda: equations("h[n,i] = x[n,i]\n" * 60_000)()),
    "99 kB of equations": (".toml", lambda: equations("h[n,i] = x[n,i]\n" * 6_000)()),
    "900 kB of escapes": (".toml", lambda: HEAD + 'name = "' + "\\u0041" * 150_000 + '"'),
    "deep JSON lists": (".json", lambda: "[" * 400_000),
    "deep JSON tables": (".json", lambda: '{"a":' * 150_000 + "1" + "}" * 150_000),
    "deep JSON in a layer": (".json", lambda: '{"layer":' + "[" * 900 + "]" * 900 + "}"),
    "deep TOML lists": (".toml", lambda: "a = " + "[" * 400_000),
    "deep TOML tables": (".toml", lambda: "[" + "a." * 400_000 + "a]"),
    "deep inline TOML tables": (".toml", lambda: "a = " + "{a = " * 100_000),
    "a key with 10,000 parts": (".toml", lambda: ".".join(["a"] * 10_000) + " = 1"),
    "100,000 sections": (".toml", lambda: "".join(f"[a{k}]\n" for k in range(80_000))),
    "100,000 values": (".json", lambda: json.dumps({"model": {"inputs": [1] * 300_000}})),
    "a long identifier": (".toml", formula("z*" + "a" * 5_000)),
    "a look-alike": (".toml", formula("z*ехр(z)")),  # Cyrillic
    "a full-width name": (".toml", formula("ｅｖａｌ(z)")),
    "a bidi override in a formula": (".toml", formula("z\u202e*2")),
    "a bidi override in a name": (".toml", toml('inputs = 2\nname = "a\u202eb"')),
    "a zero width space in a name": (".toml", toml('inputs = 2\nname = "a\u200bb"')),
    "an escape for the terminal": (".json", tables(name="a\x1b[2Jb")),
    "a null": (".json", tables(activation="z\x00")),
    "half a surrogate": (".json", lambda: '{"model": {"inputs": 2, "name": "\\ud800"}}'),
    "an import": (".toml", formula("__import__('os').system('true')")),
    "an attribute": (".toml", formula("z.__class__")),
    "a dunder name": (".toml", formula("z*__class__")),
    "eval": (".toml", formula("eval('z')")),
    "a lambda": (".toml", formula("(lambda: z)()")),
    "a walrus": (".toml", formula("(z := 1)")),
    "a comprehension": (".toml", formula("[z for z in (1, 2)]")),
    "a format string": (".toml", formula("f'{z}'")),
    "two lines": (".toml", formula("z\nimport os")),
    "the end of a docstring": (".toml", formula('z"""\nimport os\n"""')),
    "dunder tensors": (".toml", equations("__class__[n,i] = x[n,i]", "__class__")),
    "a keyword as tensor": (".toml", equations("h[n,i] = x[n,i]*lambda", more="parameters = {lambda = []}")),
    "a path as layer": (".toml", toml(layer='type = "../../x"\nunits = 2')),
    "a module as optimiser": (".toml", toml(more='[training]\noptimiser = "os.system"')),
    "a module as metric": (".toml", toml(more='[training]\nmetrics = ["os.system"]')),
    "a class as activation": (".json", tables(activation={"__class__": "os.system"})),
    "markup as activation's name": (".json", tables(activation={"name": "<script>", "formula": "z"})),
    "LaTeX as activation's name": (".json", tables(activation={"name": "\\input{/etc/passwd}", "formula": "z"})),
    "markup as tensor": (".toml", equations("<script>[n,i] = x[n,i]", "<script>")),
    "LaTeX as tensor": (".toml", equations("\\input[n,i] = x[n,i]", "\\input")),
    "markup as parameter": (".json", tables(activation={"formula": "z", "parameters": {"<script>": 1.0}})),
    "a path as parameter": (".json", tables(activation={"formula": "z", "parameters": {"../../x": 1.0}})),
    "NaN": (".toml", dense("activation = nan")),
    "infinity as size": (".toml", toml("inputs = inf")),
    "a huge rate": (".toml", toml(more="[training]\nepochs = 99999999999999999999999999")),
    "epochs of a million digits": (".json", lambda: '{"training": {"epochs": ' + "9" * 4000 + "}}"),
}  # fmt: skip


def measured(path: Path, read: Callable[[Path], object]) -> dict[str, object]:
    """What reading a spec comes to, in a process of its own: the error, seconds of CPU, megabytes beyond those here."""
    here, there = os.pipe()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        start = time.process_time()
        try:
            read(path)
            said = "accepted"
        except BaseException as error:  # noqa: BLE001  whatever it is, it is told
            said = f"{type(error).__name__}: {error}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / MEGABYTE
        told = {"said": said, "seconds": time.process_time() - start, "megabytes": grown}
        os.write(there, json.dumps(told).encode()[:60_000])
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(told) if told else {"said": f"ended with {status}", "seconds": 20.0, "megabytes": 0.0}


def outcomes(folder: Path, wanted: list[str]) -> Iterator[dict[str, object]]:
    from chainrule.runtime.spec import read_spec

    for name in wanted or REFUSED:
        ending, write = REFUSED[name]
        path = folder / f"spec{ending}"
        child = os.fork()  # what is large is made elsewhere, so that nobody here has ever held it
        if child == 0:
            path.write_bytes(write().encode("utf-8", "surrogatepass"))
            os._exit(0)
        os.waitpid(child, 0)
        yield {"name": name, **measured(path, read_spec)}


if __name__ == "__main__":
    for line in outcomes(Path(sys.argv[1]), sys.argv[2:]):
        print(json.dumps(line), flush=True)

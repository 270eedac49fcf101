"""Hostile specs: refused in under a second and 200 MB, or mangled wherever their names go."""

import json
import keyword
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chainrule as cr
from chainrule.codegen.generate import import_source, model_source
from chainrule.codegen.grammar import BUILTINS, CONSTANTS, LITERALS, check_source
from chainrule.codegen.legal import RESERVED
from chainrule.codegen.request import Request, Update
from chainrule.runtime.load import source_name
from chainrule.runtime.spec import read_spec

from .hostile import REFUSED

SECONDS, MEGABYTES = 1.0, 200.0


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    program = Path(__file__).with_name("hostile.py")
    command = [sys.executable, str(program), str(tmp_path_factory.mktemp("hostile"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    return {told["name"]: told for told in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_once(name: str, outcomes: dict[str, dict[str, Any]]) -> None:
    told = outcomes[name]
    assert told["said"].startswith("SpecError: "), told["said"]
    assert told["said"].isprintable()
    assert len(told["said"]) < 2_200
    assert told["seconds"] < SECONDS
    assert told["megabytes"] < MEGABYTES


TITLES = (
    "<script>alert(1)</script>", "\\input{/etc/passwd}", '"""', "..", "../../x", "/etc/passwd", "__class__", "a\\",
    "ｅｖａｌ", "ехр", "&lt;", "$(id)", "`id`", "%s{0}", "x" * 200,
)  # fmt: skip
EVIL = ("<script", "\\input", "../", "/etc", "ｅｖａｌ", "ехр", "$(", "`id")


def read(folder: Path, given: dict[str, Any]) -> cr.Model:
    path = folder / "net.json"
    path.write_text(json.dumps(given), "utf-8")
    return read_spec(path).model


def source_of(model: cr.Model) -> str:
    request = Request(model.default_variant, Update(cr.SGD(0.1)), "float32")
    return model_source(model, request, import_source("float32"))


@pytest.mark.parametrize("title", TITLES)
def test_the_name_of_a_model_is_mangled(title: str, tmp_path: Path) -> None:
    layers = [{"type": "dense", "units": 1, "activation": "tanh"}]
    model = read(tmp_path, {"model": {"inputs": 1, "name": title}, "layer": layers})
    source = source_of(model)
    check_source(source)
    assert source.isascii()
    assert not any(evil in source for evil in EVIL)
    name = source_name(model.name, source, "")
    assert name.replace("_", "").isalnum()
    assert name.isascii()
    assert len(name) < 64
    derivation = model.derivation()
    assert "<script" not in derivation.html()
    assert "\\input" not in derivation.latex()


WORDS = sorted(
    (RESERVED - set(keyword.kwlist))
    | {
        "prange",
        "os",
        "sys",
        "eval",
        "open",
        "exec",
        "getattr",
        "blocks",
        "i0",
        "data_x",
        "predict_phase_0",
        "update_2",
    }
)
LAYERS = {
    "tensor": {
        "equations": "".join(f"{word}[n,i_] = tanh(x[n,i_])\n" for word in WORDS)
        + f"h[n,i_] = {' + '.join(f'{word}[n,i_]' for word in WORDS)}",
        "incoming": ["i_"],
    },
    "parameter": {
        "equations": f"h[n,i_] = x[n,i_]*({' + '.join(WORDS)})",
        "parameters": {word: [] for word in WORDS},
        "incoming": ["i_"],
    },
    "index": {
        "equations": "".join(f"t{k}[n] = sum({word}, v{k}[{word}]*x[n,{word}])\n" for k, word in enumerate(WORDS[::3]))
        + f"h[n,i_] = x[n,i_] + {' + '.join(f't{k}[n]' for k in range(len(WORDS[::3])))}",
        "indices": dict.fromkeys(WORDS[::3], 1),
        "parameters": {f"v{k}": [word] for k, word in enumerate(WORDS[::3])},
        "incoming": ["i_"],
    },
}


@pytest.mark.parametrize("role", LAYERS)
def test_names_that_mean_something_in_the_source(role: str, tmp_path: Path) -> None:
    """All at once: each stands in the source under another name where it would be mistaken."""
    layer = {"type": "equations", "output": "h", **LAYERS[role]}
    source = source_of(read(tmp_path, {"model": {"inputs": 1}, "layer": [layer, {"type": "dense", "units": 1}]}))
    check_source(source)


def test_no_tensor_has_the_name_of_what_a_module_calls() -> None:
    imported = {word for word in import_source("float32").replace(",", " ").split() if word.isidentifier()}
    known = {*BUILTINS, *CONSTANTS, *LITERALS, *imported, "np", "math", "njit", "OPTIONS", "ceil", "floor", "sqrt"}
    assert known - RESERVED <= {"chainrule"}

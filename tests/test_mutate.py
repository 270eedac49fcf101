"""The planted errors are errors: each is another program that Python can read, and no two are the same."""

import ast

import pytest

from . import mutate


def test_every_mutant_is_another_program() -> None:
    file = "symbolic/derive.py"
    original = (mutate.ROOT / file).read_text("utf-8")
    made = mutate.mutants(file)
    assert len(made) > 50
    texts = {ast.unparse(ast.fix_missing_locations(m.tree)) for m in made}
    assert len(texts) == len(made)
    assert ast.unparse(ast.parse(original)) not in texts
    assert (mutate.ROOT / file).read_text("utf-8") == original


def exchanged(text: str) -> set[str]:
    tree = ast.parse(text)
    return {ast.unparse(ast.fix_missing_locations(mutate.put(tree, *place))) for place in mutate.places(tree)}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x = a + b", {"x = a - b"}),
        ("x = a < 1", {"x = a <= 1", "x = a < 2"}),
        ("x = 1e308", {"x = 5e+307"}),
        ("x = not a", {"x = a"}),
        ("x = a and b", {"x = a or b"}),
        ("x = 'w = w - lr*g'", {"x = 'w = w + lr * g'", "x = 'w = w - lr / g'"}),
        ("x = [a for a in b if c]", {"x = [a for a in b if not c]", "x = [a for a in b]"}),
        ("def f(a: 1): return a", {"def f(a: 1):\n    return None"}),
        ("raise E(f'{a + b}')", {"pass"}),
        ("x = 'a text'", set()),
    ],
)
def test_what_is_exchanged(text: str, wanted: set[str]) -> None:
    assert exchanged(text) == wanted


def test_a_planted_module_is_found_by_its_name() -> None:
    planted = mutate.Planted(mutate.mutants("symbolic/syntax.py")[0])
    assert planted.find_spec("chainrule.symbolic.syntax") is not None
    assert planted.find_spec("chainrule.symbolic.reader") is None
    assert planted.get_code("chainrule.symbolic.syntax").co_filename.endswith("syntax.py")

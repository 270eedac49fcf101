"""From files to parts: formats, columns, labels, splits and scales; what is wrong is said."""

import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.runtime import files
from chainrule.runtime.arrays import as_inputs, as_targets, as_weights, cast
from chainrule.runtime.data import Dataset, Selection, Source, prepare, read_dataset, split
from chainrule.runtime.scaling import Scaler, fit_scaler, scaler_from
from chainrule.symbolic.errors import DataError
from chainrule.symbolic.layers import Dense
from chainrule.symbolic.model import Model

REAL = Model(2, [Dense(1)])
CLASSES = Model(2, [Dense(3, "softmax")], "cross_entropy")
BINARY = Model(2, [Dense(1, "sigmoid")], "binary_cross_entropy")
SIGN = Model(2, [Dense(1)], "hinge")
IMAGES = Model([2, 2], [Dense(1)])
TOKENS = Model(2, [Dense(1)], tokens=5)

CSV = "a,b,c,w\n1,2,3,1\n4,5,6,0.5\n7,8.5,9,2\n"


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def arrays(folder: Path, **named: Any) -> Path:
    np.savez(folder / "data.npz", **named)
    return folder / "data.npz"


# --- reading


def test_npz_has_x_and_y(tmp_path: Path) -> None:
    data = read_dataset(arrays(tmp_path, x=np.eye(2), y=np.array([1, 2])), Selection(), CLASSES)
    assert data.x.tolist() == [[1, 0], [0, 1]]
    assert data.y is not None
    assert data.y.dtype == np.int64
    assert data.y.tolist() == [1, 2]


def test_npz_arrays_stand_side_by_side(tmp_path: Path) -> None:
    path = arrays(tmp_path, u=np.array([1.0, 2.0]), v=np.array([[3.0], [4.0]]), t=np.zeros(2))
    data = read_dataset(path, Selection(("u", "v"), ("t",)), REAL)
    assert data.x.tolist() == [[1, 3], [2, 4]]
    assert data.y is not None
    assert data.y.shape == (2, 1)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_columns_by_name(tmp_path: Path, separator: str) -> None:
    path = file(tmp_path, "d.csv", "\ufeff" + CSV.replace(",", separator))
    data = read_dataset(path, Selection(("a", "b"), ("c",), "w"), REAL)
    assert data.x.tolist() == [[1, 2], [4, 5], [7, 8.5]]
    assert data.y is not None
    assert data.y.tolist() == [[3], [6], [9]]
    assert data.sample_weight is not None
    assert data.sample_weight.tolist() == [1, 0.5, 2]


@pytest.mark.parametrize("inputs", [None, ("0:2",), (0, 1), (":2",), ("a", -3), ("-4:-2",)])
def test_csv_columns_by_place(tmp_path: Path, inputs: Any) -> None:
    data = read_dataset(file(tmp_path, "d.csv", CSV), Selection(inputs, (2,), "w"), REAL)
    assert data.x.tolist() == [[1, 2], [4, 5], [7, 8.5]]


def test_npy_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.arange(12.0).reshape(4, 3))
    data = read_dataset(tmp_path / "d.npy", Selection(targets=(-1,)), REAL)
    assert data.x[1].tolist() == [3, 4]
    assert data.y is not None
    assert data.y[1].tolist() == [5]


def test_predictions_need_no_targets(tmp_path: Path) -> None:
    chosen = Selection(None, ("c",), "w")
    with_targets = read_dataset(file(tmp_path, "d.csv", CSV), chosen, REAL, targets=False)
    only_inputs = read_dataset(file(tmp_path, "e.csv", "a,b\n1,2\n"), chosen, REAL, targets=False)
    assert with_targets.x[0].tolist() == only_inputs.x[0].tolist() == [1, 2]
    assert with_targets.y is None


def test_columns_by_name_may_change_places(tmp_path: Path) -> None:
    data = read_dataset(file(tmp_path, "d.csv", "b,a\n1,2\n"), Selection(("a", "b")), REAL, targets=False)
    assert data.x.tolist() == [[2, 1]]


LABELS = "a,b,kind\n1,2,rose\n3,4, iris\n5,6,tulip\n7,8,iris\n"


def test_labels_become_classes(tmp_path: Path) -> None:
    path = file(tmp_path, "d.csv", LABELS)
    data = read_dataset(path, Selection(targets=("kind",)), CLASSES)
    assert data.classes == ("iris", "rose", "tulip")
    assert data.y is not None
    assert data.y.tolist() == [1, 0, 2, 0]
    again = read_dataset(
        file(tmp_path, "e.csv", "a,b,kind\n1,2,tulip\n"), Selection(targets=("kind",)), CLASSES, data.classes
    )
    assert again.y is not None
    assert again.y.tolist() == [2]


@pytest.mark.parametrize(("model", "expected"), [(BINARY, [[1], [0]]), (SIGN, [[1], [-1]])])
def test_two_labels_for_one_output(tmp_path: Path, model: Model, expected: Any) -> None:
    data = read_dataset(file(tmp_path, "d.csv", "a,b,t\n1,2,yes\n3,4,no\n"), Selection(targets=("t",)), model)
    assert data.classes == ("no", "yes")
    assert data.y is not None
    assert data.y.tolist() == expected


def test_labels_in_an_npz_file(tmp_path: Path) -> None:
    data = read_dataset(arrays(tmp_path, x=np.eye(2), y=np.array(["b", "a"])), Selection(), CLASSES)
    assert data.classes == ("a", "b")


def npy(shape: str, content: bytes, kind: str = "'<f8'") -> bytes:
    """A file of NumPy's format whose header says what it likes."""
    head = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


def zipped(folder: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(folder / "data.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return folder / "data.npz"


def cut(path: Path, end: int) -> Path:
    """The file without its end, or without its beginning."""
    content = path.read_bytes()
    path.write_bytes(content[:-end] if end > 0 else content[-end:])
    return path


def npz_of_objects(folder: Path) -> Path:
    return arrays(folder, x=np.array([[1, {}]], dtype=object), y=np.zeros(1))


T = Selection(targets=("c",))
# (how the file is made, what is chosen, the model, what the message must hold)
WRONG_FILES: list[tuple[Any, Selection, Model, list[str]]] = [
    (lambda f: f / "data.npz", T, REAL, ["data.npz does not exist"]),
    (lambda f: file(f, "digits.npz", "") and f / "digist.npz", T, REAL, ["Did you mean", "digits.npz"]),
    (lambda f: f / "no" / "data.npz", T, REAL, ["neither does the folder"]),
    (lambda f: f / "data.xlsx", T, REAL, ["'.xlsx' is not known", "Known: .csv, .npy, .npz"]),
    (lambda f: (f / "d.csv").mkdir() or f / "d.csv", T, REAL, ["is not a file"]),
    (lambda f: file(f, "d.csv", ""), T, REAL, ["d.csv: the file is empty (0 bytes)"]),
    (lambda f: file(f, "d.npy", ""), T, REAL, ["d.npy: the file is empty (0 bytes)"]),
    (lambda f: file(f, "d.npz", ""), T, REAL, ["d.npz: the file is empty (0 bytes)"]),
    (lambda f: file(f, "d.csv", 'a,"b\nb",c\n1,2,3\n'), T, REAL, ["the column 'b\\nb' has a name with control"]),
    (lambda f: file(f, "d.csv", "\n\n"), T, REAL, ["d.csv: the file is empty; give a first row"]),
    (lambda f: file(f, "d.csv", bytes(99)), T, REAL, ["there are no samples"]),
    (lambda f: file(f, "d.csv", 'a,b,c\n1,"2,3\n4,5,6\n'), T, REAL, ["line 3 has 2 values"]),
    (lambda f: file(f, "d.csv", 'a,b,c\n1,"' + "2" * 200_000), T, REAL, ["line 2: field larger than field limit"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,3\n1_0,2,3\n"), T, REAL, ["line 3, column 'a': '1_0'", "finite number"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,3\n1,1e999,3\n"), T, REAL, ["line 3, column 'b': '1e999'"]),
    (lambda f: file(f, "d.csv", LABELS + "1,2,\n"), Selection(None, ("kind",)), CLASSES,
     ["line 6, column 'kind': the label is empty; fill it in"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,0\n1,2,7\n"), T, CLASSES, ["column 'c'[1] is 7", "from 0 to 2"]),
    (lambda f: file(f, "d.csv", "a,b,c\n"), T, REAL, ["there are no samples"]),
    (lambda f: file(f, "d.csv", "1,2,3\n4,5,6\n"), T, REAL, ["the first row holds numbers"]),
    (lambda f: file(f, "d.csv", "a,b,b\n1,2,3\n"), T, REAL, ["the column 'b' is there 2 times"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,3\n4,5\n"), T, REAL, ["line 3 has 2 values", "3 columns"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,3\n\n4,,6\n"), T, REAL, ["line 4, column 'b': ''", "fill it in"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,3\n4,x,6\n"), T, REAL, ["line 3, column 'b': 'x'", "finite"]),
    (lambda f: file(f, "d.csv", "a,b,c\n1,2,3\n4,5,nan\n"), T, REAL, ["line 3, column 'c': 'nan'"]),
    (lambda f: file(f, "d.csv", b"a,b,c\n\xff\xfe,2,3\n"), T, REAL, ["cannot be read as .csv", "utf-8"]),
    (lambda f: file(f, "d.csv", CSV), Selection(), REAL, ["which of a, b, c, w", "targets = ..."]),
    (lambda f: file(f, "d.csv", CSV), Selection(("a", "bb"), ("c",)), REAL, ["'bb'", "mean 'b'?"]),
    (lambda f: file(f, "d.csv", CSV), Selection(("7:9",), ("c",)), REAL, ["7:9", "no column at all"]),
    (lambda f: file(f, "d.csv", CSV), Selection((9,), ("c",)), REAL, ["column 9", "from 0 to 3"]),
    (lambda f: file(f, "d.csv", CSV), Selection(None, ("c",)), REAL, ["shape (3, 3)", "(samples, 2)"]),
    (lambda f: file(f, "d.csv", CSV), Selection(None, ("0:4",)), REAL, ["no column is left"]),
    (lambda f: file(f, "d.csv", CSV), Selection(("a", "b"), ("c",), "v"), REAL, ["sample_weight", "'v'"]),
    (lambda f: file(f, "d.csv", CSV.replace(",0.5", ",-1")), Selection(None, ("c",), "w"), REAL,
     ["[1] is -1"]),
    (lambda f: file(f, "d.csv", LABELS), Selection(None, ("kind",)), REAL, ["'rose'", "finite number"]),
    (lambda f: file(f, "d.csv", LABELS.replace("7,8,iris", "7,8,lily")), Selection(None, ("kind",)), CLASSES,
     ["4 labels (iris, lily, rose, tulip)", "tells 3 apart"]),
    (lambda f: file(f, "d.npz", b"PK\x03\x04 no more"), Selection(), REAL, ["cannot be read as .npz"]),
    (lambda f: file(f, "d.npy", b"\x00\x01"), T, REAL, ["cannot be read as .npy"]),
    (lambda f: file(f, "d.npy", b"\x80\x04\x95" + bytes(40)), T, REAL, ["does not begin as an array of NumPy does"]),
    (lambda f: file(f, "d.npy", npy("(5, 3)", bytes(8 * 14))), T, REAL, ["holds 112 bytes", "takes 120; it is"]),
    (lambda f: file(f, "d.npy", npy("(1000000000000, 3)", bytes(24))), T, REAL, ["takes 24000000000000; it is not"]),
    (lambda f: file(f, "d.npy", npy("(-1, 3)", bytes(24))), T, REAL, ["it is not whole"]),
    (lambda f: file(f, "d.npy", npy("(True, 3)", bytes(24))), T, REAL, ["it is not whole"]),
    (lambda f: file(f, "d.npy", npy("(" * 5000, b"")), T, REAL, ["cannot be read as .npy"]),
    (lambda f: file(f, "d.npy", npy("(1, 3)", bytes(24), "'|O'")), T, REAL, ["holds Python objects", "allow_pickle"]),
    (lambda f: file(f, "d.npy", b"\x93NUMPY\x09\x00" + bytes(40)), T, REAL, ["is of version 9.0 of the format"]),
    (lambda f: file(f, "d.npy", arrays(f, x=np.eye(2)).read_bytes()), T, REAL, ["several arrays; rename it to .npz"]),
    (lambda f: file(f, "d.npz", npy("(1, 3)", bytes(24))), T, REAL, ["one array without a name; rename it to .npy"]),
    (lambda f: zipped(f, x=b"hello", y=npy("(1,)", bytes(8))), Selection(), REAL, ["x.npy does not begin as an array"]),
    (lambda f: zipped(f, x=npy("(999999999, 2)", bytes(16)), y=b""), Selection(), REAL, ["x.npy holds 16 bytes"]),
    (lambda f: cut(arrays(f, x=np.eye(2), y=np.zeros(2)), 30), Selection(), REAL, ["cannot be read as .npz"]),
    (lambda f: cut(arrays(f, x=np.eye(2), y=np.zeros(2)), -200), Selection(), REAL, ["cannot be read as .npz"]),
    (npz_of_objects, Selection(), REAL, ["cannot be read as .npz", "holds Python objects", "allow_pickle=False"]),
    (lambda f: arrays(f, x=np.eye(2), y=np.float64(3)), Selection(), REAL, ["y is a single number"]),
    (lambda f: arrays(f, x=np.eye(2), y=np.zeros(2, "M8[D]")), Selection(), REAL, ["y is of the type datetime64"]),
    (lambda f: arrays(f, x=np.eye(2, dtype="c16"), y=np.zeros(2)), Selection(), REAL, ["x is of the type complex128"]),
    (lambda f: arrays(f, x=np.array([[1, 2], [3, np.nan]]), y=np.zeros(2)), Selection(), REAL, ["x[1, 1] is nan"]),
    (lambda f: arrays(f, x=np.eye(2) * np.longdouble("1e999"), y=np.zeros(2)), Selection(), REAL, ["x[0, 0] is inf"]),
    (lambda f: arrays(f, X=np.eye(2), y=np.zeros(2)), Selection(), REAL, ["no array 'x'", "Known: X, y"]),
    (lambda f: arrays(f, x=np.eye(2)), Selection(), REAL, ["targets", "no array 'y'"]),
    (lambda f: arrays(f, x=np.eye(2), y=np.zeros(3)), Selection(), REAL, ["2 samples", "3 of targets"]),
    (lambda f: arrays(f, x=np.zeros((0, 2)), y=np.zeros(0)), Selection(), REAL, ["there are no samples"]),
    (lambda f: arrays(f, x=np.eye(2), y=[0, 3]), Selection(), CLASSES, ["y[1] is 3", "from 0 to 2"]),
    (lambda f: arrays(f, x=np.array([["a", "b"]]), y=np.zeros(1)), Selection(), REAL, ["x is text"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "selection", "model", "parts"), WRONG_FILES)
def test_wrong_files(tmp_path: Path, make: Any, selection: Selection, model: Model, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(make(tmp_path), selection, model)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path))
    for part in parts:
        assert part in message


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rows that are left would be taken for all that there is."""
    whole = file(tmp_path, "d.csv", "a,b,c\n" + "1,2,3\n" * 5000)
    reader = files.FORMATS[".csv"]

    def shrinking(opened: Any, place: str) -> Any:
        os.truncate(whole, 6 + 6 * 1000)
        return reader(opened, place)

    monkeypatch.setattr(files, "FORMATS", {**files.FORMATS, ".csv": shrinking})
    with pytest.raises(DataError, match=r"d\.csv: the file was changed while it was read"):
        read_dataset(whole, T, REAL)
    monkeypatch.undo()
    assert len(read_dataset(whole, T, REAL)) == 1000


def test_a_file_that_grows_or_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = arrays(tmp_path, x=np.eye(2), y=np.zeros(2))
    reader = files.FORMATS[".npz"]

    def changed(opened: Any, place: str) -> Any:
        table = reader(opened, place)
        os.utime(path, ns=(1, 1))
        return table

    monkeypatch.setattr(files, "FORMATS", {**files.FORMATS, ".npz": changed})
    with pytest.raises(DataError, match="was changed while it was read"):
        read_dataset(path, Selection(), REAL)


def test_more_than_the_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb: a few kB that unpack to 8 MB, where there are 4."""
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy("(500000, 2)", bytes(8_000_000)))
    assert (tmp_path / "d.npz").stat().st_size < 20_000
    monkeypatch.setattr(files, "available_memory", lambda: 4_000_000)
    with pytest.raises(
        DataError, match=r"d.npz: takes 0\.008 GB of memory, and 0\.004 GB are free; give fewer samples"
    ):
        read_dataset(tmp_path / "d.npz", Selection(), REAL)
    big = file(tmp_path, "d.csv", "a,b,c\n" + "1,2,3\n" * 100_000)
    with pytest.raises(DataError, match=r"save it as numbers, in an \.npz file"):
        read_dataset(big, T, REAL)


def test_the_memory_that_is_there() -> None:
    there = files.available_memory()
    assert there is None or 1e8 < there < 1e14


def test_many_columns_take_no_time(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(30_000)]
    path = file(tmp_path, "d.csv", ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    assert len(files.read_table(path).values) == 30_000


@settings(max_examples=150)
@given(st.sampled_from(["d.npz", "d.npy", "d.csv"]), st.data())
def test_nothing_but_our_own_errors(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """Whatever a file holds, it is samples or a DataError of one line."""
    folder = tmp_path_factory.mktemp("fuzz")
    np.save(folder / "d.npy", np.arange(12.0).reshape(4, 3))
    np.savez(folder / "d.npz", x=np.eye(2), y=np.zeros(2))
    file(folder, "d.csv", CSV)
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=9))
    (folder / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read_dataset(folder / name, Selection() if name == "d.npz" else Selection(targets=(2,)), REAL)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017  it need not be raised


def test_an_unknown_label_later(tmp_path: Path) -> None:
    path = file(tmp_path, "d.csv", LABELS)
    with pytest.raises(DataError, match=r"the label 'tulip' of sample 2 is not known. Known: iris, rose"):
        read_dataset(path, Selection(targets=("kind",)), CLASSES, ("iris", "rose"))


# --- checking


def test_shapes_that_fit_are_taken() -> None:
    assert as_inputs(Model(1, [Dense(1)]), [1.0, 2.0]).shape == (2, 1)
    assert as_inputs(IMAGES, np.zeros((3, 4))).shape == (3, 2, 2)
    assert as_inputs(Model(4, [Dense(1)]), np.zeros((3, 2, 2), np.float32)).dtype == np.float32
    assert as_inputs(TOKENS, [[0.0, 4.0]]).dtype == np.int64
    assert as_targets(REAL, [1, 2]).shape == (2, 1)
    assert as_targets(CLASSES, np.array([[0], [2]])).tolist() == [0, 2]
    assert as_targets(CLASSES, np.array([0.0, 2.0])).dtype == np.int64
    assert as_targets(CLASSES, np.eye(3)).shape == (3, 3)
    assert as_targets(BINARY, np.array([True, False])).tolist() == [[1.0], [0.0]]


WRONG_INPUTS: list[tuple[Model, Any, str]] = [
    (REAL, np.zeros((3, 3)), r"x has the shape \(3, 3\); the model takes \(samples, 2\)"),
    (REAL, np.zeros(3), r"shape \(3,\)"),
    (REAL, 3.0, "single number"),
    (REAL, [[1.0], [1.0, 2.0]], "different lengths"),
    (REAL, [["1", "2"]], "x is text; give numbers"),
    (REAL, [[1j, 2]], "complex128"),
    (REAL, np.array([[None, 1]]), "object"),
    (REAL, np.zeros((0, 2)), "no samples"),
    (REAL, [[0, 1], [2, np.nan]], r"x\[1, 1\] is nan; every value must be finite"),
    (REAL, [[0, 1], [np.inf, np.nan]], r"x\[1, 0\] is inf"),
    (TOKENS, [[0, 5]], r"x\[0, 1\] is 5; a token is a whole number from 0 to 4"),
    (TOKENS, [[0, 0.5]], r"x\[0, 1\] is 0.5"),
]
WRONG_TARGETS: list[tuple[Model, Any, str]] = [
    (
        REAL,
        np.zeros((3, 2)),
        r"y has the shape \(3, 2\); the loss 'squared_error' takes \(samples, 1\)$",
    ),
    (CLASSES, np.zeros((3, 2)), r"takes \(samples, 3\) or \(samples,\) with integer classes"),
    (CLASSES, [0, -1], r"y\[1\] is -1; a class is a whole number from 0 to 2"),
    (CLASSES, [0, 0.5], r"y\[1\] is 0.5; a class"),
    (CLASSES, [[0.5, 0.6, 1.5]], r"y\[0, 2\] is 1.5; the loss 'cross_entropy' takes numbers from 0 to 1"),
    (BINARY, [0, 1, 2], r"y\[2, 0\] is 2.0; the loss 'binary_cross_entropy' takes numbers from 0 to 1"),
    (SIGN, [-1, 0], r"y\[1, 0\] is 0.0; the loss 'hinge' takes -1 or 1"),
    (Model(2, [Dense(1, "exp")], "poisson"), [3, -1], "takes numbers of at least 0"),
    (REAL, [np.nan], r"y\[0, 0\] is nan"),
]


@pytest.mark.parametrize(("model", "x", "message"), WRONG_INPUTS)
def test_wrong_inputs(model: Model, x: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_inputs(model, x)


@pytest.mark.parametrize(("model", "y", "message"), WRONG_TARGETS)
def test_wrong_targets(model: Model, y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_targets(model, y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0], r"shape \(1,\)"),
        ([1, -1], r"sample_weight\[1\] is -1"),
        ([0, 0], "all weights are 0"),
        ([1, np.nan], r"sample_weight\[1\] is nan"),
        ([1e308, 1e308], "the weights are too large to be summed"),
    ],
)
def test_wrong_weights(weight: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_weights(weight, 2)


def test_masked_values_are_not_numbers() -> None:
    masked = np.ma.masked_greater([[1.0, 2.0], [3.0, 9e9]], 1e9)
    with pytest.raises(DataError, match=r"x\[1, 1\] is 9000000000.0; but it is masked"):
        as_inputs(REAL, masked)
    assert as_inputs(REAL, masked[:1]).tolist() == [[1, 2]]


def test_arrays_lie_as_kernels_load_them() -> None:
    odd = np.frombuffer(bytes(1 + 48), np.uint8)[1:].view("f8").reshape(3, 2)
    assert not odd.flags.aligned
    for array in (odd, np.zeros((2, 3)).T, np.zeros((3, 2), ">f8"), np.zeros((3, 4))[:, ::2]):
        made = cast(array, "float64", "x")
        assert made.flags.c_contiguous
        assert made.flags.aligned
        assert made.dtype == np.dtype("float64")
        assert made.dtype.isnative


def test_numbers_too_large_to_be_scaled(tmp_path: Path) -> None:
    path = arrays(tmp_path, x=np.array([[1e308, 0], [-1e308, 1]]), y=np.zeros(2))
    for kind in ("standard", "minmax"):
        with pytest.raises(DataError, match=rf"scale = '{kind}': the numbers are too large to be scaled"):
            prepare(Source(path, scale=kind), REAL)
    with pytest.raises(DataError, match=r"x as float32\[0, 0\] is inf"):
        prepare(Source(path), REAL)


def test_a_number_too_large_for_float32() -> None:
    with pytest.raises(DataError, match=r"x as float32\[0, 1\] is inf"):
        cast(np.array([[1.0, 1e300]]), "float32", "x")


# --- splitting and scaling


@given(st.integers(2, 60), st.floats(0.01, 0.9), st.integers(0, 5))
def test_a_split_loses_nothing(samples: int, fraction: float, seed: int) -> None:
    data = Dataset(np.arange(samples)[:, None], np.arange(samples), np.arange(samples))
    if round(fraction * samples) >= samples:
        return
    rest, part = split(data, fraction, np.random.default_rng(seed), "test")
    again = split(data, fraction, np.random.default_rng(seed), "test")
    assert sorted([*rest.x[:, 0], *part.x[:, 0]]) == list(range(samples))
    assert len(part) == max(1, round(fraction * samples))
    assert (part.x == again[1].x).all()
    assert part.y is not None
    assert (part.x[:, 0] == part.y).all()


def test_a_split_leaves_something() -> None:
    with pytest.raises(DataError, match=r"test = 0.9: of 1 samples none is left"):
        split(Dataset(np.zeros((1, 1))), 0.9, np.random.default_rng(0), "test")


values = hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(1, 4)), elements=st.floats(-1e6, 1e6))


@given(values, st.sampled_from(["none", "standard", "minmax"]))
def test_a_scale_can_be_undone(x: np.ndarray, kind: str) -> None:
    scaler = fit_scaler(kind, x)
    made = scaler.apply(x)
    assert np.isfinite(made).all()
    assert np.allclose(scaler.undo(made), x, rtol=1e-9, atol=1e-6)
    again = scaler_from(scaler.state())
    assert (again.apply(x) == made).all()


def test_scales() -> None:
    x = np.array([[1.0, 5.0, 0.1], [3.0, 5.0, 0.1], [5.0, 5.0, 0.1]])
    standard, minmax = fit_scaler("standard", x).apply(x), fit_scaler("minmax", x).apply(x)
    assert np.allclose(standard.mean(axis=0), 0)
    assert np.allclose(standard.std(axis=0), [1, 0, 0])
    assert minmax[:, 0].tolist() == [0, 0.5, 1]
    assert np.allclose(minmax[:, 1:], 0)
    assert (Scaler().apply(x) == x).all()


def test_parts_are_scaled_by_the_training_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = arrays(tmp_path, x=rng.normal(5, 3, (50, 2)), y=rng.normal(size=50))
    source = Source(path, scale="standard", scale_targets="minmax", test=0.2)
    parts = prepare(source, REAL, validation=0.25, seed=3)
    assert parts.validation is not None
    assert parts.test is not None
    assert [len(p) for p in (parts.training, parts.validation, parts.test)] == [30, 10, 10]
    assert parts.training.x.dtype == np.float32
    assert np.allclose(parts.training.x.mean(axis=0), 0, atol=1e-6)
    assert abs(parts.test.x.mean()) > 1e-3
    assert parts.training.y is not None
    assert (parts.training.y.min(), parts.training.y.max()) == (0, 1)
    again = prepare(source, REAL, 0.25, 3, fitted=parts.fitted)
    assert (again.training.x == parts.training.x).all()
    other = prepare(source, REAL, 0.25, 4)
    assert (other.training.x != parts.training.x).any()


def test_parts_in_files_of_their_own(tmp_path: Path) -> None:
    train = file(tmp_path, "train.csv", LABELS)
    test = file(tmp_path, "test.csv", "kind,a,b\ntulip,1,2\n")
    source = Source(train, Selection(("a", "b"), ("kind",)), test=test)
    parts = prepare(source, CLASSES, validation=test)
    assert parts.fitted.classes == ("iris", "rose", "tulip")
    for part in (parts.validation, parts.test):
        assert part is not None
        assert part.y is not None
        assert part.y.tolist() == [2]


def test_classes_cannot_be_scaled(tmp_path: Path) -> None:
    path = arrays(tmp_path, x=np.eye(2), y=np.array([1, 2]))
    with pytest.raises(DataError, match="scale_targets = 'minmax' needs real numbers"):
        prepare(Source(path, scale_targets="minmax"), CLASSES)

import pytest

import chainrule as cr


def history() -> cr.History:
    return cr.History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_loss": 0.75}])


def test_columns() -> None:
    assert history()["loss"] == [0.5, 0.25]
    assert history()["val_loss"] == [None, 0.75]  # as long as the others: the epochs before had no validation part
    assert "val_loss" in history()
    assert "accuracy" not in history()


def test_rows() -> None:
    assert len(history()) == 2
    assert [row["epoch"] for row in history()] == [1, 2]
    assert not cr.History()


def test_an_unknown_column_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="'los' was not recorded; there are: epoch, loss, val_loss"):
        history()["los"]

"""The display of a training, in a pipe and in a terminal."""

import io

import pytest

from chainrule.runtime.progress import Progress, duration, shown, stride


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, epochs: int, verbose: int = 1, until: int | None = None) -> str:
    with Progress(epochs, verbose, stream, clock=iter(range(1000)).__next__) as progress:
        for number in range(1, (until or epochs) + 1):
            progress.epoch({"epoch": number, "loss": 1 / number, "val_loss": 0.5, "seconds": 1.0})
    return stream.getvalue()


def test_a_pipe_gets_a_line_for_an_epoch() -> None:
    lines = run(io.StringIO(), 3).splitlines()
    assert lines == [
        "epoch 1/3  loss 1  val_loss 0.5  1.00 s/epoch, 2.00 s left",
        "epoch 2/3  loss 0.5  val_loss 0.5  1.00 s/epoch, 1.00 s left",
        "epoch 3/3  loss 0.3333  val_loss 0.5  1.00 s/epoch",
    ]


def test_a_pipe_gets_few_lines_for_many_epochs() -> None:
    lines = run(io.StringIO(), 1000).splitlines()
    assert len(lines) == 21
    assert [line.split()[1] for line in lines[:3]] == ["1/1000", "50/1000", "100/1000"]
    assert "\r" not in "".join(lines)


def test_epochs_that_are_over_at_once_took_as_long_each() -> None:
    stream = io.StringIO()
    with Progress(8, 1, stream, clock=iter([0.0, 1.0, 9.0, 9.0, 9.0, 9.0, 10.0, 11.0, 12.0]).__next__) as progress:
        for count in (1, 4, 1, 1, 1):
            progress.epochs_are_over(count)
            for _ in range(count):
                progress.epoch({"loss": 1.0})
    times = [line.split("  ")[2] for line in stream.getvalue().splitlines()]
    first = ["1.00 s/epoch, 7.00 s left"]
    together = [f"2.00 s/epoch, {left} s left" for left in ("12", "10", "8.00", "6.00")]
    assert times == [*first, *together, "1.00 s/epoch, 2.00 s left", "1.00 s/epoch, 1.00 s left", "1.00 s/epoch"]


def test_a_terminal_gets_one_moving_line() -> None:
    text = run(Terminal(), 3)
    assert "3/3" in text
    assert "loss 0.3333" in text
    assert text.count("\n") == 1


def test_the_line_of_a_terminal_is_closed_when_the_training_breaks_off() -> None:
    stream = Terminal()

    def train() -> None:
        with Progress(3, 1, stream) as progress:
            progress.epoch({"loss": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet(stream: io.StringIO) -> None:
    assert run(stream, 3, verbose=0) == ""


def test_a_closed_stream_is_no_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    Progress(1, 1, stream)


@pytest.mark.parametrize("epochs", [1, 7, 20, 21, 99, 100, 101, 5000, 12345])
def test_about_twenty_lines(epochs: int) -> None:
    assert epochs / stride(epochs) <= 20


def test_numbers() -> None:
    assert shown({"loss": float("nan"), "lr": 1e-5}) == "loss nan  lr 1e-05"
    assert duration(59.6) == "1 min 00 s"

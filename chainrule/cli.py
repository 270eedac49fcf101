"""The `chainrule` command: its words. What they do is in `commands.py`, which is imported when one runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, Final

import click

WRONG: Final = 2  # the exit code for a wrong spec or wrong data
FAILED: Final = 1  # a formula that does not hold
INTERRUPTED: Final = 130

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Commands(click.Group):
    """The group of commands; an error of ours is one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            say("; ".join(["interrupted", *map(str, interruption.args)]))
            raise click.exceptions.Exit(INTERRUPTED) from None
        except SystemExit as end:
            message = getattr(end, "message", "")  # of SIGTERM, while a model trained
            if message:
                say(f"terminated; {message}")
            raise
        except BrokenPipeError:
            raise  # click ends quietly
        except _ours() as error:
            say(f"error: {_described(error)}")
            raise click.exceptions.Exit(WRONG) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which one uses them


def say(line: str) -> None:
    """A line on stderr."""
    click.echo(line, err=True)


def _ours() -> tuple[type[Exception], ...]:
    from .symbolic.errors import ChainruleError

    return (ChainruleError, OSError)


def _described(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return "; ".join([f"{where}{error.strerror or error}", *getattr(error, "__notes__", ())])
    return f"{type(error).__name__}: {error}"


def vet(spec: Path, overrides: tuple[str, ...]) -> None:
    """Refuse a spec that is larger than any may be before what takes long to import is imported."""
    from .runtime.spec_file import read_tables

    read_tables(spec, overrides)


def path_argument(name: str) -> Decorator:
    return click.argument(name.lower(), metavar=name, type=click.Path(path_type=Path))


OVERRIDES: Final = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override the spec: training.epochs=5, layer.0.units=64.",
)
OUTPUT: Final = click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write to a file.")
QUIET: Final = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


def with_options(*options: Decorator) -> Decorator:
    """Several options at once, in this order."""
    return lambda function: reduce(lambda made, option: option(made), reversed(options), function)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chainrule")
def main() -> None:
    """Write the equation, read its gradient, run it fast.

    SPEC is a .toml or .json file that describes a model, its training and its data; RUN is a directory that
    `chainrule train` has written.
    """


@main.command()
@with_options(path_argument("SPEC"), OVERRIDES)
def check(spec: Path, overrides: tuple[str, ...]) -> None:
    """Prove every derived equation of SPEC, and hold its kernels against 50 digits.

    Exits with 0 where all hold, with 1 where a formula does not, which is named with the point.
    """
    vet(spec, overrides)
    from . import commands

    if not commands.check(spec, overrides):
        raise click.exceptions.Exit(FAILED)


@main.command()
@with_options(path_argument("SPEC"), OVERRIDES, OUTPUT)
@click.option("--format", "form", type=click.Choice(["text", "latex", "html"]), default="text", show_default=True)
def formulas(spec: Path, overrides: tuple[str, ...], output: Path | None, form: str) -> None:
    """Print the model of SPEC and its derived gradients."""
    vet(spec, overrides)
    from . import commands

    commands.formulas(spec, overrides, form, output)


@main.command()
@with_options(path_argument("SPEC"), OVERRIDES, OUTPUT)
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Instead of that of the spec.")
def generate(spec: Path, overrides: tuple[str, ...], output: Path | None, dtype: str | None) -> None:
    """Write the kernels of SPEC as Python that needs NumPy and Numba only."""
    vet(spec, overrides)
    from . import commands

    commands.generate(spec, overrides, dtype, output)


@main.command()
@with_options(path_argument("SPEC"), OVERRIDES, QUIET)
@click.option("-o", "--output", "run", metavar="RUN", type=click.Path(path_type=Path),
              help="The directory for the run; by default runs/ and the name of SPEC.")  # fmt: skip
@click.option("--again", is_flag=True, help="If RUN holds a run, put it aside, in RUN/earlier-1, and train anew.")
def train(spec: Path, overrides: tuple[str, ...], run: Path | None, again: bool, quiet: bool) -> None:
    """Train the model of SPEC on its data, and save the run."""
    vet(spec, overrides)
    from . import commands

    commands.train(spec, overrides, run, again, quiet)


@main.command()
@with_options(path_argument("RUN"), OVERRIDES, QUIET)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help="How many more; by default those that are still to do.",
)
def resume(run: Path, overrides: tuple[str, ...], epochs: int | None, quiet: bool) -> None:
    """Go on with the training of RUN."""
    from . import commands

    commands.resume(run, overrides, epochs, quiet)


@main.command()
@with_options(path_argument("RUN"), path_argument("DATA"), OVERRIDES)
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
              help="A .csv, .npy or .npz file; by default csv on stdout.")  # fmt: skip
def predict(run: Path, data: Path, overrides: tuple[str, ...], output: Path | None) -> None:
    """Predict with RUN for every sample of DATA."""
    from . import commands

    commands.predict(run, data, overrides, output)


@main.command()
@with_options(path_argument("RUN"), OVERRIDES)
@click.argument("data", metavar="[DATA]", required=False, type=click.Path(path_type=Path))
def evaluate(run: Path, data: Path | None, overrides: tuple[str, ...]) -> None:
    """Measure RUN on DATA, or on the parts of its own data that were kept aside."""
    from . import commands

    commands.evaluate(run, data, overrides)


@main.command()
@click.argument("spec", metavar="[SPEC]", required=False, type=click.Path(path_type=Path))
@with_options(OVERRIDES)
@click.option("--workload", "workloads", metavar="NAME", multiple=True, help="Only this one; may be repeated.")
@click.option("--peer", "peers", metavar="NAME", multiple=True, help="Only this one, or none; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="The other models and shapes, too.")
@click.option("--scaling", is_flag=True, help="How cost grows with width, batch, depth and samples.")
@click.option("--quick", is_flag=True, help="Fewer rounds, and no search for the best way to write a peer.")
@click.option("--seconds", type=click.FloatRange(min=0.01),
              help="For each measurement; by default 2 for SPEC, 0.5 for a workload.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", type=click.Path(path_type=Path), help="Write all that was found.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw it.")
@click.option("--markdown", is_flag=True, help="Print it as tables in Markdown, too.")
@click.option("--from", "source", metavar="FILE", type=click.Path(path_type=Path),
              help="Measure nothing; show what --json has written.")  # fmt: skip
def bench(
    spec: Path | None, overrides: tuple[str, ...], workloads: tuple[str, ...], peers: tuple[str, ...],
    everything: bool, scaling: bool, quick: bool, seconds: float | None, json_file: Path | None, plot: Path | None,
    markdown: bool, source: Path | None,
) -> None:  # fmt: skip
    """Measure chainrule beside its peers and the matrix products alone; or the training steps of SPEC."""
    from . import bench as benchmark

    if spec is not None:
        if any((workloads, peers, everything, scaling, quick, json_file, plot, markdown, source)):
            raise click.UsageError("with SPEC, bench takes --set and --seconds only")
        vet(spec, overrides)
        benchmark.bench(spec, overrides, seconds or 2.0)
        return
    if overrides:
        raise click.UsageError("--set needs a SPEC; the workloads are fixed")
    output = benchmark.Output(json_file, plot, markdown)
    if source is not None:
        benchmark.shown_again(source, output)
        return
    benchmark.suite(workloads, peers, everything, quick, scaling, seconds, output)


@main.command()
@click.option("--clear", is_flag=True, help="Remove all of it; models are compiled anew when they are used.")
def cache(clear: bool) -> None:
    """Show what compiled kernels take, and where they are kept."""
    from . import cache as kept

    if clear:
        kept.empty()
    else:
        kept.show()


@main.command()
def doctor() -> None:
    """Show what chainrule finds on this machine, and try a kernel."""
    from .doctor import report

    sys.exit(0 if report() else 1)

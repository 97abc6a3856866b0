"""``metrics-lake demo``: trains real models, logs them, and shows what the lake then holds."""

from __future__ import annotations

import io
import json
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from metrics_lake import MetricsLake, glob
from metrics_lake.cli._plot import MARKERS, curves
from metrics_lake.cli._training import EPOCHS, STUDIES, Study, Training
from metrics_lake.errors import InvalidInputError, LakeNotFoundError, MetricsLakeWarning, NotPublishedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["run"]

_WIDTH: Final = 80
_SHOWN_RUNS: Final = 8
_PREDICTION_METRICS: Final = {
    "multiclass": ("accuracy", "balanced_accuracy", "f1"),
    "binary": ("accuracy", "roc_auc", "log_loss", "brier"),
    "regression": ("mae", "rmse", "r2"),
}


@dataclass(frozen=True)
class _Winner:
    """The best run of one study in this round and what became of it."""

    study: Study
    run: str
    model: str
    job: str
    copied: int


def run(url: str | None, storage_options: Mapping[str, Any] | None = None) -> None:
    """Train, log, copy, predict; then open the lake again and print to stdout what it holds.

    Args:
        url: The lake, as for ``MetricsLake``.
        storage_options: As for ``MetricsLake``.

    Raises:
        InvalidInputError: The url cannot keep anything.
        MetricsLakeError: The lake cannot be written or read.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a ?
    warnings.filterwarnings("ignore", category=MetricsLakeWarning)  # what matters raises when it is flushed
    out = Console(width=_WIDTH, highlight=False, soft_wrap=True)
    begun = time.monotonic()
    with MetricsLake(url, storage_options=storage_options) as lake:
        if lake.url.startswith("memory:"):
            raise InvalidInputError(
                "a lake in memory:// vanishes with the command.", hint="Name a folder or a bucket."
            )
        number = _begin_round(lake)
        out.print(f"[bold]metrics_lake demo[/bold], round {number}, into\n  {escape(lake.url)}\n")
        winners = _train_all(lake, number)
    seconds = time.monotonic() - begun
    with MetricsLake(url, storage_options=storage_options, read_only=True) as lake:
        _show(out, lake, winners, number)
        _show_size(out, lake, seconds)
        _show_next(out, lake.url, winners)


# ---- writing ----------------------------------------------------------------------------------------------


def _begin_round(lake: MetricsLake) -> int:
    """Return the number that this round's ids end with, so that no earlier round is added to; claim it.

    Raises:
        MetricsLakeError: The lake cannot be read or written.
    """
    try:
        number = int(lake.get_metric("demo", "rounds", default=0)) + 1
    except LakeNotFoundError:
        number = 1
    lake.log_metric("demo", "rounds", number)
    try:
        lake.flush()
    except NotPublishedError:
        with suppress(NotPublishedError):
            lake.close(timeout_seconds=0)  # nothing is trained yet that would be worth to wait for the store
        raise
    return number


def _train_all(lake: MetricsLake, number: int) -> list[_Winner]:
    errors = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=sum(len(study.settings) for study in STUDIES) * EPOCHS)

        def advance(name: str) -> None:
            progress.update(task, advance=1, description=name.removeprefix("demo/"))

        return [_train_study(lake, study, number, advance) for study in STUDIES]


def _train_study(lake: MetricsLake, study: Study, number: int, advance: Callable[[str], None]) -> _Winner:
    trainings: dict[str, Training] = {}
    for setting in study.settings:
        name = f"demo/{study.name}/{setting.name}/{number}"
        training = trainings[name] = Training(study, setting, seed=number)
        with lake.resource(name) as resource:  # leaving it publishes: every reader sees the run
            resource.log_params({**setting.params, "epochs": EPOCHS, "seed": number})
            for epoch, metrics in enumerate(training.epochs(), start=1):
                resource.log_metrics(metrics, step=epoch)
                advance(name)
            if study.task != "regression":
                resource.log_metric("valid/confusion", training.confusion())
    best = min(trainings, key=lambda name: float(lake.get_metric(name, study.metric)))
    model = f"demo/models/{study.name}/{number}"
    job = f"demo/predictions/{study.name}/{number}"
    copied = lake.copy_metrics(best, model)
    _log_predictions(lake, study, job, trainings[best])
    return _Winner(study, best, model, job, copied)


def _log_predictions(lake: MetricsLake, study: Study, job: str, training: Training) -> None:
    import pyarrow as pa

    lake.log_prediction_metrics(
        job,
        pa.table(training.predictions()),
        prediction="predicted",
        truth="truth",
        score="score" if study.task == "binary" else None,
        task=study.task,
    )


# ---- showing ----------------------------------------------------------------------------------------------


def _show(out: Console, lake: MetricsLake, winners: Sequence[_Winner], number: int) -> None:
    out.print("[bold]Runs[/bold], the best first, as a fresh handle reads them")
    for winner in winners:
        _show_runs(out, lake, winner.study)
    _show_history(out, lake, winners[0].study, number)
    out.print("\n[bold]Winners[/bold] of this round, copied to model versions with their whole history")
    for winner in winners:
        out.print(f"  {winner.run} -> {winner.model}: {winner.copied} points")
    out.print("\n[bold]Prediction metrics[/bold] of the winners on data that no run has seen")
    for winner in winners:
        names = _PREDICTION_METRICS[winner.study.task]
        found = lake.latest_metrics(winner.job, tags={})
        shown = "   ".join(f"{name} [bold]{_number(found.get(name))}[/bold]" for name in names)
        out.print(f"  {winner.job}: {found['num_predictions']} predictions\n    {shown}")


def _show_runs(out: Console, lake: MetricsLake, study: Study) -> None:
    runs: dict[str, list[tuple[int, float]]] = {}
    for row in lake.history(glob(f"demo/{study.name}/*"), study.metric):
        runs.setdefault(row["resource"], []).append((row["step"], row["value"]))
    ranked = sorted(runs, key=lambda name: runs[name][-1][1])
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("run", "layers", "alpha", "rate"):
        table.add_column(title, no_wrap=True)
    for title in ("best", "at", "last", study.other.removeprefix("valid/")):
        table.add_column(title, justify="right", no_wrap=True)
    for name in ranked[:_SHOWN_RUNS]:
        latest = lake.latest_metrics(name)
        step, value = min(runs[name], key=lambda point: point[1])
        table.add_row(
            Text(name),
            *(_param(latest.get(f"params/{each}")) for each in ("layers", "alpha", "learning_rate")),
            _number(value),
            str(step),
            _number(runs[name][-1][1]),
            _number(latest[study.other]),
        )
    out.print(f"\n{study.name}, by {study.metric} (less is better)")
    out.print(table)
    if len(ranked) > _SHOWN_RUNS:
        out.print(f"and {len(ranked) - _SHOWN_RUNS} more", style="dim")


def _show_history(out: Console, lake: MetricsLake, study: Study, number: int) -> None:
    names = [f"demo/{study.name}/{setting.name}/{number}" for setting in study.settings][: len(MARKERS)]
    series: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for row in lake.history(names, study.metric):
        series[row["resource"]].append((row["step"], row["value"]))
    out.print(f"\n[bold]History[/bold] of {study.metric} in this round's {study.name} runs, logarithmic")
    out.print(curves(series, width=out.width - 2, is_log=True, x_label="step (epoch)"))


def _show_size(out: Console, lake: MetricsLake, seconds: float) -> None:
    found = lake.resources(["demo", glob("demo/*")])
    points, series = (sum(found.values(column)) for column in ("points", "series"))
    out.print(
        f"\n[bold]In all[/bold] {points:,} points in {series:,} series of {len(found):,} resources", end=""
    )
    folder = Path(lake.url)
    if folder.is_dir():
        sizes = [file.stat().st_size for file in folder.rglob("*.parquet")]
        out.print(f"\n  {len(sizes):,} Parquet files, {sum(sizes) / 1024:,.0f} KiB", end="")
    out.print(f"\n  this round took {seconds:.1f} s, training included")


def _show_next(out: Console, url: str, winners: Sequence[_Winner]) -> None:
    study, model = winners[0].study, winners[0].model
    here = _shown_url(url)
    out.print("\n[bold]Next[/bold]: read it from Python, log your own runs, or run the demo again\n")
    out.print(
        Text(
            "from metrics_lake import MetricsLake, glob\n\n"
            f"lake = MetricsLake({json.dumps(here, ensure_ascii=False)})\n"
            f'lake.get_metric("{model}", "{study.metric}")\n'
            f'lake.history(glob("demo/{study.name}/*"), "{study.metric}").pl()\n'
            'with lake.resource("my-project/run-1") as run:\n'
            '    run.log_metrics({"train": {"loss": 0.5}}, step=1)'
        )
    )


def _shown_url(url: str) -> str:
    """Return the url as one would write it in the current folder."""
    path = Path(url)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else url


def _param(value: Any) -> str:
    if value is None:
        return "-"
    return "x".join(map(str, value)) if isinstance(value, list) else f"{value:g}"


def _number(value: Any) -> str:
    return f"{value:#.4g}" if isinstance(value, float) else "-"

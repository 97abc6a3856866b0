"""``metrics-lake ui``: the dashboard in a browser."""

from __future__ import annotations

import importlib.util
import sys
import webbrowser
from typing import Final

import click

from metrics_lake.cli.output import note
from metrics_lake.cli.place import LakeCommand, Place

__all__ = ["ui"]

_MODULES: Final = ("marimo", "altair", "uvicorn", "zmq")


@click.command(cls=LakeCommand, short_help="Show run tables, curves and predictions in a browser.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Else the first free one from 2718 on.")
@click.option(
    "--no-token", is_flag=True, help="Let everybody on this machine look, at an address that stays."
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.pass_obj
def ui(place: Place, host: str, port: int | None, no_token: bool, no_browser: bool) -> None:
    """Serve a live dashboard of the lake and print its address; Ctrl-C ends it.

    It only reads, and it listens to this machine alone unless --host says otherwise. The address holds a
    token without which nothing is shown.
    """
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f'the dashboard needs {missing[0]}, which is not installed: pip install "metrics-lake[cli,ui]"'
        )
    from metrics_lake.dashboard import Dashboard

    with place.reading(adopting=False) as lake:
        lake.snapshot()  # a url without a lake is told here, not in the page
        with Dashboard(lake, host=host, port=port, is_open=no_token) as dashboard:
            note(f"{lake.url} is shown until Ctrl-C at:")
            click.echo(dashboard.address)
            sys.stdout.flush()
            if not no_browser and sys.stdout.isatty():
                webbrowser.open(dashboard.address)
            dashboard.run()

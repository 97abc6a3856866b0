"""One HTML page that needs nothing but itself: scripts, styles, charts and tables are in it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from html import escape
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any, Final

from metrics_lake.charts import theme, vega_lite_version
from metrics_lake.errors import InvalidInputError
from metrics_lake.report.tables import html_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metrics_lake.charts import Chart
    from metrics_lake.panels import Panel

__all__ = ["Page", "require_packages"]

_FOOTER: Final = (
    "Made by metrics_lake. Charts: drag to move, shift and wheel to zoom, double-click to reset, "
    "hover for values."
)
_FILTER_ROWS: Final = 8
"""A table of fewer rows can be looked through."""


@dataclass(slots=True)
class Page:
    """A page that grows section by section.

    Args:
        title: Of the page.
        facts: What stands under the title, by name.
        snapshot: What all of it was read from.
    """

    title: str
    facts: Mapping[str, str]
    snapshot: str
    _sections: list[tuple[str, str]] = field(default_factory=list)
    _specs: list[str] = field(default_factory=list)
    _number: int = 0

    def add(self, title: str, *parts: str) -> None:
        """Add a section of pieces of HTML."""
        self._sections.append((title, "\n".join(parts)))

    # ---- pieces --------------------------------------------------------------------------------------------

    def caption(self, text: str) -> str:
        """Return a paragraph."""
        return f'<p class="caption">{escape(text)}</p>'

    def heading(self, text: str) -> str:
        """Return the heading of a part of a section."""
        return f"<h3>{escape(text)}</h3>"

    def chart(self, chart: Chart, *, is_wide: bool = False) -> str:
        """Return a chart; its data go to the end of the page. A wide one scrolls where there is no room."""
        spec = chart.to_dict(validate=False)  # a third of the time; the tests validate what we draw
        # The page gives the look, so that it can follow the reader's: light or dark.
        del spec["config"]
        name = self._new("spec")
        self._specs.append(f'<script type="application/json" id="{name}">{_json(spec)}</script>')
        told = escape(spec.get("description") or "")
        own = f'id="{self._new("chart")}" data-spec="{name}"'
        made = f'<div class="chart" {own} role="img" aria-label="{told}"></div>'
        return f'<div class="wide">{made}</div>' if is_wide else made

    def charts(self, charts: Sequence[Chart]) -> str:
        """Return charts beside each other where there is room."""
        return f'<div class="charts">{"".join(self.chart(each) for each in charts)}</div>'

    def table(self, panel: Panel, *, filter_label: str | None = None) -> str:
        """Return a panel's rows; with a label, a field above them filters them."""
        if panel.table is None or not panel.table.num_rows:
            return ""
        name = self._new("table")
        shown = html_table(panel.table, id=name, caption=f"{panel.title}: {panel.caption}")
        if filter_label is None or panel.table.num_rows < _FILTER_ROWS:
            return shown
        tools = (
            f'<div class="tools" data-table="{name}" hidden><label>{escape(filter_label)} '
            '<input type="search" autocomplete="off" spellcheck="false"></label>'
            '<output aria-live="polite"></output></div>'
        )
        return tools + shown

    def choice(self, legend: str, options: Mapping[str, str]) -> str:
        """Return pieces of which the reader sees one at a time, by label; the first at first."""
        names = [self._new("choice") for _ in options]
        group = self._new("group")
        inputs = "".join(
            f'<label><input type="radio" name="{group}" value="{name}"{" checked" if not at else ""}> '
            f"{escape(label)}</label>"
            for at, (name, label) in enumerate(zip(names, options, strict=True))
        )
        shown = "".join(
            f'<div id="{name}"{" hidden" if at else ""}>{piece}</div>'
            for at, (name, piece) in enumerate(zip(names, options.values(), strict=True))
        )
        return f'<fieldset class="choice" hidden><legend>{escape(legend)}</legend>{inputs}</fieldset>{shown}'

    # --------------------------------------------------------------------------------------------------------

    def html(self) -> str:
        """Return the page.

        Raises:
            InvalidInputError: vl-convert, which has the scripts that draw, is not installed.
        """
        has_charts = bool(self._specs)
        scripts = [_bundle(), _asset("page.js")] if has_charts else [_asset("page.js")]
        looks = _json({"light": theme.config(), "dark": theme.config(dark=True)})
        facts = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in self.facts.items()
        )
        links = "".join(
            f'<li><a href="#section-{at}">{escape(title)}</a></li>'
            for at, (title, _) in enumerate(self._sections)
        )
        sections = "\n".join(
            f'<section aria-labelledby="section-{at}">'
            f'<h2 id="section-{at}">{escape(title)}</h2>\n{body}\n</section>'
            for at, (title, body) in enumerate(self._sections)
        )
        policy = (
            "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
            "base-uri 'none'; form-action 'none'; "
            f"script-src 'unsafe-eval' {' '.join(map(_digest, scripts))}"
        )
        return "\n".join(
            [
                "<!DOCTYPE html>",
                '<html lang="en">',
                "<head>",
                '<meta charset="utf-8">',
                f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta name="referrer" content="no-referrer">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{_asset('page.css')}</style>",
                "</head>",
                "<body>",
                f'<header><h1>{escape(self.title)}</h1><dl class="facts">{facts}</dl></header>',
                f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
                f"<main>{sections}</main>",
                f"<footer><p>{_FOOTER}</p><p>Snapshot: <code>{escape(self.snapshot)}</code></p></footer>",
                f'<script type="application/json" id="looks">{looks}</script>',
                *self._specs,
                *(f"<script>{script}</script>" for script in scripts),
                "</body>",
                "</html>",
                "",
            ]
        )

    def _new(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._number}"


def _json(value: Any) -> str:
    """Return JSON in which no text can end the script that holds it, or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(script: str) -> str:
    """Return how the page's policy names the one script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("metrics_lake.report").joinpath(name).read_text(encoding="utf-8")


def require_packages() -> None:
    """Return where all that draws a report is installed: told before the work begins.

    Raises:
        InvalidInputError: Something is not.
    """
    try:
        import_module("altair")
        import_module("vl_convert")
    except ModuleNotFoundError as error:
        if error.name not in {"altair", "vl_convert"}:
            raise
        raise InvalidInputError(
            "a report needs Altair and vl-convert-python, which are not both installed.",
            hint='pip install "metrics-lake[report]".',
        ) from error


def _bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, of the versions that Altair writes for."""
    import vl_convert

    wanted = vega_lite_version()
    has_it = wanted in vl_convert.get_vegalite_versions()
    made: str = vl_convert.javascript_bundle(  # type: ignore[call-arg]  # its stub misses a default
        vl_version=wanted if has_it else None
    )
    return made

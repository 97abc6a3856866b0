"""The page of ``metrics-lake ui``. It wires controls to panels; what is asked and drawn is theirs.

Each control keeps what was chosen in the page's address, and is made anew only when there is other to choose
from. Everything that shows data hangs on ``get_version``, which changes when the lake does: a tick over a
lake in which nothing is new costs one look and moves nothing. What is shown and listens has a name of its
own: marimo lets go of what has none.
"""

import marimo

app = marimo.App(width="full", app_title="metrics_lake")


@app.cell
def _():
    import marimo as mo

    from metrics_lake import panels
    from metrics_lake.dashboard import jobs, leaderboards, look, tables, watching, zooming
    from metrics_lake.dashboard.choices import Choices
    from metrics_lake.dashboard.offered import offered

    lake = offered()
    choices = Choices(mo.query_params())
    dark = mo.app_meta().theme == "dark"
    return choices, dark, jobs, lake, leaderboards, look, mo, panels, tables, watching, zooming


# ---- what is new ------------------------------------------------------------------------------------------


@app.cell
def _(lake, mo, watching):
    every = mo.ui.refresh(options=["2s", "5s", "30s", "5m"], default_interval="5s")
    _seen = watching.look(lake)
    get_seen, set_seen = mo.state(_seen)
    get_version, set_version = mo.state(_seen.version)
    get_names, set_names = mo.state(_seen.holds.names)
    return every, get_names, get_seen, get_version, set_names, set_seen, set_version


@app.cell
def _(every, get_names, get_seen, lake, set_names, set_seen, set_version, watching):
    every.value  # each tick looks
    _last = get_seen()
    if (_now := watching.look(lake, _last)) != _last:
        set_seen(_now)
        if _now.is_news_after(_last):
            set_version(_now.version)
        if _now.holds.names != get_names() or (_last.problem and not _now.problem):
            set_names(_now.holds.names)
    return


@app.cell
def _(every, get_seen, lake, look, mo):
    _seen = get_seen()
    _told = f"{lake.url} · {_seen.holds.told}" if _seen.version else lake.url
    _title = mo.vstack([mo.Html("<strong>metrics_lake</strong>"), look.note(_told)], gap=0)
    _head = mo.hstack([_title, every], align="center")
    mo.vstack([_head, look.warning(_seen.problem)]) if _seen.problem else _head
    return


@app.cell
def _(choices, mo):
    _pages = ("Runs", "Curves", "Leaderboard", "Predictions", "Health")
    page = mo.ui.tabs(
        dict.fromkeys(_pages, ""),
        value=choices.one_of("page", _pages, "Curves"),
        on_change=choices.keeper("page", "Curves"),
    )
    page
    return (page,)


# ---- which runs -------------------------------------------------------------------------------------------


@app.cell
def _(choices, mo):
    search = mo.ui.text(
        value=choices.text("runs"),
        placeholder="digits, or digits/*",
        label="runs",
        debounce=300,
        on_change=choices.keeper("runs"),
    )
    condition = mo.ui.text(
        value=choices.text("where"),
        placeholder='"params/lr" < 1e-3 and "valid/acc" > 0.9',
        label="where",
        full_width=True,
        on_change=choices.keeper("where"),
    )
    return condition, search


@app.cell
def _(condition, mo, page, search):
    mo.stop(page.value not in {"Runs", "Curves", "Leaderboard"})
    mo.hstack([search, condition], widths=[1, 3], align="end")
    return


@app.cell
def _(condition, search, tables):
    runs = tables.runs_like(search.value)
    where = condition.value.strip() or None
    return runs, where


# ---- the run table ----------------------------------------------------------------------------------------


@app.cell
def _(choices, mo):
    _stats = ("last", "min", "max", "mean", "first", "count")
    stat = mo.ui.dropdown(
        _stats,
        value=choices.one_of("stat", _stats, "last"),
        allow_select_none=False,
        label="each metric's",
        on_change=choices.keeper("stat", "last"),
    )
    return (stat,)


@app.cell
def _(get_version, lake, look, mo, page, panels, runs, stat, where):
    mo.stop(page.value != "Runs" or not get_version())
    shown_runs = look.careful(
        lambda: look.panel(panels.run_table(lake, runs, where=where, stat=stat.value), frozen=["resource"])
    )
    look.stack([stat, shown_runs])
    return (shown_runs,)


# ---- curves -----------------------------------------------------------------------------------------------


@app.cell
def _(choices, get_names, mo):
    _curves, _, _tags, _ = get_names()
    _first = [each for each in (choices.first("metric", _curves),) if each is not None]
    metrics = mo.ui.multiselect(
        _curves,
        value=choices.some_of("metric", _curves, _first),
        label="metrics",
        max_selections=6,
        on_change=choices.keeper("metric", _first),
    )
    _colours = ("series", "resource", *_tags)
    colour = mo.ui.dropdown(
        _colours,
        value=choices.one_of("color", _colours, "series"),
        allow_select_none=False,
        label="colour by",
        on_change=choices.keeper("color", "series"),
    )
    return colour, metrics


@app.cell
def _(choices, mo, zooming):
    axis = mo.ui.dropdown(
        zooming.AXES,
        value=zooming.axis_name(choices.text("x", "step")),
        allow_select_none=False,
        label="along",
        on_change=choices.keeper("x", "step", forgetting=list(zooming.KEPT_AS.values())),
    )
    smooth = mo.ui.slider(
        0.0,
        0.99,
        0.01,
        value=choices.number("smooth", 0.0, 0.0, 0.99),
        show_value=True,
        label="smooth",
        on_change=choices.keeper("smooth", 0.0),
    )
    log = mo.ui.checkbox(choices.flag("log"), label="log y", on_change=choices.keeper("log", False))
    drawing_controls = (smooth, log)
    return axis, drawing_controls, log, smooth


@app.cell
def _(axis, get_names, metrics, zooming):
    *_, _stepless = get_names()
    x = zooming.along(axis.value, metrics.value, _stepless)
    return (x,)


@app.cell
def _(choices, mo, x, zooming):
    _name = zooming.KEPT_AS.get(x, "")  # a part of one axis is none of another
    get_part, _set_part = mo.state(choices.part(_name))
    _keep = choices.keeper(_name)

    def look_at(part):
        _keep(part)
        _set_part(part)

    return get_part, look_at


@app.cell
def _(axis, colour, drawing_controls, get_part, look, look_at, metrics, mo, page):
    mo.stop(page.value != "Curves")
    whole = mo.ui.button(label="whole range", on_click=lambda _: look_at(None), disabled=get_part() is None)
    look.beside([metrics, axis, colour, *drawing_controls, whole])
    return (whole,)


@app.cell
def _(
    colour,
    dark,
    get_part,
    get_version,
    lake,
    log,
    look,
    metrics,
    mo,
    page,
    panels,
    runs,
    smooth,
    tables,
    where,
    x,
    zooming,
):
    mo.stop(page.value != "Curves" or not get_version())

    def _curves(metric):
        found = panels.curves(
            lake,
            tables.runs_where(lake, runs, where),
            metric,
            x=x,
            smooth=smooth.value,
            log=log.value,
            color=None if colour.value == "series" else colour.value,
            width="container",
            height=340 if len(metrics.value) == 1 else 240,
            dark=dark,
            max_points=zooming.points_of(len(metrics.value)),
            **zooming.window(x, get_part()),
        )
        return look.picture(found.chart)

    _pictures = [look.careful(lambda each=each: _curves(each)) for each in metrics.value]
    _pictures[0] if len(_pictures) == 1 else mo.vstack(_pictures or [look.note("No curves yet.")])
    return


@app.cell
def _(dark, get_part, get_version, lake, look, look_at, metrics, mo, page, runs, tables, where, x, zooming):
    mo.stop(page.value != "Curves" or not metrics.value or not get_version())

    def _strip():
        asked = {"part": get_part(), "look": look_at, "dark": dark}
        resources = tables.runs_where(lake, runs, where)
        strips = (zooming.strip(lake, resources, each, x, **asked) for each in metrics.value)
        return next((each for each in strips if each is not None), None)  # of the first that has places

    strip = look.attempt(_strip, otherwise=None)
    mo.vstack([strip, look.note(zooming.HOW)]) if strip is not None else None
    return (strip,)


# ---- the leaderboard --------------------------------------------------------------------------------------


@app.cell
def _(choices, get_names, mo):
    _, _numbers, *_ = get_names()
    _first = choices.first("best", _numbers)
    ranked = mo.ui.dropdown(
        _numbers,
        value=choices.one_of("best", _numbers, _first),
        searchable=True,
        label="metric",
        on_change=choices.keeper("best", _first, forgetting=["tags"]),
    )
    return (ranked,)


@app.cell
def _(choices, mo):
    _modes = {"greatest first": "max", "least first": "min"}
    mode = mo.ui.radio(
        _modes,
        value="least first" if choices.text("mode") == "min" else "greatest first",
        inline=True,
        on_change=choices.keeper("mode", "max"),
    )
    _by = {"best value ever": "best", "last value": "last"}
    by = mo.ui.dropdown(
        _by,
        value="last value" if choices.text("by") == "last" else "best value ever",
        allow_select_none=False,
        label="by",
        on_change=choices.keeper("by", "best"),
    )
    return by, mode


@app.cell
def _(choices, get_names, lake, leaderboards, look, mo, page, ranked):
    get_names()
    _asked = ranked.value if page.value == "Leaderboard" else None
    slices = look.attempt(lambda: leaderboards.slices(lake, _asked), otherwise={}) if _asked else {}
    _first = next(iter(slices), None)
    piece = mo.ui.dropdown(
        list(slices),
        value=choices.one_of("tags", tuple(slices), _first),
        allow_select_none=not slices,
        label="tags",
        on_change=choices.keeper("tags", _first),
    )
    return piece, slices


@app.cell
def _(by, get_version, look, mo, mode, page, piece, ranked, slices):
    mo.stop(page.value != "Leaderboard" or not get_version())
    look.beside([ranked, by, *([piece] if len(slices) > 1 else []), mode])
    return


@app.cell
def _(by, dark, get_version, lake, leaderboards, look, mo, mode, page, piece, ranked, runs, slices, where):
    mo.stop(page.value != "Leaderboard" or not get_version())
    _asked = {"mode": mode.value, "by": by.value, "resources": runs, "where": where}
    _asked |= {"tags": slices.get(piece.value), "dark": dark}
    ranking = (
        look.careful(lambda: leaderboards.page(lake, ranked.value, **_asked))
        if ranked.value
        else look.note("No numbers yet.")
    )
    ranking
    return (ranking,)


# ---- predictions ------------------------------------------------------------------------------------------


@app.cell
def _(mo):
    get_jobs, set_jobs = mo.state([])
    return get_jobs, set_jobs


@app.cell
def _(get_jobs, get_version, jobs, lake, look, mo, page, set_jobs):
    mo.stop(page.value != "Predictions" or not get_version())
    _known = get_jobs()
    if (_now := look.attempt(lambda: jobs.job_choices(lake), otherwise=_known)) != _known:
        set_jobs(_now)
    return


@app.cell
def _(choices, get_jobs, mo):
    _names = [job["resource"] for job in get_jobs()]
    _first = [each for each in (choices.first("job", _names),) if each is not None]
    chosen = mo.ui.multiselect(
        _names,
        value=choices.some_of("job", _names, _first),
        label="jobs",
        max_selections=8,
        on_change=choices.keeper("job", _first),
    )
    reference = mo.ui.dropdown(
        _names,
        value=choices.one_of("reference", _names),
        allow_select_none=True,
        label="compared with",
        on_change=choices.keeper("reference"),
    )
    return chosen, reference


@app.cell
def _(choices, chosen, get_jobs, jobs, mo):
    _segments = jobs.segments(get_jobs(), chosen.value)
    by_segment = mo.ui.dropdown(
        _segments,
        value=choices.one_of("segment", _segments, jobs.TOGETHER),
        allow_select_none=False,
        label="divided by",
        on_change=choices.keeper("segment", jobs.TOGETHER),
    )
    _lengths = jobs.lengths(get_jobs(), chosen.value)
    every_window = mo.ui.dropdown(
        _lengths,
        value=choices.one_of("window", _lengths, next(iter(_lengths), None)),
        allow_select_none=True,
        label="windows of",
        on_change=choices.keeper("window"),
    )
    return by_segment, every_window


@app.cell
def _(by_segment, chosen, every_window, get_version, look, mo, page, reference):
    mo.stop(page.value != "Predictions" or not get_version())
    look.beside([chosen, by_segment, *([every_window] if every_window.options else []), reference])
    return


@app.cell
def _(by_segment, chosen, dark, every_window, get_version, jobs, lake, look, mo, page, reference):
    mo.stop(page.value != "Predictions" or not get_version())

    def _predictions():
        return jobs.page(
            lake,
            chosen.value,
            by=by_segment.value,
            every=every_window.value,
            reference=reference.value,
            dark=dark,
        )

    shown_jobs = look.careful(_predictions) if chosen.value else look.note("No prediction jobs yet.")
    shown_jobs
    return (shown_jobs,)


# ---- health -----------------------------------------------------------------------------------------------


@app.cell
def _(choices, mo):
    _tables = ("metrics", "prediction_states", "predictions", "ground_truth")
    table = mo.ui.dropdown(
        _tables,
        value=choices.one_of("table", _tables, "metrics"),
        allow_select_none=False,
        label="table",
        on_change=choices.keeper("table", "metrics"),
    )
    return (table,)


@app.cell
def _(get_version, lake, look, mo, page, panels, table):
    mo.stop(page.value != "Health" or not get_version())
    shown_health = look.careful(
        lambda: look.stack([look.panel(each) for each in panels.health(lake, table.value)], gap=1.5)
    )
    look.stack([table, shown_health])
    return (shown_health,)


if __name__ == "__main__":
    app.run()

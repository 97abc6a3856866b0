import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="metrics_lake: a dashboard")


@app.cell
def _():
    import marimo as mo

    mo.md("""
    # A dashboard of your own

    `metrics-lake ui` is the dashboard that comes with the package. This notebook shows what one is made of,
    so that you can make yours: the functions of `metrics_lake.panels` ask a lake by its public verbs and give
    a table, a chart and a caption. Take the panels you need and wire them to controls.
    """)
    return (mo,)


@app.cell
def _(mo):
    import os

    url = mo.ui.text(
        value=os.environ.get("METRICS_LAKE_URL", "metrics-lake"),
        label="url",
        placeholder="a folder, s3://bucket/lake or gs://bucket/lake",
        full_width=True,
    )
    url
    return (url,)


@app.cell
def _(mo, url):
    from metrics_lake import MetricsLake, panels
    from metrics_lake.errors import MetricsLakeError

    # Read only: looking at a lake never writes to it.
    lake = problem = None
    try:
        lake = MetricsLake(url.value, read_only=True)
        overview = panels.metric_overview(lake).to_pylist()
        jobs = panels.prediction_jobs(lake).to_pylist()
    except MetricsLakeError as _error:
        problem, overview, jobs = str(_error), [], []
    mo.callout(mo.plain_text(problem), kind="warn") if problem else None
    return jobs, lake, overview, panels, problem


@app.cell
def _(mo):
    from html import escape

    def show(panel, *, rows=10):
        """Lay out one panel: the chart, the caption, the table."""
        # What runs and metrics are called is text, not Markdown or HTML.
        title, caption = f"<h3>{escape(panel.title)}</h3>", f"<small>{escape(panel.caption)}</small>"
        parts = [mo.Html(title), panel.chart, mo.Html(caption)]
        if panel.table is not None:
            parts.append(
                mo.ui.table(
                    panel.table,
                    page_size=rows,
                    selection=None,
                    show_column_summaries=False,
                    show_data_types=False,
                )
            )
        return mo.vstack([part for part in parts if part is not None])

    return (show,)


@app.cell
def _(jobs, mo, overview):
    runs = mo.ui.text(value="*", label="runs", placeholder="digits/*")
    _curves = [row["metric"] for row in overview if row["is_curve"]]
    _ranked = [row["metric"] for row in overview if row["is_number"] and not row["is_ambiguous"]]
    curve = mo.ui.dropdown(_curves, value=next(iter(_curves), None), label="curves of")
    ranked = mo.ui.dropdown(_ranked, value=next(iter(_ranked), None), label="rank by", searchable=True)
    mode = mo.ui.radio({"greatest first": "max", "least first": "min"}, value="greatest first", inline=True)
    smooth = mo.ui.slider(0.0, 0.95, 0.05, label="smooth", show_value=True)
    job = mo.ui.dropdown(
        [row["resource"] for row in jobs],
        value=jobs[-1]["resource"] if jobs else None,
        label="prediction job",
    )
    return curve, job, mode, ranked, runs, smooth


@app.cell
def _(jobs, job, mo):
    _chosen = next((row for row in jobs if row["resource"] == job.value), None)
    every = _chosen["every"] if _chosen else None
    segment = mo.ui.dropdown(_chosen["segments"] if _chosen else [], label="by segment")
    reference = mo.ui.dropdown(
        [row["resource"] for row in jobs if row["resource"] != job.value], label="against"
    )
    return every, reference, segment


@app.cell
def _(lake, mo, panels, problem, runs, show):
    from metrics_lake import glob

    mo.stop(problem is not None)
    chosen = glob(runs.value or "*")
    run_table = panels.run_table(lake, chosen)
    runs_page = mo.vstack([runs, show(run_table)])
    return chosen, run_table, runs_page


@app.cell
def _(chosen, curve, lake, mo, panels, show, smooth):
    curves = panels.curves(lake, chosen, curve.value, smooth=smooth.value or None) if curve.value else None
    curves_page = mo.vstack(
        [
            mo.hstack([curve, smooth], justify="start", gap=2),
            show(curves) if curves else mo.md("No curves yet."),
        ]
    )
    return curves, curves_page


@app.cell
def _(chosen, lake, mo, mode, panels, ranked, show):
    board = (
        panels.leaderboard(lake, ranked.value, mode=mode.value, resources=chosen) if ranked.value else None
    )
    board_page = mo.vstack(
        [
            mo.hstack([ranked, mode], justify="start", gap=2),
            show(board) if board else mo.md("No numbers yet."),
        ]
    )
    return board, board_page


@app.cell
def _(every, job, lake, mo, panels, problem, reference, segment, show):
    mo.stop(problem is not None)
    predictions = []
    if job.value:
        _asked = {"by": segment.value, "reference": reference.value}
        if every:
            predictions += panels.prediction_windows(lake, job.value, every=every, **_asked)
        predictions += panels.predictions(lake, job.value, **_asked)
    predictions_page = mo.vstack(
        [
            mo.hstack([job, segment, reference], justify="start", gap=2),
            *(show(panel) for panel in predictions),
            *([] if predictions else [mo.md("No predictions yet: `lake.log_prediction_metrics(…)`.")]),
        ]
    )
    return predictions, predictions_page


@app.cell
def _(lake, mo, panels, problem, show):
    mo.stop(problem is not None)
    health = panels.health(lake)
    health_page = mo.vstack([show(panel) for panel in health])
    return health, health_page


@app.cell
def _(board_page, curves_page, health_page, mo, predictions_page, runs_page):
    mo.ui.tabs(
        {
            "Runs": runs_page,
            "Curves": curves_page,
            "Leaderboard": board_page,
            "Predictions": predictions_page,
            "Health": health_page,
        }
    )
    return


if __name__ == "__main__":
    app.run()

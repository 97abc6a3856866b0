import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="metrics_lake: a tour")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # A tour of metrics_lake

        Metrics as Parquet under one url: a folder, `s3://…` or `gs://…`. There is no server to start and
        nothing to configure. This notebook trains small models on images of digits that come with
        scikit-learn, logs what happens, and asks about it in every way there is. It takes a few seconds and
        needs no network.
        """
    )
    return (mo,)


@app.cell
def _():
    import os
    import tempfile

    from metrics_lake import MetricsLake, glob

    # Your lake would be "s3://acme-ml/metrics". Without $METRICS_LAKE_URL this tour has a folder of its own.
    url = os.environ.get("METRICS_LAKE_URL") or tempfile.mkdtemp(prefix="metrics-lake-")
    lake = MetricsLake(url)
    return MetricsLake, glob, lake, url


@app.cell
def _(mo):
    mo.md("""
    ## Log

    A *resource* is whatever has metrics: a run, a model, a data set. Its id is any text, by habit a path.
    `log_metrics` takes nested dicts and joins their keys: `{"valid": {"acc": …}}` becomes `valid/acc`.

    When a `log_…` call returns, its points are in a journal on this disk. Killing the process a
    microsecond later loses nothing, and there was no network in the loop. Leaving the `with` block
    publishes: then everybody who reads the url sees the run.
    """)
    return


@app.cell
def _():
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import confusion_matrix, log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    digits = load_digits()
    _parts = train_test_split(digits.data, digits.target, test_size=0.4, random_state=0)
    x_train, x_valid, y_train, y_valid = _parts
    _scaler = StandardScaler().fit(x_train)
    x_train, x_valid = _scaler.transform(x_train), _scaler.transform(x_valid)

    def train(alpha, epochs=40):
        """Train a linear model; give the losses and the accuracy after each pass over the data."""
        model = SGDClassifier(
            loss="log_loss", alpha=alpha, learning_rate="constant", eta0=0.002, random_state=0
        )
        for _ in range(epochs):
            order = np.random.default_rng(0).permutation(len(x_train))
            model.partial_fit(x_train[order], y_train[order], classes=range(10))
            losses = {"train": log_loss(y_train, model.predict_proba(x_train))}
            losses["valid"] = log_loss(y_valid, model.predict_proba(x_valid))
            yield model, losses, model.score(x_valid, y_valid)

    return confusion_matrix, train, x_valid, y_valid


@app.cell
def _(confusion_matrix, glob, lake, train, x_valid, y_valid):
    for _number, _alpha in enumerate([1e-4, 1e-2, 0.1, 0.5, 1.0], 1):
        with lake.resource(f"digits/sgd-{_number}") as _run:
            _run.log_params({"alpha": _alpha, "model": "SGDClassifier"})
            for _step, (_model, _losses, _accuracy) in enumerate(train(_alpha)):
                _run.log_metrics({"loss": _losses, "valid": {"acc": _accuracy}}, step=_step)
            # Any value can be logged, and comes back as it was: here a list of lists.
            _run.log_metric("confusion", confusion_matrix(y_valid, _model.predict(x_valid)).tolist())
    runs = glob("digits/*")
    return (runs,)


@app.cell
def _(mo):
    mo.md("""
    ## Read one value, or a whole curve

    `get_metric` is the latest value, with the type it was logged with. `history` is exact and whole:
    nothing is ever sampled behind your back. It gives Arrow, Polars, pandas, or rows; `.plot()` draws it.
    """)
    return


@app.cell
def _(lake, runs):
    first = lake.resources(runs).values("resource")[0]
    accuracy = lake.get_metric(first, "valid/acc")
    confusion = lake.get_metric(first, "confusion")
    {"accuracy": accuracy, "how images of a 3 were read": confusion[3]}
    return


@app.cell
def _(lake, runs):
    curves = lake.history(runs, ["loss/valid", "valid/acc"])
    curves.plot(x="step")
    return (curves,)


@app.cell
def _(curves):
    curves.pl().tail(3)
    return


@app.cell
def _(mo):
    mo.md("""
    ## Which run was best?

    `best` ranks by the best value a run ever had (or its last one, or the one at a step), says at which
    step that was, shares ranks between equals, and never lets a NaN win. `where` is a SQL condition over
    parameters and metrics.
    """)
    return


@app.cell
def _(lake, runs):
    ranking = lake.best("valid/acc", mode="max", resources=runs, where='"params/alpha" < 1', top=5)
    ranking.plot()
    return (ranking,)


@app.cell
def _(lake, runs):
    table = lake.compare(runs, ["params/alpha", "loss/train", "loss/valid", "valid/acc"])
    table.pl()
    return (table,)


@app.cell
def _(table):
    # One axis a column: strong regularisation costs training loss first.
    table.plot(color="valid/acc")
    return


@app.cell
def _(mo):
    mo.md("""
    ## SQL

    The views `metrics` (all points), `latest`, `series` (one row a curve: count, first, last, min, max …)
    and `params` are there for the rest. Values are bound, not pasted; queries cannot write or reach
    files. Your own data frames join in with `frames=`.
    """)
    return


@app.cell
def _(lake, runs):
    import polars as pl

    authors = pl.DataFrame({"resource": lake.resources(runs).values("resource")}).with_columns(
        author=pl.lit("ada")
    )
    fastest = lake.sql(
        """
        SELECT author, resource, min(step) AS first_step
        FROM metrics JOIN authors USING (resource)
        WHERE metric = 'valid/acc' AND value >= $goal
        GROUP BY ALL ORDER BY first_step
        """,
        {"goal": 0.93},
        frames={"authors": authors},
    )
    fastest.pl()
    return


@app.cell
def _(mo):
    mo.md("""
    ## Promote

    The winning run becomes a model version: `copy_metrics` copies whole histories, with lineage (the
    column `origin`). Doing it twice adds nothing.
    """)
    return


@app.cell
def _(lake, ranking):
    version = "models/digits/1"
    winner = ranking.rows()[0]["resource"]
    copied = [lake.copy_metrics(winner, version) for _ in range(2)]
    {"from": winner, "points added by the first and the second call": copied}
    return (version,)


@app.cell
def _(lake, version):
    lake.history(version, "valid/acc", full=True).pl().select("resource", "origin", "step", "value").tail(3)
    return


@app.cell
def _(mo):
    mo.md("""
    ## What lies under the url

    Fresh points are plain Parquet files in an inbox; compaction moves them into an ordinary Delta table,
    in one atomic commit, that Spark, Trino, Polars or DuckDB read with no code of ours. `flush` says what
    became safe; a second handle, as another process would have, sees all of it.
    """)
    return


@app.cell
def _(MetricsLake, lake, url, version):
    lake.log_metric(version, "is_deployed", True)
    receipt = lake.flush()
    with MetricsLake(url, read_only=True) as _other:
        seen_points = sum(_other.resources().values("points"))
    receipt
    return (seen_points,)


@app.cell
def _(lake, seen_points):
    print(f"another handle sees {seen_points:,} points")
    lake.maintenance.compact()
    files = lake.inspect.files().pl()
    files.select("kind", "points", "size_bytes", "key")
    return


@app.cell
def _(mo, url):
    mo.md(
        f"""
        ## Where to go from here

        * `comparison.py`: models against each other, with intervals, curves and calibration.
        * `monitoring.ipynb`: predictions today, labels days later.
        * `dashboard.py`: give it this url: `{url}`. Or run `metrics-lake ui --url {url}`.
        """
    )
    return


if __name__ == "__main__":
    app.run()

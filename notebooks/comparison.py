import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="metrics_lake: comparing models")


@app.cell
def _():
    import marimo as mo

    mo.md("""
    # Which of these models is better?

    Four kinds of models read images of digits (1,797 of them, from scikit-learn). Each is trained five times,
    on five folds. The lake keeps the metrics of every fold, and of each model a mergeable *state* of its
    predictions, from which every curve below is drawn later: no predictions are kept.
    """)
    return (mo,)


@app.cell
def _():
    import os
    import tempfile

    from metrics_lake import MetricsLake, glob
    from metrics_lake.predictions import Multiclass

    url = os.environ.get("METRICS_LAKE_URL") or tempfile.mkdtemp(prefix="metrics-lake-")
    lake = MetricsLake(url)
    return Multiclass, glob, lake


@app.cell
def _(mo):
    mo.md("""
    ## Train and log

    Two kinds of things are logged. `log_metrics` with `tags={"fold": …}`: five series of one metric, told
    apart by a tag. And `log_prediction_metrics` with `part=`: each fold is a part of one prediction job, and
    the job is the merge of its parts. Running a fold again replaces its part; nothing counts twice.
    """)
    return


@app.cell
def _():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=300)),
        "forest": RandomForestClassifier(100, min_samples_leaf=3, random_state=0),
        "neighbors": KNeighborsClassifier(15),
        "naive-bayes": GaussianNB(var_smoothing=1e-3),
    }
    return (models,)


@app.cell
def _(Multiclass, glob, lake, models):
    import time

    import polars as pl
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedKFold

    _digits = load_digits()
    _digit_names = [str(_digit) for _digit in range(10)]
    _folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(_digits.data, _digits.target))
    for _name, _model in models.items():
        for _fold, (_train, _test) in enumerate(_folds):
            _begun = time.perf_counter()
            _model.fit(_digits.data[_train], _digits.target[_train])
            _seconds = time.perf_counter() - _begun
            _scored = pl.DataFrame(_model.predict_proba(_digits.data[_test]), schema=_digit_names)
            _scored = _scored.with_columns(truth=pl.Series(_digits.target[_test]).cast(pl.String))
            _found = lake.log_prediction_metrics(
                f"predictions/{_name}",
                _scored,
                score=_digit_names,
                truth="truth",
                task=Multiclass(labels=_digit_names),
                part=f"fold-{_fold}",
            )
            lake.log_metrics(
                f"digits/{_name}",
                {"acc": _model.score(_digits.data[_test], _digits.target[_test]), "fit_seconds": _seconds},
                tags={"fold": _fold},
            )
        # The job so far: all five folds together.
        lake.log_metrics(f"digits/{_name}", {name: _found[name] for name in ("accuracy", "log_loss", "ece")})
        lake.log_params(f"digits/{_name}", {"kind": type(_model).__name__})
    lake.flush()
    runs = glob("digits/*")
    jobs = {name: f"predictions/{name}" for name in models}
    return jobs, pl, runs


@app.cell
def _(mo):
    mo.md("""
    ## The leaderboard, by what you care about

    By accuracy and by log loss the order is not the same: one of them judges decisions, the other what the
    scores say.
    """)
    return


@app.cell
def _(lake, mo, runs):
    by_accuracy = lake.best("accuracy", mode="max", resources=runs)
    by_log_loss = lake.best("log_loss", mode="min", resources=runs)
    mo.vstack([by_accuracy.plot(width=420), by_log_loss.plot(width=420)])
    return by_accuracy, by_log_loss


@app.cell
def _(lake, pl, runs):
    spread = lake.history(runs, "acc").pl()
    _folds = spread.group_by("resource").agg(
        pl.col("value").mean().alias("mean"),
        pl.col("value").min().alias("worst fold"),
        pl.col("value").max().alias("best fold"),
    )
    _folds.sort("mean", descending=True)
    return (spread,)


@app.cell
def _(mo):
    mo.md("""
    ## Is the difference more than luck?

    1,797 images are not many. The whiskers are 95 % intervals (Wilson's, of a proportion). Where they overlap
    widely, the order may be another one on other images.
    """)
    return


@app.cell
def _(jobs, lake):
    accuracies = lake.prediction_metrics(list(jobs.values()), metrics=["accuracy"])
    accuracies.plot(title="Accuracy, 95 % intervals", width=420)
    return (accuracies,)


@app.cell
def _(mo):
    mo.md("""
    ## Do the scores mean what they say?

    On the diagonal, of the images that a model is 80 % sure of, 80 % are read right. Below it a model is too
    sure of itself, above it too modest. The counts under the curves say where there is much to see.
    """)
    return


@app.cell
def _(jobs, lake):
    calibration = lake.prediction_curves(list(jobs.values()), "calibration", bins=10)
    calibration.plot()
    return (calibration,)


@app.cell
def _(mo):
    mo.md("""
    ## What do they get wrong?

    Choose a model and a digit. Shade is the share of the true class, so that rare classes count as much as
    frequent ones; the curve is of the digit against all others.
    """)
    return


@app.cell
def _(mo, models):
    chosen = mo.ui.dropdown(list(models), value="naive-bayes", label="model", allow_select_none=False)
    digit = mo.ui.slider(0, 9, value=8, label="digit", show_value=True)
    mo.hstack([chosen, digit], justify="start", gap=2)
    return chosen, digit


@app.cell
def _(chosen, jobs, lake):
    confusion = lake.prediction_metrics(jobs[chosen.value], metrics="confusion")
    confusion.plot(title=f"{chosen.value}: what was read as what")
    return (confusion,)


@app.cell
def _(digit, jobs, lake):
    from metrics_lake import charts

    _jobs = list(jobs.values())
    _points = lake.prediction_curves(_jobs, "pr", points=200).pl()
    _numbers = lake.prediction_metrics(_jobs, metrics="average_precision").pl()
    one_against_all = charts.precision_recall(
        _points.filter(label=str(digit.value)).to_arrow(),
        _numbers.filter(label=str(digit.value)).to_arrow(),
        title=f"The digit {digit.value} against all others",
        width=420,
    )
    one_against_all
    return (one_against_all,)


@app.cell
def _(mo):
    mo.md("""
    ## Fast enough?

    Every fold logged how long it took. SQL takes the mean over the folds' series; any two columns can be
    drawn against each other.
    """)
    return


@app.cell
def _(lake, runs):
    tradeoff = lake.sql(
        """
        SELECT resource, avg(value) FILTER (metric = 'fit_seconds') AS fit_seconds,
            avg(value) FILTER (metric = 'acc') AS accuracy
        FROM metrics SEMI JOIN runs USING (resource) GROUP BY resource
        """,
        frames={"runs": lake.resources(runs).arrow().select(["resource"])},
    )
    tradeoff.plot(x="fit_seconds", y="accuracy", color="resource", title="Accuracy against time to train")
    return (tradeoff,)


if __name__ == "__main__":
    app.run()

"""A marimo page of one slider and one chart, with no lake: what the dashboard's times are read beside."""

import marimo

app = marimo.App(width="full")


@app.cell
def _():
    import math

    import altair
    import marimo as mo

    slider = mo.ui.slider(0.0, 0.99, 0.01)
    mo.vstack([slider])
    return altair, math, slider


@app.cell
def _(altair, math, slider):
    _rows = [
        {"run": f"run-{run}", "x": x, "y": math.sin(x / 20 + run) * (1 - slider.value)}
        for run in range(10)
        for x in range(500)
    ]
    _data = altair.InlineData(values=_rows)
    altair.Chart(_data).mark_line().encode(x="x:Q", y="y:Q", color="run:N").properties(width="container")
    return


if __name__ == "__main__":
    app.run()

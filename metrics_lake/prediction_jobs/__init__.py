"""Prediction jobs on a lake: parts, late labels, and numbers from stored states.

What ``predictions`` computes is kept in three tables (``schema.py`` has their columns): ``predictions`` holds
the rows that wait for labels, ``ground_truth`` the labels, ``prediction_states`` the states. A call computes
everything before it writes anything, so that wrong input leaves nothing behind. It writes in this order:
rows or labels, states, points. Each is replaced by a repetition, so a call that was killed anywhere is
finished by the next one on the job.

Of what a job has stored counts, for each part, the newest call: greatest (timestamp, writer). A state's
timestamp is later than that of every row and label it was made of, so rows or labels that no state is later
than are those of a call that was killed. Whoever publishes rows or labels looks again before it makes the
state, so of calls that run at the same time the last one sees what all of them have published.
"""

from metrics_lake.prediction_jobs.aggregates import Aggregates, Span
from metrics_lake.prediction_jobs.jobs import PredictionJobs

__all__ = ["Aggregates", "PredictionJobs", "Span"]

"""Processes for tests, forked from one that has everything imported: 64 of them cost two seconds.

Run by path. Each line on stdin is a JSON command; each gets one line of JSON as an answer:

* ``{"do": "fork", "job": …, "arguments": {…}}``: fork a child that does a job of this file; ``{"pid": …}``
* ``{"do": "wait", "pid": …}``: wait until it ended; ``{"status": …}`` as of ``os.waitpid``

The children of one resource all log by the same plan: what call ``number`` of a thread logs follows from the
number alone (``points_of_call``), so a counter of acknowledged calls says exactly what must be in the lake.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import sys
import threading
from pathlib import Path


def points_of_call(thread, number):
    """Return what one call of the plan logs: (metric, step, value) each."""
    name = f"t{thread}"
    if number % 10 == 7:
        return [(f"{name}/{part}", number, float(number) + part) for part in range(3)]
    if number % 25 == 13:
        return [(f"{name}/series", number * 100 + i, i / 8) for i in range(20)]
    if number % 10 == 2:
        return [(f"{name}/text", number, f"π {number}")]
    return [(name, number, float(number))]


def make_call(lake, resource, thread, number):
    """Make one call of the plan."""
    points = points_of_call(thread, number)
    if number % 10 == 7:
        lake.log_metrics(resource, {metric: value for metric, _, value in points}, step=number)
    elif number % 25 == 13:
        lake.log_series(
            resource, points[0][0], [value for _, _, value in points], steps=[step for _, step, _ in points]
        )
    else:
        ((metric, step, value),) = points
        lake.log_metric(resource, metric, value, step=step)


class Acknowledged:
    """How many calls of each thread returned, in memory that outlives a SIGKILL."""

    def __init__(self, path, threads):
        self._path = Path(path)
        if not self._path.exists():
            self._path.write_bytes(bytes(8 * threads))
        with self._path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8 * threads)
        self._threads = threads

    def set(self, thread, calls):
        struct.pack_into("<q", self._memory, 8 * thread, calls)

    def counts(self):
        return list(struct.unpack_from(f"<{self._threads}q", self._memory))


def log_by_plan(*, url, options, handle, resource, threads, acknowledged, calls=None, end="close"):
    """Log from several threads; for ever, or a number of calls each.

    Args:
        url: The lake.
        options: Its ``storage_options``.
        handle: More arguments of ``MetricsLake``.
        resource: Whose points.
        threads: How many threads log.
        acknowledged: The file of ``Acknowledged``.
        calls: How many calls each thread makes; None: until the process is killed.
        end: ``close`` the handle, ``leave`` it to the interpreter's exit, or ``abandon`` it by ``os._exit``.
    """
    from metrics_lake import MetricsLake

    lake = MetricsLake(url, storage_options=options, **handle)
    done = Acknowledged(acknowledged, threads)

    def run(thread):
        number = 0
        while calls is None or number < calls:
            make_call(lake, resource, thread, number)
            number += 1
            done.set(thread, number)

    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(1, threads)]
    for worker in workers:
        worker.start()
    run(0)
    for worker in workers:
        worker.join()
    if end == "close":
        lake.close()
    elif end == "abandon":
        os._exit(0)


def log_offline(*, url, handle, report, points, per_call):
    """Log with the store down from the second point on; report the memory in use on the way."""
    import warnings

    from metrics_lake import MetricsLake

    warnings.simplefilter("ignore")
    lake = MetricsLake(url, **handle)
    lake.log_metric("r", "first", 1.0)
    lake.flush()
    Path(url, "inbox").rename(Path(url, "inbox-away"))
    Path(url, "inbox").touch()
    used = []
    for number in range(points // per_call):
        lake.log_metrics("r", {f"m{i}": float(number) for i in range(per_call)}, step=number)
        if number % (points // per_call // 10) == 0:
            used.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    Path(report).write_text(json.dumps({"used": used, "pending": lake.status().pending_points}))
    os._exit(0)


def end_somehow(*, url, handle, how, wait_for=None):
    """Log five points and end, in one of many ways, without a close."""
    from metrics_lake import MetricsLake

    lake = MetricsLake(url, **handle)

    def log(number):
        lake.log_metric("r", "m", number, step=number)

    for number in range(3):
        log(number)
    if how == "thread goes on":

        def later():
            threading.main_thread().join()
            log(3)
            log(4)

        threading.Thread(target=later).start()
        return
    if how == "pool goes on":
        import concurrent.futures

        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(lambda: (threading.Event().wait(0.2), log(3), log(4)))
        return
    if how == "atexit logs":
        import atexit

        log(3)
        atexit.register(log, 4)
        return
    log(3)
    log(4)
    if how == "sys.exit":
        sys.exit(3)
    if how == "exception":
        raise ZeroDivisionError("planted")
    if how == "SIGTERM":
        os.kill(os.getpid(), 15)
    if how == "os._exit":
        os._exit(0)
    if how == "abort":
        os.abort()
    if how == "child outlives":
        born, bear = os.pipe()
        if os.fork() == 0:
            os.write(bear, b"x")
            while not Path(wait_for).exists():
                threading.Event().wait(0.01)
            os._exit(0)
        os.read(born, 1)
        os._exit(0)


def fork_while_logging(*, url, handle, calls, forks):
    """Log from a thread and fork all the while; every second child logs too."""
    import warnings

    from metrics_lake import MetricsLake

    warnings.simplefilter("ignore", DeprecationWarning)
    lake = MetricsLake(url, **handle)

    def run():
        for number in range(calls):
            lake.log_metric("parent", "m", float(number), step=number)

    worker = threading.Thread(target=run)
    worker.start()
    children = []
    for child in range(forks):
        pid = os.fork()
        if pid == 0:
            if child % 2 == 0:
                for number in range(10):
                    lake.log_metric(f"child-{child}", "m", float(number), step=number)
                assert lake.get_metric(f"child-{child}", "m") == 9.0
            sys.exit(0)
        children.append(pid)
    worker.join()
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    lake.log_metric("parent", "m", float(calls), step=calls)


JOBS = {job.__name__: job for job in (log_by_plan, log_offline, end_somehow, fork_while_logging)}


def _import_everything():
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    import metrics_lake.commits.parquet
    import metrics_lake.reader  # noqa: F401 -- what it imports is wanted, in every child
    from metrics_lake import MetricsLake

    pa.array([1.0])  # imports pandas where it is installed
    MetricsLake("memory://warm").status()
    with contextlib.suppress(ImportError):
        import s3fs  # noqa: F401


def _child(command):
    # What a process's end does: the hooks of threading and atexit run at a real exit only.
    for fd in (0, 1):
        os.close(fd)
    os.open(os.devnull, os.O_RDWR)
    os.dup(0)
    JOBS[command["job"]](**command["arguments"])
    sys.exit(0)


def _say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main():
    _import_everything()
    _say({"ready": True})
    while line := sys.stdin.readline():
        command = json.loads(line)
        if command["do"] == "fork":
            pid = os.fork()
            if pid == 0:
                _child(command)
            answer = {"pid": pid}
        else:
            answer = {"status": os.waitpid(command["pid"], 0)[1]}
        _say(answer)


if __name__ == "__main__":
    main()

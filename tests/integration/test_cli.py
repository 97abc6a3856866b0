"""The command line as a user types it: the console script in pipes and on terminals."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("click")
pytest.importorskip("rich")

from metrics_lake import MetricsLake, glob

SCRIPT = Path(sys.executable).with_name("metrics-lake")
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake of three runs, partly compacted, that no test changes."""
    folder = tmp_path_factory.mktemp("filled") / "lake"
    state = tmp_path_factory.mktemp("filled-state")
    with MetricsLake(folder, state_dir=state) as lake:
        for at, rate in enumerate((0.1, 0.01, 0.001), start=1):
            run = f"digits/mlp-{at}"
            lake.log_params(run, {"lr": rate, "layers": [64] * at, "optimizer": "adam"})
            lake.log_series(run, "valid/acc", [0.5, 0.6 + at / 10, float("nan")])
            if at == 1:
                lake.maintenance.compact()
        lake.log_metric("digits/mlp-3", "note", 'said "hi",\n\x1b[31mred')
        for country in ("FR", "NO"):
            lake.log_metric("churn/1", "roc_auc", 0.75, tags={"country": country})
    return folder


@pytest.fixture
def lake_folder(filled, tmp_path):
    """A copy of that lake, to change."""
    folder = tmp_path / "lake"
    shutil.copytree(filled, folder)
    return folder


@pytest.fixture
def environment(tmp_path):
    """What the processes of a test see."""
    return {
        "METRICS_LAKE_STATE": str(tmp_path / "state"),
        "HOME": str(tmp_path),
        "PATH": f"{SCRIPT.parent}:{os.environ['PATH']}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "TERM": "xterm",
    }


@pytest.fixture
def run(tmp_path, environment):
    """Return a function that runs the script in an empty folder and returns how it went."""
    (tmp_path / "work").mkdir()

    def ran(*arguments, code=0, text=True, stdin="", **more):
        answer = subprocess.run(
            [SCRIPT, *map(str, arguments)],
            cwd=tmp_path / "work",
            env=environment | more,
            input=stdin if text else None,
            capture_output=True,
            text=text,
            encoding="utf-8" if text else None,
            timeout=120,
            check=False,
        )
        assert answer.returncode == code, answer.stderr
        return answer

    return ran


@pytest.fixture
def terminal(tmp_path, environment):
    """Return a function that runs the script on a terminal and returns its code and what it showed."""

    def ran(columns, *arguments, **more):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = subprocess.Popen(
            [SCRIPT, *map(str, arguments)],
            cwd=tmp_path,
            env=environment | more,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux's way to say that nobody is there any more
                break
            if not part:
                break
            shown += part
        os.close(ours)
        return process.wait(60), shown.decode()

    return ran


def plain(shown):
    """Return what a terminal showed without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r\n", "\n")


def rows(answer):
    return [json.loads(line) for line in answer.stdout.splitlines()]


# ---- one after the other, as one works ---------------------------------------------------------------------


def test_a_run_is_logged_read_copied_and_deleted(run, tmp_path):
    url = {"METRICS_LAKE_URL": str(tmp_path / "lake")}
    logged = run(
        *("log", "digits/1", "loss", "-0.25", "big", str(2**70), "note", "relu", "seven", "007"),
        *("--step", "3", "--tag", "fold=2", "--timestamp", "2026-11-22T08:30"),
        **url,
    )
    assert (logged.stdout, logged.stderr) == ("", "")
    run("log", "digits/1", "confusion", "[[50, 2], [1, 47]]", "--json", **url)
    with MetricsLake(tmp_path / "lake", read_only=True) as lake:
        assert lake.latest_metrics("digits/1") == {
            "loss": -0.25,
            "big": 2**70,
            "note": "relu",
            "seven": "007",
            "confusion": [[50, 2], [1, 47]],
        }
        (row,) = lake.history("digits/1", "loss").rows()
        assert (row["step"], row["tags"], row["timestamp"].isoformat()) == (
            3,
            {"fold": "2"},
            "2026-11-22T08:30:00+00:00",
        )
    assert run("get", "digits/1", "note", "--raw", **url).stdout == "relu\n"
    assert rows(run("get", "digits/1", "big", "note", **url)) == [
        {"resource": "digits/1", "metric": "big", "value": 2**70},
        {"resource": "digits/1", "metric": "note", "value": "relu"},
    ]
    assert rows(run("copy", "digits/1", "models/7", **url)) == [
        {"from": "digits/1", "to": "models/7", "points": 5}
    ]
    assert rows(run("copy", "digits/1", "models/7", **url))[0]["points"] == 0
    tried = run("delete", "digits/1", "--metric", "note", **url)
    assert (rows(tried)[0]["points"], rows(tried)[0]["dry_run"]) == (1, True)
    assert "--yes" in tried.stderr
    done = run("delete", "digits/1", "--metric", "note", "--yes", **url)
    assert (rows(done)[0]["points"], rows(done)[0]["dry_run"]) == (1, False)
    assert "no metric 'note'" in run("get", "digits/1", "note", code=3, **url).stderr


def test_maintenance(run, lake_folder):
    url = {"METRICS_LAKE_URL": str(lake_folder)}
    assert {row["kind"] for row in rows(run("files", **url))} == {"table", "inbox"}
    (compacted,) = rows(run("compact", **url))
    assert (compacted["table"], compacted["points"]) == ("metrics", 15)
    files = rows(run("files", "--table", "metrics", **url))
    assert {(file["kind"], file["is_ours"]) for file in files} == {("table", True)}
    assert sum(file["points"] for file in files) == 21
    said = run("verify", **url)
    assert said.stdout == ""
    assert "21 points" in said.stderr
    assert rows(run("vacuum", **url))[0]["dry_run"] is False
    tried = run("vacuum", "--retention", "0s", **url)
    assert rows(tried)[0]["dry_run"] is True
    assert "--yes" in tried.stderr
    tried = run("retention", "0s", **url)
    assert (rows(tried)[0]["points"], rows(tried)[0]["kept"]) == (6, 15)
    run("retention", "0s", "--keep", "none", "--yes", **url)
    assert "holds no points" in run("ls", **url).stderr


def test_findings_name_commands(run, lake_folder):
    (data,) = lake_folder.glob("metrics/month=*/*.parquet")
    data.with_name(f"{'0' * 32}.parquet").write_bytes(data.read_bytes())
    (orphan,) = rows(run("verify", "--url", lake_folder))
    assert orphan["code"] == "orphan"
    assert "`metrics-lake vacuum`" in orphan["hint"]


def test_damage_is_code_4_wherever_it_is_met(run, lake_folder):
    data = next(lake_folder.glob("metrics/month=*/*.parquet"))
    whole = bytearray(data.read_bytes())
    whole[200] ^= 1
    data.write_bytes(whole)
    found = run("verify", "--url", lake_folder, code=4)
    assert rows(found)[0]["severity"] == "error"
    assert rows(found)[0]["key"].endswith(data.name)
    data.unlink()
    assert data.name in run("history", "digits/mlp-1", "--url", lake_folder, code=4).stderr


def test_a_dead_process_is_published_by_recover(run, environment, tmp_path):
    code = (
        "import os, metrics_lake as m; lake = m.MetricsLake('lake', flush_seconds=1000);"
        "lake.log_metric('a', 'x', 1.0); lake.flush(); lake.log_metric('a', 'x', 2.0); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False)
    found = {row["check"]: row for row in rows(run("doctor", "--url", tmp_path / "lake"))}
    assert found["journals"]["status"] == "warn"
    assert "recover" in found["journals"]["hint"]
    assert rows(run("recover", "--url", tmp_path / "lake")) == [{"points": 1, "watermarks": 0}]
    assert run("get", "a", "x", "--url", tmp_path / "lake").stdout == "2.0\n"


# ---- formats -----------------------------------------------------------------------------------------------


def test_a_history_is_the_same_in_every_format(run, filled):
    asked = ("history", "digits/*", "valid/*", "--url", filled)
    lines = rows(run(*asked))
    assert len(lines) == 9
    assert list(lines[0]) == ["resource", "metric", "tags", "step", "timestamp", "value"]
    assert [line["value"] for line in lines[:3]] == [0.5, 0.7, {"$kind": ["float", "nan"]}]
    assert json.loads(run(*asked, "--format", "json").stdout) == lines
    table = list(csv.DictReader(io.StringIO(run(*asked, "--format", "csv", "--limit", "3").stdout)))
    assert [row["value"] for row in table] == ["0.5", "0.7", "nan"]
    assert [row["timestamp"] for row in table] == [line["timestamp"] for line in lines[:3]]
    data = run(*asked, "--format", "parquet", text=False).stdout
    with MetricsLake(filled, read_only=True) as lake:
        expected = lake.history(glob("digits/*"), glob("valid/*"), full=True).arrow()
    read = pq.read_table(pa.BufferReader(data))
    # NaN is not equal to itself: compare as text.
    assert str(read.to_pylist()) == str(expected.select(read.column_names).to_pylist())
    assert {"kind", "text"} <= set(read.column_names)


def test_an_export_holds_every_point_exactly(run, filled, tmp_path):
    said = run("export", "*", "-o", tmp_path / "all.parquet", "--url", filled)
    assert "21 points" in said.stderr
    assert said.stdout == ""
    whole = pq.read_table(tmp_path / "all.parquet")
    with MetricsLake(filled, read_only=True) as lake:
        assert sorted(whole.column("writer").to_pylist()) == sorted(
            lake.history(full=True).arrow().column("writer").to_pylist()
        )
        note = lake.get_metric("digits/mlp-3", "note")
    (line,) = rows(run("export", "digits/mlp-3", "note", "--url", filled))
    assert (line["value"], line["kind"], line["origin"]) == (note, "str", None)
    run("export", "digits/mlp-3", "-o", tmp_path / "three.csv", "--url", filled)
    with (tmp_path / "three.csv").open(newline="", encoding="utf-8") as file:
        found = {row["metric"]: (row["kind"], row["value"]) for row in csv.DictReader(file)}
    assert found["note"] == ("str", note)
    assert found["params/layers"] == ("json", "[64,64,64]")


def test_leaderboards_run_tables_and_sql(run, filled):
    found = rows(
        run("best", "valid/acc", "--mode", "max", "--resources", "digits/*", "--top", "2", "--url", filled)
    )
    assert [(row["rank"], row["resource"], row["value"]) for row in found] == [
        (1, "digits/mlp-3", 0.6 + 3 / 10),
        (2, "digits/mlp-2", 0.8),
    ]
    condition = '"params/lr" > 0.005'
    found = rows(run("best", "valid/acc", "--mode", "max", "--where", condition, "--url", filled))
    assert [row["resource"] for row in found] == ["digits/mlp-2", "digits/mlp-1"]
    found = rows(run("compare", "digits/*", "params/layers", "valid/*", "--stat", "last", "--url", filled))
    assert found[1]["params/layers"] == [64, 64]
    assert found[1]["valid/acc"] == {"$kind": ["float", "nan"]}
    query = "select count(*) as n, max(timestamp) as last from metrics where metric = $m"
    (row,) = rows(run("sql", "-", "--param", "m=valid/acc", "--url", filled, stdin=query))
    assert row["n"] == 9
    assert row["last"].endswith("Z")


# ---- a terminal --------------------------------------------------------------------------------------------


def test_a_run_table_warns_of_what_has_several_series(run, filled):
    answer = run("compare", "churn/*", "--url", filled)
    assert rows(answer) == [{"resource": "churn/1"}]
    assert answer.stderr.startswith(
        "metrics-lake: warning: Left out: 'roc_auc', of which a resource has several"
    )
    assert "Say which with --tag KEY=VALUE" in answer.stderr


def test_a_terminal_shows_tables_that_fit_it(terminal, filled):
    code, shown = terminal(80, "ls", "--url", filled)
    lines = plain(shown).splitlines()
    assert code == 0
    assert lines[0].split() == ["resource", "metrics", "points", "last_step", "last_timestamp"]
    assert [line.split()[0] for line in lines[1:]] == ["churn/1", *(f"digits/mlp-{at}" for at in (1, 2, 3))]
    _, shown = terminal(50, "history", "digits/*", "--full", "--url", filled)
    assert max(map(len, plain(shown).splitlines())) <= 50
    assert "\x1b[31mred" not in shown
    assert "\\x1b[31mred" in shown
    _, shown = terminal(80, "best", "valid/acc", "--mode", "max", "--url", filled)
    assert plain(shown).splitlines()[1].split()[:3] == ["1", "digits/mlp-3", "0.9"]
    _, shown = terminal(80, "get", "digits/mlp-3", "params/optimizer", "--url", filled)
    assert shown == "adam\r\n"


def test_a_terminal_is_spared_parquet_and_endless_tables(terminal, tmp_path):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "own") as lake:
        lake.log_series("a", "x", range(300))
    code, shown = terminal(80, "history", "a", "--format", "parquet", "--url", tmp_path / "lake")
    assert code == 2
    assert "redirect" in shown
    code, shown = terminal(80, "history", "a", "--url", tmp_path / "lake")
    assert code == 0
    assert len(shown.splitlines()) == 202
    assert "--limit 0" in shown


def test_doctor_on_a_terminal_says_what_to_do(terminal, tmp_path):
    code, shown = terminal(160, "doctor", "--url", tmp_path / "lake")
    assert code == 0
    assert "there is no lake yet" in shown
    assert "can be made" in shown
    assert max(map(len, plain(shown).splitlines())) <= 160
    assert not (tmp_path / "lake").exists()
    code, shown = terminal(80, "doctor", "--url", "nowhere://x/y")
    assert code == 1
    assert "fail" in shown


# ---- going wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_none(terminal, tmp_path, said):
    assert "\x1b[32m" in terminal(100, "doctor", "--url", tmp_path / "nowhere")[1]
    assert "\x1b" not in terminal(100, "doctor", "--url", tmp_path / "nowhere", **said)[1]


def test_errors_are_one_line_and_debug_shows_more(run):
    missing = run("ls", "--url", "typo", code=3)
    assert missing.stderr.count("\n") == 1
    assert missing.stderr.startswith("metrics-lake: there is no lake at ")
    assert "Traceback" in run("ls", "--url", "typo", "--debug", code=3).stderr
    assert run("ls", "--nope", code=2).stderr.count("\n") == 1
    usage = run(code=2)
    assert usage.stdout == ""
    assert "doctor" in usage.stderr


def test_head_and_ctrl_c_end_it_quietly(environment, tmp_path):
    with MetricsLake(tmp_path / "lake", state_dir=tmp_path / "own") as lake:
        lake.log_series("a", "x", range(20_000))
    command = f"{SCRIPT} history a --url {tmp_path / 'lake'}"
    answer = subprocess.run(
        ["/bin/bash", "-c", f"{command} | head -1"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (json.loads(answer.stdout)["value"], answer.stderr) == (0, "")
    process = subprocess.Popen(
        [SCRIPT, "sql", "-", "--url", tmp_path / "lake"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("select 1")
    process.stdin.flush()
    deadline = time.monotonic() + 60
    # Once it has taken the half query out of the pipe it waits for the other half.
    while struct.unpack("i", fcntl.ioctl(process.stdin, termios.FIONREAD, b"    "))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, "", "metrics-lake: stopped")


def test_output_that_cannot_be_written_is_told_and_output_nobody_wants_is_not(environment, filled):
    def went(command):
        answer = subprocess.run(
            ["/bin/bash", "-c", f"{SCRIPT} {command} --url {filled}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return answer.returncode, answer.stderr

    for command in ("ls", "get digits/mlp-1 valid/acc", "history 'digits/*' --format csv", "doctor"):
        code, said = went(f"{command} > /dev/full")
        assert (code, said.count("\n")) == (1, 1), command
        assert "No space left" in said
    assert went("ls >&-") == (0, "")
    assert went("compare 'digits/*' --format table >&-") == (0, "")


def test_every_command_is_run_by_the_script_in_some_test():
    from metrics_lake.cli.app import main_group

    folder = Path(__file__).parent
    tests = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    assert all(f'"{name}"' in tests for name in main_group.commands)


def test_the_module_is_light_and_says_what_to_install():
    code = (
        "import sys, metrics_lake.cli; assert not {'click', 'rich', 'pyarrow', 'duckdb'} & set(sys.modules); "
        "sys.modules['click'] = None; sys.exit(metrics_lake.cli.main(['ls']))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.endswith('pip install "metrics-lake[cli]"\n')


def test_the_package_runs_as_a_module():
    answer = subprocess.run(
        [sys.executable, "-m", "metrics_lake", "nonsense"], capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("metrics-lake: No such command 'nonsense'")


def test_a_shell_completes_commands_and_options(run):
    words = {"_METRICS_LAKE_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert run(COMP_WORDS="metrics-lake hi", **words).stdout == "plain,history\n"
    words["COMP_CWORD"] = "3"
    assert "--storage-option" in run(COMP_WORDS="metrics-lake ls x --st", **words).stdout
    assert "complete" in run(_METRICS_LAKE_COMPLETE="bash_source").stdout
    assert "_METRICS_LAKE_COMPLETE=bash_source" in run("--help").stdout


# ---- an object store ---------------------------------------------------------------------------------------


def test_a_bucket(run, s3_url, s3_options):
    options = json.dumps(s3_options)
    environment = {"METRICS_LAKE_URL": s3_url, "METRICS_LAKE_STORAGE_OPTIONS": options}
    run("log", "digits/1", "acc", "0.5", **environment)
    given = [f"{name}={s3_options[name]}" for name in ("key", "secret", "endpoint_url")]
    given.append("client_kwargs.region_name=us-east-1")
    arguments = [part for each in given for part in ("--storage-option", each)]
    assert run("get", "digits/1", "acc", "--url", s3_url, *arguments).stdout == "0.5\n"
    found = {row["check"]: row["status"] for row in rows(run("doctor", **environment))}
    assert set(found) >= {"driver", "list", "put", "get", "delete", "exclusive create", "clock", "state"}
    assert set(found.values()) == {"ok"}
    wrong = json.dumps({**s3_options, "secret": "wrong-secret"})
    answer = run("doctor", code=1, METRICS_LAKE_URL=s3_url, METRICS_LAKE_STORAGE_OPTIONS=wrong)
    assert "wrong-secret" not in answer.stdout
    (failed,) = [row for row in rows(answer) if row["status"] == "fail"]
    assert failed["check"] == "credentials"
    assert failed["hint"]


# ---- the README --------------------------------------------------------------------------------------------

CONSOLE = [
    line.removeprefix("$ ")
    for block in re.findall(r"^```console\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ metrics-lake ") and shlex.split(line)[2] not in {"demo", "ui", "report"}
]


def test_the_lines_of_the_readme_run(environment, filled, tmp_path):
    shutil.copytree(filled, tmp_path / "metrics-lake")
    for line in CONSOLE:
        answer = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=tmp_path,
            env=environment | {"METRICS_LAKE_URL": str(tmp_path / "metrics-lake")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (answer.returncode, answer.stderr if answer.returncode else "") == (0, ""), line

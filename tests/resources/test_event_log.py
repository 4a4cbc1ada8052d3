"""The event log with kept connections is Dagster's own log: same files, same answers, and live."""

import time
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

from etf_pipeline.resources.event_log import KeptSqliteEventLog

PARTITIONS = [f"{number:02d}" for number in range(12)]


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(PARTITIONS))
def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"partition": context.partition_key})


def open_databases(home: Path) -> set[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets = [link.readlink() for link in links]
    return {target.name for target in targets if target.parent == home / "history" / "runs" and target.suffix == ".db"}


def materialize(instance: dg.DagsterInstance, partition: str) -> str:
    result = dg.materialize([made], instance=instance, partition_key=partition)
    assert result.success
    return result.run_id


def test_dagster_reads_what_was_written_and_goes_on_with_it(home: Path) -> None:
    with dg.DagsterInstance.get() as ours:
        assert type(ours.event_log_storage) is KeptSqliteEventLog
        runs = [materialize(ours, partition) for partition in PARTITIONS[:2]]
        written = {run: ours.all_logs(run) for run in runs}
        assert min(map(len, written.values())) > 5
    assert open_databases(home) == set()
    plain = yaml_without_log(home)
    with dg.DagsterInstance.from_config(str(plain)) as dagsters:
        assert type(dagsters.event_log_storage) is SqliteEventLogStorage
        assert {run: dagsters.all_logs(run) for run in runs} == written
        assert dagsters.get_materialized_partitions(made.key) == set(PARTITIONS[:2])
        materialize(dagsters, PARTITIONS[2])
    with dg.DagsterInstance.get() as ours:
        assert ours.get_materialized_partitions(made.key) == set(PARTITIONS[:3])


def yaml_without_log(home: Path) -> Path:
    """The same home for Dagster's own log."""
    (home / "dagster.yaml").rename(home / "kept.yaml")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return home


def test_few_files_stay_open_however_many_runs_there_are(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        runs = [materialize(instance, partition) for partition in PARTITIONS]
        assert len(set(runs)) == len(PARTITIONS)
        assert 0 < len(open_databases(home)) <= 8
        # those that were closed are opened again
        assert all(instance.all_logs(run) for run in runs)
        assert len(open_databases(home)) <= 8
    assert open_databases(home) == set()


def test_a_log_that_was_removed_is_begun_anew(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        run = materialize(instance, PARTITIONS[0])
        for file in (home / "history" / "runs").glob(f"{run}.db*"):
            file.unlink()
        assert instance.all_logs(run) == []
        instance.wipe()
        assert instance.get_materialized_partitions(made.key) == set()
        materialize(instance, PARTITIONS[1])
        assert instance.get_materialized_partitions(made.key) == {PARTITIONS[1]}


def test_a_run_can_be_followed_while_it_goes_on(home: Path) -> None:
    seen: list[str] = []
    with dg.DagsterInstance.get() as writer, dg.DagsterInstance.get() as reader:
        run = materialize(writer, PARTITIONS[0])
        first = len(reader.all_logs(run))
        reader.watch_event_logs(run, None, lambda entry, cursor: seen.append(entry.message))
        for number in range(3):
            # no connection of the writer is closed in between
            writer.report_engine_event(f"word {number}", run_id=run, job_name="made")
            deadline = time.monotonic() + 20
            while f"word {number}" not in seen and time.monotonic() < deadline:
                time.sleep(0.02)
            assert f"word {number}" in seen
        assert len(seen) == first + 3
        # reading is no news, else who follows would never rest
        known = len(seen)
        before = (home / "history" / "runs" / f"{run}.db").stat().st_mtime_ns
        reader.all_logs(run)
        assert (home / "history" / "runs" / f"{run}.db").stat().st_mtime_ns == before
        assert len(seen) == known

"""Dagster's event log in SQLite with its connections kept open.

Dagster opens the database anew for each of the hundreds of rows a run writes, and for the ten thousands of a backfill
by partitions. Kept connections write the same rows to the same files in a third of the time. Nor do they wait for the
disk at every row: what a killed process wrote is there all the same, and what is lost when the power fails are the last
lines of a log. `dagster.yaml` names this class; without that block Dagster reads and writes what is there in its own
way.
"""

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import AssetMaterialization, DagsterEvent, DagsterEventType, EventLogEntry, StringSource
from dagster._core.events import StepMaterializationData
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool

_KEPT = 8
"""The index and the runs used last: a web server comes past the files of every run there ever was."""


class KeptSqliteEventLog(SqliteEventLogStorage):
    """The event log under `<home>/history/runs`, a file for each run and one for what concerns all."""

    def __init__(self, home: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        super().__init__(str(Path(home) / "history" / "runs"), inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """`home`: the Dagster home."""
        return {"home": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "KeptSqliteEventLog":
        """What `dagster.yaml` asks for."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).connect() as connection:
            file: Any = connection.connection.driver_connection
            before = file.total_changes
            with connection.begin():
                yield connection
            if file.total_changes != before:
                # who follows a run in the UI watches the file itself, and what is new lies in another one beside it
                os.utime(self.path_for_shard(shard))

    def store_partitions(self, made: AssetMaterialization, partitions: Sequence[str], run_id: str, job: str) -> None:
        """Record what a run materialised as so many partitions, the last of which keeps its metadata.

        Dagster's own way, event by event, takes most of a minute for ten years of sessions in ten datasets.
        """
        events = [AssetMaterialization(made.asset_key, partition=key) for key in partitions[:-1]]
        events += [AssetMaterialization(made.asset_key, partition=partitions[-1], metadata=made.metadata)]
        with self.index_connection() as connection:
            rows = [self._event_to_row(_entry(event, run_id, job)) for event in events]
            connection.execute(SqlEventLogStorageTable.insert(), rows)

    def _engine(self, shard: str) -> Engine:
        if not Path(self.path_for_shard(shard)).exists():
            # not there yet, or removed with its run
            self._initialized_dbs.discard(shard)
            if shard in self._engines:
                self._engines.pop(shard).dispose()
        if shard not in self._engines:
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=QueuePool,
                pool_size=1,
                # threads take turns by the lock
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            event.listen(engine, "connect", _do_not_wait_for_the_disk)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
        self._engines.move_to_end(shard)
        if len(self._engines) > _KEPT:
            self._engines.popitem(last=False)[1].dispose()
        return self._engines[shard]

    def dispose(self) -> None:
        """Close every connection."""
        super().dispose()
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()


def _entry(made: AssetMaterialization, run_id: str, job: str) -> EventLogEntry:
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
        event_specific_data=StepMaterializationData(made),
        job_name=job,
    )
    return EventLogEntry(
        error_info=None,
        level=logging.DEBUG,
        user_message="",
        run_id=run_id,
        timestamp=time.time(),
        job_name=job,
        dagster_event=event,
    )


def _do_not_wait_for_the_disk(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")

"""The search index over city names, a virtual table of SQLite's FTS5."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    """Creates a contentless index: it finds row ids, the names stay in the city table."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("places", "0001_tables")]

    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(
            "CREATE VIRTUAL TABLE places_citysearch USING fts5("
            "names, content='', tokenize=\"unicode61 remove_diacritics 2\")",
            "DROP TABLE places_citysearch",
        )
    ]

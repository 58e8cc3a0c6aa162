"""The state database: tables, transactions, migrations. SQLAlchemy Core only, SQLite in WAL mode."""

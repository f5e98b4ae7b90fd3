"""The revisions of the schema, and what brings a database from one to another.

A revision is called `chatcore_NNNN`. Its script changes tables by `chatcore_sql.migrations.operations`, which knows
their prefix.
"""

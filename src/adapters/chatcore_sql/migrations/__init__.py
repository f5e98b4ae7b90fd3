"""The revisions of the schema, and what brings a database from one to another."""

"""A message board over real PostgreSQL replication, and what each router makes of it."""

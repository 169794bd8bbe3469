"""The session engine: the cache first, the database behind."""

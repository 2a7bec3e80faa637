"""One reader per file layout; each returns a Recording."""

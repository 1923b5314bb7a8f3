"""Results as a document: tables, charts, what is wrong, where they are from."""

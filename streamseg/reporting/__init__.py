"""Human-readable text, tables and charts."""

"""Reports of benchmark results, with tables and charts."""

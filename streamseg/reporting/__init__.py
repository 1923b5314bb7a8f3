"""Text, tables and charts for people."""

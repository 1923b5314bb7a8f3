"""Values that every stage passes on, and small tools; imports nothing else of the package."""

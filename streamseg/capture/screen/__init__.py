"""Finds the ultrasound image in the scanner's screen."""

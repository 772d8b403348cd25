"""Measurements of speed and memory that users can repeat with a job."""

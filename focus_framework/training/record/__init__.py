"""What a run records: its folder, logs, trackers, state to resume from, and the report at its end."""

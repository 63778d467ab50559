"""Predictions against the truth: what is measured (`samples`), the numbers (`scoring`), and how they are shown (`tables`, `report`)."""

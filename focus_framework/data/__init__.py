"""Pairs of pictures and masks: found, checked, augmented, and made for practice."""

"""Pairs of images and masks: found, checked, augmented, and made for practice."""

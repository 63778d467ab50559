"""The settings of a run: their schema, the layers that set them, presets and the choice of prompts."""

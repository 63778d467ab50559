"""Built-in plugins: they use the public names of focus_framework and libraries, never one another's inside."""

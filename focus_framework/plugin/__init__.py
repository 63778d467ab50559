"""What a plugin describes, the hooks that yield it, and how plugins are found."""

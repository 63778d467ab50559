"""A page and an HTTP service in front of models that are loaded once: what ``focus serve`` runs. Needs the extra ``serve``."""
